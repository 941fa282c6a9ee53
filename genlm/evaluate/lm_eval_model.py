"""LM-EVAL: a model of ours behind the interface of EleutherAI's harness, so that its
own task files run on it (https://github.com/EleutherAI/lm-evaluation-harness).

Before: a model opened. After: the verb lm_eval. What is likely is told by `likelihood`,
what is written by `generations`, as in our own harness.
"""

from typing import Any, Sequence

from lm_eval.api.model import LM

from genlm.evaluate import generations, likelihood, spans
from genlm.evaluate.likelihood import Candidate
from genlm.inference.sampling import SamplingConfig

_MAX_TOKENS = 256  # where a task does not say, as in lm-eval


class GenlmLM(LM):
    """A candidate that answers lm-eval's three kinds of request."""

    def __init__(self, candidate: Candidate):
        super().__init__()
        self._candidate = candidate

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Of each (context, continuation): its log-probability, and whether greedy
        decoding would write it."""
        del disable_tqdm
        tokenizer = self._candidate.tokenizer
        asked = [spans.of_pair(tokenizer, *request.args) for request in requests]
        return [
            (found.total, bool(found.is_likeliest.all()))
            for found in likelihood.score(self._candidate, asked, "loglikelihood")
        ]

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-probability of each (text,)."""
        del disable_tqdm
        tokenizer = self._candidate.tokenizer
        asked = [spans.of_text(tokenizer, request.args[0]) for request in requests]
        found = likelihood.score(self._candidate, asked, "loglikelihood_rolling")
        return [each.total for each in found]

    def generate_until(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[str]:
        """The answer to each (prompt, settings); those of one setting together."""
        del disable_tqdm
        answers = [""] * len(requests)
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(_settings(request.args[1]), []).append(place)
        for (stop, max_tokens, temperature), places in groups.items():
            written = generations.write(
                self._candidate,
                [requests[place].args[0] for place in places],
                max_tokens=max_tokens,
                stop=stop,
                title="generate_until",
                sampling=SamplingConfig(temperature),
            )
            for place, text in zip(places, written):
                answers[place] = text
        return answers


def _settings(given: dict[str, Any]) -> tuple[tuple[str, ...], int, float]:
    """Stop strings, most tokens and temperature of a task's generation_kwargs."""
    until = given.get("until") or []
    stop = (until,) if isinstance(until, str) else tuple(until)
    temperature = given.get("temperature", 0.0) if given.get("do_sample") else 0.0
    return stop, int(given.get("max_gen_toks", _MAX_TOKENS)), float(temperature)
