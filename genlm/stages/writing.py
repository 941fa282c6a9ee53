"""WRITING: what a model writes after prompts, as text.

Before: prompts, or what a user says in a chat. After: the verb generate, the stage
answer, and the samples of a training.
"""

from typing import Any, Callable, Sequence

from genlm.data.chat import encode_chat
from genlm.inference import decode
from genlm.inference.decode import Answer
from genlm.inference.sampling import SamplingConfig
from genlm.model.config import TransformerConfig
from genlm.tokenizer.base import Tokenizer, answer_text, prompt_ids

Writer = Callable[[Any], list[tuple[str, Answer]]]


def encode(
    tokenizer: Tokenizer, prompts: Sequence[str], chat: bool, system: str = ""
) -> list[list[int]]:
    """The ids that a model reads before it answers each prompt.

    Args:
      chat: prompts are what a user says, put into the model's template.
      system: what a chat model is told first; empty: nothing.

    Raises:
      UserError: the model has no template, or the template refuses the turns.
    """
    if not chat:
        return [prompt_ids(tokenizer, prompt) for prompt in prompts]
    told = [{"role": "system", "content": system}] if system else []
    turns = [[*told, {"role": "user", "content": prompt}] for prompt in prompts]
    return [encode_chat(tokenizer, turn) for turn in turns]


def make_writer(
    config: TransformerConfig,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    sampling: SamplingConfig,
    seed: int,
    places: Sequence[int] | None = None,
) -> Writer:
    """A function of params: the text and the ids of the answer to each prompt.

    Args:
      places: as of `decode.generate`.

    Raises:
      UserError: the model cannot answer them, or there is no room for it.
    """
    decode.check(config, prompts, max_tokens)
    decode.require_memory(config, prompts, max_tokens)

    def write(params: Any) -> list[tuple[str, Answer]]:
        answers = decode.generate(
            params,
            config,
            prompts,
            max_tokens=max_tokens,
            stop_ids=tokenizer.special.all_stops,
            pad=tokenizer.special.pad,
            sampling=sampling,
            seed=seed,
            places=places,
        )
        texts = [answer_text(tokenizer, p, a.tokens) for p, a in zip(prompts, answers)]
        return list(zip(texts, answers))

    return write
