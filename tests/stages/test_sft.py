"""Fine-tuning on conversations: what is trained on, and what comes out."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import base, life
from genlm import stages
from genlm.data import batches
from genlm.data.chat import encode_training
from genlm.errors import UserError
from genlm.interop.run import open_run, read_params
from genlm.runs import lineage, metrics
from genlm.stages.prepare import Prepared
from genlm.tokenizer.controls import END
from tests.stages import made


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sft")


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    return made.pretrained(folder)


@pytest.fixture(scope="module")
def questions(folder: Path) -> Path:
    return made.questions(folder / "questions.jsonl")


@pytest.fixture(scope="module")
def tuned(folder: Path, source: Path, questions: Path) -> Path:
    """All parameters, two steps."""
    stages.run(made.sft(source, questions), folder / "tuned")
    return folder / "tuned"


@pytest.fixture(scope="module")
def changed(folder: Path, tuned: Path, questions: Path) -> Path:
    """A low-rank change of the same, two steps."""
    recipe = made.sft(tuned, questions, lora__rank=2, data__template="model")
    stages.run(recipe, folder / "changed")
    return folder / "changed"


def test_it_is_measured_on_the_text_of_its_base(source: Path, tuned: Path, tmp_path):
    """Tokens of a chat come after those of the text, which are the same."""
    recipe = life.get_config("smoke").exam
    recipe.update({"source": str(tuned)})
    recipe.data.prepared = str(source / "data")
    recipe.tasks.names = ()
    stages.run(recipe, tmp_path / "scores")
    results = json.loads((tmp_path / "scores" / "results.json").read_text())
    assert list(results["bits_per_byte"]) == ["this model, step 2"]  # no baselines


def test_of_few_conversations_one_is_held_out(tmp_path: Path, source: Path):
    """Where the fraction would hold out none, the nearest to it is."""
    data = made.questions(tmp_path / "few.jsonl", count=4)
    recipe = made.sft(source, data, data__valid_fraction=1e-9)
    stages.run(recipe, tmp_path / "run")
    summary = Prepared(tmp_path / "run" / "data").summary
    counts = [summary[split]["documents"] for split in ("train", "valid")]
    assert counts == [3, 1]


def test_rows_hold_the_conversations_and_their_weights(tuned: Path, questions: Path):
    prepared = Prepared(tuned / "data")
    tokenizer = prepared.tokenizer
    expected = [
        encode_training(tokenizer, json.loads(line)["messages"])
        for line in questions.read_text("utf-8").splitlines()
    ]
    expected = [(i, t) for i, t in expected if len(i) <= made.ROW + 1]
    found = []
    for split in ("train", "valid"):
        tokens, rows = prepared.split(split)
        batch = batches.gather(tokens, rows, np.arange(len(rows)), pad=256)
        learnt = batch["weights"].sum()
        assert learnt == tokens.trained == tokens.index["trained"] > 0
        for row in range(len(rows)):
            for segment in range(1, batch["segments"][row].max() + 1):
                own = batch["segments"][row] == segment
                found.append(
                    (batch["targets"][row][own], batch["weights"][row][own] > 0)
                )
    pairs = {(tuple(i[1:]), tuple(t[1:])) for i, t in expected}
    ends = tokenizer.controls[END]
    for targets, weights in found:
        # what follows a document in its row is no target of it
        whole = [p for p in pairs if p[0] == tuple(targets[: len(p[0])])]
        assert len(whole) == 1
        (ids, trained), n = whole[0], len(whole[0][0])
        assert tuple(weights[:n]) == trained and not weights[n:].any()
        assert ids[np.flatnonzero(trained)[-1]] == ends
    assert len(found) == len(pairs)


def test_no_question_is_on_both_sides(tuned: Path):
    prepared = Prepared(tuned / "data")
    asked = []
    for split in ("train", "valid"):
        tokens, _ = prepared.split(split)
        texts = [
            prepared.tokenizer.decode(tokens.shards[s][a : a + n])
            for s, a, n in tokens.documents
        ]
        asked.append({t.partition(b"assistant\n")[0] for t in texts})
    assert asked[0] and asked[1] and not asked[0] & asked[1]


def test_the_run_says_what_it_trained_on_and_opens_as_a_model(tuned: Path):
    rows = metrics.read(tuned / "metrics.jsonl")
    shares = [row["trained_share"] for row in rows if "trained_share" in row]
    assert shares and 0 < min(shares) and max(shares) < 0.5
    opened = open_run(tuned)
    assert opened.config.vocab_size == opened.tokenizer.vocab_size == 261
    assert opened.params["embedding"].shape[0] == 261
    assert lineage.faults(tuned) == []


def test_a_change_leaves_its_base_as_it_is_and_moves_the_model(tuned, changed):
    base, opened = open_run(tuned), open_run(changed)
    assert np.array_equal(base.params["embedding"], opened.params["embedding"])
    q = [each.params["layers"]["attention"]["q"] for each in (base, opened)]
    assert not np.array_equal(*q)
    change = read_params(changed)["layers"]["attention"]["q"]
    product = np.einsum("LIr,LrO->LIO", change["a"], change["b"]) * 16.0 / 2
    assert np.allclose(q[1], q[0] + product.reshape(q[0].shape), atol=1e-6)
    assert lineage.faults(changed) == []


@pytest.mark.slow
@pytest.mark.parametrize("bits", [0, 8, 4])
def test_a_change_begins_at_its_base(folder, tuned, questions, bits: int):
    """Held-out loss before any update that counts: a learning rate of nearly 0."""
    recipe = made.sft(
        tuned,
        questions,
        data__template="model",
        lora__rank=2,
        lora__bits=bits,
        optimizer__learning_rate=1e-12,
    )
    stages.run(recipe, folder / f"still{bits}")
    whole = made.sft(
        tuned, questions, data__template="model", optimizer__learning_rate=1e-12
    )
    stages.run(whole, folder / "still")
    losses = [
        metrics.read(folder / name / "metrics.jsonl")[-1]["valid_loss"]
        for name in (f"still{bits}", "still")
    ]
    assert np.isclose(*losses, rtol={0: 1e-5, 8: 1e-3, 4: 2e-2}[bits])


@pytest.mark.slow
def test_accumulation_changes_nothing(folder: Path, tuned: Path, questions: Path):
    ends = []
    for parts in (1, 4):
        recipe = made.sft(
            tuned,
            questions,
            data__template="model",
            train__num_microbatches=parts,
            train__num_steps=4,
            train__batch_size=32,
        )
        stages.run(recipe, folder / f"parts{parts}")
        ends.append(metrics.read(folder / f"parts{parts}" / "metrics.jsonl"))
    losses = [[row["loss"] for row in rows if "loss" in row] for rows in ends]
    assert np.allclose(*losses, rtol=1e-5)


def test_a_long_conversation_ends_at_an_answer(folder, source, capsys):
    turns = [
        {"role": role, "content": f"{role} {n} " + "and so on " * 4}
        for n in range(4)
        for role in ("user", "assistant")
    ]
    rows = [turns, [{**turns[0], "content": "long " * 60}, turns[1]], turns[2:4]]
    file = folder / "long.jsonl"
    file.write_text("\n".join(json.dumps({"messages": each}) for each in rows))
    recipe = made.sft(source, file, data__valid_fraction=0.4)
    stages.run(recipe, folder / "long")
    said = capsys.readouterr().out
    assert "1 conversations end at the last answer that fits into 160 tokens" in said
    assert "1 are left out: their first answer does not end within 160" in said
    summary = Prepared(folder / "long" / "data").summary
    assert (summary["shortened"], summary["too_long"]) == (1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_exports_on_the_way_are_whole_models(folder, tuned, questions, rank: int):
    """Also of a change, which is merged into what it changes."""
    recipe = made.sft(
        tuned,
        questions,
        data__template="model",
        lora__rank=rank,
        checkpoint__export_every=2,
    )
    run = folder / f"exported{rank}"
    stages.run(recipe, run)
    out = run / "exports" / "2"
    imported = {"stage": "import_model", "seed": 0, "path": str(out), "base": ""}
    stages.run(base.ConfigDict(imported), folder / f"imported{rank}")
    theirs, ours = (open_run(each).params for each in (folder / f"imported{rank}", run))
    for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rank, source_has_chat", [(0, False), (2, True)])
def test_a_split_model_learns_the_same(
    folder, source, tuned, questions, rank: int, source_has_chat: bool
):
    """Parameters, and new tokens, over a mesh of fsdp and data."""
    ends = []
    for name, fsdp in (("whole", 1), ("split", 2)):
        recipe = made.sft(tuned if source_has_chat else source, questions)
        recipe.data.template = "model" if source_has_chat else "chatml"
        recipe.lora.rank = rank
        recipe.parallel.update({"data": 8 // fsdp, "fsdp": fsdp})
        stages.run(recipe, folder / f"{name}{rank}")
        ends.append(metrics.read(folder / f"{name}{rank}" / "metrics.jsonl")[-1])
    assert np.isclose(ends[0]["valid_loss"], ends[1]["valid_loss"], rtol=1e-5)


MISTAKES = {
    "no template": ({"data__template": "model"}, "take --config.data.template=chatml"),
    "new tokens": ({"lora__rank": 2}, "no tokens of a chat.*lora.rank=0"),
    "long rows": ({"data__row_length": 1000}, "looks back 160 tokens"),
    "a form": ({"data__form": "mesages"}, "form 'mesages' is none"),
    "bits": ({"lora__bits": 8}, "give lora.rank too"),
    "bits of none": ({"lora__bits": 3, "lora__rank": 2}, "lora.bits 3 is none of"),
    "a template": ({"data__template": "llama"}, "data.template 'llama' is none"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_said(name: str, tmp_path: Path, source: Path, questions: Path):
    changes, words = MISTAKES[name]
    with pytest.raises(UserError, match=words):
        stages.run(made.sft(source, questions, **changes), tmp_path / "run")


def test_targets_that_match_nothing_are_said(tmp_path, tuned, questions):
    recipe = made.sft(tuned, questions, lora__rank=2, data__template="model")
    recipe.lora.targets = ("layers/attention/z",)
    with pytest.raises(UserError, match="'layers/attention/z' matches none of"):
        stages.run(recipe, tmp_path / "run")


@pytest.mark.slow
def test_a_change_of_another_base_is_refused(folder, source, tuned, questions):
    """The run that was changed is trained on for longer."""
    once = made.sft(source, questions)
    stages.run(once, folder / "goes_on")
    recipe = made.sft(folder / "goes_on", questions, lora__rank=2)
    recipe.data.template = "model"
    stages.run(recipe, folder / "of_it")
    with once.unlocked():
        once.train.num_steps = 3
    stages.run(once, folder / "goes_on")
    with pytest.raises(UserError, match="is not as it was"):
        open_run(folder / "of_it")
    (folder / "goes_on").rename(folder / "elsewhere")
    with pytest.raises(UserError, match="which is not there"):
        open_run(folder / "of_it")


def test_nothing_to_train_on_is_an_error(tmp_path: Path, source: Path):
    file = tmp_path / "asked.jsonl"
    file.write_text(
        json.dumps({"messages": [{"role": "user", "content": "Well?"}]}) + "\n"
    )
    with pytest.raises(UserError, match="no conversation in it"):
        stages.run(made.sft(source, file), tmp_path / "run")


@pytest.mark.slow
def test_the_step_is_compiled_once(folder: Path, tuned: Path, questions, monkeypatch):
    from genlm.stages import training

    made_parts, make = [], training.make_parts

    def remembered(*arguments, **named):
        made_parts.append(make(*arguments, **named))
        return made_parts[-1]

    monkeypatch.setattr(training, "make_parts", remembered)
    recipe = made.sft(tuned, questions, lora__rank=2, data__template="model")
    recipe.train.num_steps = 5
    recipe.lora.dropout = 0.1
    stages.run(recipe, folder / "once")
    assert [parts.train_step._cache_size() for parts in made_parts] == [1]
    leaves = jax.tree.leaves(read_params(folder / "once"))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
