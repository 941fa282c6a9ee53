"""A REWARD MODEL OPENED: conversations that end with an answer -> scores, from a run's
directory alone.

Before: stages.reward. After: rewards of a policy, best of n.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple, Sequence

import jax
import numpy as np

from genlm.data import chat
from genlm.data.chat import Message
from genlm.errors import UserError
from genlm.interop import run as interop
from genlm.interop.classifier import by_length, padded
from genlm.model import heads
from genlm.model.config import TransformerConfig
from genlm.model.heads import HeadConfig
from genlm.tokenizer.base import Tokenizer


class RewardModel(NamedTuple):
    """A trained model with its head."""

    params: Any  # {"model", "head"}
    config: TransformerConfig
    tokenizer: Tokenizer
    head: HeadConfig

    def scores(self, conversations: Sequence[Sequence[Message]]) -> np.ndarray:
        """[conversations] float32: each read at the STOP of its last answer.

        Raises:
          UserError: one is longer than the model reads back.
        """
        documents = [self._ids(each) for each in conversations]
        found = np.empty(len(documents), np.float32)
        for T, numbers in by_length([len(ids) for ids in documents]):
            batch = padded([documents[n] for n in numbers], T)
            outputs_BTC = np.asarray(
                _outputs(self.params, batch, self.config, self.head)
            )
            for row, number in enumerate(numbers):
                found[number] = outputs_BTC[row, len(documents[number]) - 1, 0]
        return found

    def _ids(self, messages: Sequence[Message]) -> np.ndarray:
        ids = np.asarray(chat.encode_chat(self.tokenizer, messages, False), np.int32)
        stops = np.flatnonzero(np.isin(ids, self.tokenizer.special.all_stops))
        ids = ids[: stops[-1] + 1] if len(stops) else ids
        if len(ids) > self.config.max_length:
            raise UserError(
                f"an answer and its prompt have {len(ids)} tokens, and the reward model"
                f" reads {self.config.max_length}"
            )
        return ids


def open_model(path: Path, which: str = "last") -> RewardModel:
    """The reward model of a run directory; `which` as of `interop.run.open_run`.

    Raises:
      UserError: it is none, or is damaged.
    """
    opened, head, of_head = interop.open_head(path, which)
    if head.labels != ("reward",):
        raise UserError(f"{path} is no reward model: its head says {head.labels}")
    params = {"model": opened.params, "head": of_head}
    return RewardModel(params, opened.config.without_chance, opened.tokenizer, head)


@functools.partial(jax.jit, static_argnames=("config", "head"))
def _outputs(params: Any, batch: Any, config: TransformerConfig, head: HeadConfig):
    return heads.outputs(params, batch, config, head)
