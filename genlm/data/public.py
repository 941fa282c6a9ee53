"""PUBLIC SETS: small texts with a name, each pinned to a commit and to its hash.

`data.paths=public:NAME` downloads one. A row needs a licence that lets anybody train on
the text, and a URL that gives the source's own bytes, unpacked.
"""

import dataclasses
import difflib

from genlm.data.download import Remote
from genlm.errors import UserError

PREFIX = "public:"
_RAW = "https://raw.githubusercontent.com"


@dataclasses.dataclass(frozen=True)
class PublicSet(Remote):
    """A text that everybody may have: what it is, its licence and its size."""

    about: str
    licence: str
    num_bytes: int


SETS = {
    "tinyshakespeare": PublicSet(
        url=f"{_RAW}/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
        "/data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        about="40,000 lines of Shakespeare's plays, one text",
        licence="public domain (Shakespeare)",
        num_bytes=1_115_394,
    ),
    "names": PublicSet(
        url=f"{_RAW}/karpathy/makemore/988aa59e4d8fefa526d06f3b453ad116258398d4"
        "/names.txt",
        sha256="0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        about="32,033 first names given in the US in 2018, one a line",
        licence="MIT (makemore; from public data of the US government)",
        num_bytes=228_145,
    ),
    "wikitext2_valid": PublicSet(
        url=f"{_RAW}/pytorch/examples/37ce9402ff0cae48d764d7788810fd2ed8238b25"
        "/word_language_model/data/wikitext-2/valid.txt",
        sha256="f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        about="articles of Wikipedia as words apart, rare ones as <unk>",
        licence="CC BY-SA 3.0 (Wikipedia)",
        num_bytes=1_121_681,
    ),
}


def find(name: str) -> PublicSet:
    """The set of that name.

    Raises:
      UserError: there is none (names the nearest, and all).
    """
    if name not in SETS:
        near = difflib.get_close_matches(name, SETS, n=1, cutoff=0.5)
        hint = f"did you mean {PREFIX}{near[0]}? " if near else ""
        raise UserError(
            f"data.paths: no public set {name!r}; {hint}There are: {', '.join(SETS)}"
        )
    return SETS[name]
