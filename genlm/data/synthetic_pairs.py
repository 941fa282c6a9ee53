"""SYNTHETIC PAIRS: a right answer beside one to another question, of the installation.

Before: synthetic conversations. After: preferences, `data.paths =
"embedded:preferences"`. Questions that are held out as a tenth of all conversations are
none of these, so that they can still be an exam.
"""

from typing import Iterator

from genlm.data import embedded, synthetic
from genlm.data.preference_forms import Judged

EMBEDDED = "embedded:preferences"
LICENCE = embedded.LICENCE
HELD_OUT = 0.1


def read(seed: int = 0) -> Iterator[Judged]:
    """Pairs in a fixed, mixed order: the right answer to a question, and the next one
    that differs among those to questions of its kind."""
    asked = [
        each
        for each in synthetic.read(seed)
        if not synthetic.is_held_out(each, HELD_OUT)
    ]
    last: dict[str, str] = {}  # the answer before, of each kind
    for number, each in enumerate(asked, 1):
        *messages, answer = each["messages"]
        right = answer["content"]
        wrong = last.get(each["kind"], right)
        last[each["kind"]] = right
        if wrong != right:
            answers = (right, wrong)
            yield Judged(messages, answers, (1, 2), file=EMBEDDED, line=number)
