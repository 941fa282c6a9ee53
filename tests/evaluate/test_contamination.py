"""Which rows stand in a training text: a text of our own, and rows cut out of it."""

from pathlib import Path
from pydoc_data.topics import topics
import re

from genlm.data.shards import Writer
from genlm.evaluate import contamination
from genlm.evaluate.contamination import Trained
from genlm.runs import directory, lineage
from genlm.tokenizer.byte import ByteTokenizer

TEXT = " ".join(topics[name] for name in sorted(topics))[:200_000]
WORDS = re.findall(r"\w+", TEXT)


def prepared(folder: Path, *documents: str) -> Path:
    """A finished prepare run of these documents, as bytes."""
    tokenizer = ByteTokenizer()
    (folder / "tokens" / "tokenizer").mkdir(parents=True)
    tokenizer.save(folder / "tokens" / "tokenizer")
    with Writer(folder / "tokens" / "train", tokenizer.vocab_size) as writer:
        for text in documents:
            writer.begin(tokenizer.special.bos)
            writer.append(tokenizer.encode(text.encode()), len(text))
            writer.end(tokenizer.special.stop)
        writer.close()
    directory.write_json(folder / "tokens" / "summary.json", {})
    lineage.write(folder, {}, {"tokens": "made here"})
    return folder


def trained(run: Path, *inputs: Path) -> Path:
    """A run that lineage says was made from these."""
    run.mkdir()
    hashes = {
        str(path): {"sha256": lineage.digest(lineage.read(path).get("outputs"))}
        for path in inputs
    }
    lineage.write(run, hashes, {"model": str(run.name)})
    return run


def test_thirteen_words_in_a_row_are_seen_and_twelve_are_not(tmp_path: Path):
    data = prepared(tmp_path / "data", TEXT)
    some = WORDS[5000:5020]
    other = "zebra"
    texts = [
        " ".join(["Which", *some[:13], "is", "it", "?"]),
        " ".join([other, *some[:12], other, *some[12:], other]),
        " ".join(some[:6]).upper() + "!",  # short, and there whole
        " ".join([*some[:6], other]),  # short, and not
        "of the",
        WORDS[-1] + " " + " ".join(WORDS[:3]),  # over the end
    ]
    seen = contamination.check(texts, Trained((data,), True))
    assert seen is not None
    assert seen.seen.tolist() == [True, False, True, False, False, False]
    assert seen.of(slice(0, 5)) == {
        "share": 0.5,
        "seen": 2,
        "rows": 4,
        "too_short": 1,
        "is_whole": True,
    }


def test_no_words_are_lost_between_parts(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(contamination, "_PART", 2000)
    data = prepared(tmp_path / "data", TEXT[:50_000])
    texts = [" ".join(WORDS[i : i + 13]) for i in range(0, 5000, 7)]
    seen = contamination.check(texts, Trained((data,), True))
    assert seen is not None and seen.seen.all()


def test_documents_do_not_run_into_each_other(tmp_path: Path):
    data = prepared(tmp_path / "data", "one two three", "four five six")
    seen = contamination.check(["two three four five"], Trained((data,), True))
    assert seen is not None and not seen.seen.any()


def test_lineages_lead_to_the_data(tmp_path: Path):
    first = prepared(tmp_path / "first", "a text")
    second = prepared(tmp_path / "second", "another")
    base = trained(tmp_path / "base", first)
    tuned = trained(tmp_path / "tuned", base, second)
    assert contamination.trained_on(tuned) == Trained((first, second), True)
    imported = trained(tmp_path / "imported")
    assert contamination.trained_on(imported) == Trained((), False)
    assert contamination.check(["a text"], Trained((), False)) is None
    mixed = trained(tmp_path / "mixed", imported, second)
    assert contamination.trained_on(mixed) == Trained((second,), False)
    lineage.write(second, {}, {"tokens": "made anew"})
    assert contamination.trained_on(mixed) == Trained((), False)
