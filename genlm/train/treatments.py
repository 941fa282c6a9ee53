"""TREATMENTS: which update each parameter gets, by its path and its logical axes.

Before: the specs of a model. After: train.optimizer. Norms and biases do not decay;
what is no matrix within a block (embeddings, norms, biases) is not for Muon. Rules of
a recipe change that: 'PATTERN key=value ...', such as 'embedding rate=0.3 decay=0' or
'layers/mlp/* optimizer=frozen'. A pattern is that of fnmatch over paths like
layers/attention/q; of several rules a later one wins.
"""

import dataclasses
import fnmatch
import math
from typing import Any

from flax import traverse_util

from genlm.errors import UserError
from genlm.parallel.specs import ParamSpec, Specs

OPTIMIZERS = ("adamw", "muon", "adafactor", "lion")
_KEYS = ("optimizer", "decay", "rate")


@dataclasses.dataclass(frozen=True)
class Treatment:
    """One of OPTIMIZERS or 'frozen', a decay, and a multiple of the learning rate."""

    optimizer: str
    decay: float
    rate: float = 1.0

    def __str__(self) -> str:
        return f"{self.optimizer} decay={self.decay!r} rate={self.rate!r}"


@dataclasses.dataclass(frozen=True)
class Rule:
    """The settings of the parameters whose path matches."""

    pattern: str
    settings: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """The rule that `text` spells.

        Raises:
          UserError: it spells none.
        """
        pattern, *pairs = text.split() or [""]
        settings: dict[str, Any] = {}
        for pair in pairs:
            key, _, value = pair.partition("=")
            try:
                settings[key] = value if key == "optimizer" else float(value)
            except ValueError as error:
                raise _wrong(text, f"{value!r} is no number") from error
            is_value = key == "optimizer" or 0 <= settings[key] < math.inf
            if key not in _KEYS or not is_value:
                raise _wrong(text, f"{pair!r} is none of {', '.join(_KEYS)} = a value")
        if settings.get("optimizer", "frozen") not in (*OPTIMIZERS, "frozen"):
            raise _wrong(text, f"optimizers: {', '.join(OPTIMIZERS)}, frozen")
        if not settings:
            raise _wrong(text, "it is 'PATTERN key=value ...'")
        return cls(pattern, settings)


def _wrong(text: str, why: str) -> UserError:
    return UserError(f"optimizer.rules: {text!r}: {why}")


def of_specs(
    specs: Specs,
    optimizer: str,
    decay: float,
    rules: tuple[str, ...],
    width_ratio: float = 1.0,
) -> Any:
    """The tree of Treatment of a tree of ParamSpec.

    Args:
      width_ratio: how many times as wide the model is as the one that the learning
        rate is of. Updates of a block's matrices shrink as it grows: an entry's by
        the ratio, as in table 8 of arXiv:2203.03466, and Muon's, whose entries are
        of one size, by its root. Decay a step stays as it is.

    Raises:
      UserError: a rule matches no parameter, or gives Muon what is no matrix.
    """
    flat = traverse_util.flatten_dict(specs, sep="/")
    treated = {p: _default(p, spec, optimizer, decay) for p, spec in flat.items()}
    for text in rules:
        rule = Rule.parse(text)
        matching = fnmatch.filter(flat, rule.pattern)
        if not matching:
            raise _wrong(text, f"matches none of {', '.join(flat)}")
        for path in matching:
            treated[path] = dataclasses.replace(treated[path], **rule.settings)
            if treated[path].optimizer == "muon" and not _is_matrix(flat[path]):
                raise _wrong(text, f"{path} is no matrix, as Muon needs")
    for path, treatment in treated.items():
        if "layers" in flat[path].axes and _is_matrix(flat[path]):
            treated[path] = _narrowed(treatment, width_ratio)
    return traverse_util.unflatten_dict(treated, sep="/")


def _narrowed(treatment: Treatment, width_ratio: float) -> Treatment:
    by = width_ratio**0.5 if treatment.optimizer == "muon" else width_ratio
    return dataclasses.replace(
        treatment, rate=treatment.rate / by, decay=treatment.decay * by
    )


def _is_matrix(spec: ParamSpec) -> bool:
    """Whether it goes from the model's width to something else, or back."""
    return "embed" in spec.axes and len(set(spec.axes) - {"layers"}) > 1


def _default(path: str, spec: ParamSpec, optimizer: str, decay: float) -> Treatment:
    if path.endswith(("norm", "bias")):
        return Treatment("adamw" if optimizer == "muon" else optimizer, 0.0)
    if optimizer == "muon" and "layers" not in spec.axes:
        return Treatment("adamw", decay)
    return Treatment(optimizer, decay)
