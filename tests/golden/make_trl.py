"""Write trl.json: log-probabilities, and the losses that TRL's own trainers make of
them.

    python -m tests.golden.make_trl

needs torch and trl (1.16.0). The trainers are made without __init__, with the settings
that their losses read, and their models answer with log-probabilities that are drawn at
random, as if each token's likelihood had been so. With each loss stands its gradient in
the log-probabilities.
"""

from collections import defaultdict
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Sequence

import numpy as np
import torch
import trl
from trl import DPOTrainer, GRPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from tests.golden.trl_trainers import Told, trainer

Rows = list[list[float]]
# pairs of a batch; tokens of a prompt, of a better answer and of a worse one: at least
# and at most
SHAPES = (
    (3, (1, 1), (5, 5), (5, 5)),
    (4, (2, 4), (1, 7), (2, 6)),
    (2, (3, 3), (6, 9), (1, 3)),
)
PAIRED = (
    *(("dpo", {"beta": beta}) for beta in (0.1, 0.5)),
    *(("dpo", {"beta": 0.3, "smoothing": smoothing}) for smoothing in (0.1, 0.3)),
    *(("ipo", {"beta": beta}) for beta in (0.1, 0.5)),
    *(("orpo", {"beta": beta}) for beta in (0.1, 1.0)),
    *(("simpo", {"beta": 2.0, "gamma": gamma}) for gamma in (0.5, 1.4)),
)
UNPAIRED = ({"beta": 0.1}, {"beta": 0.5, "good": 1.33, "bad": 0.75})
# answers, and their tokens at least and at most
GROUPS = ((4, (5, 5)), (6, (1, 7)))
CLIPPED = (
    {"loss_type": "grpo"},
    {"loss_type": "grpo", "beta": 0.04},
    {"loss_type": "grpo", "epsilon_high": 0.28},
    {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    {"loss_type": "grpo", "importance_sampling_level": "sequence", "beta": 0.1},
    {"loss_type": "bnpo"},
    {"loss_type": "bnpo", "beta": 0.04, "epsilon_high": 0.28},
    {"loss_type": "bnpo", "importance_sampling_level": "sequence"},
    {"loss_type": "dapo", "epsilon_high": 0.28},
    {"loss_type": "dr_grpo"},
    {"loss_type": "dr_grpo", "beta": 0.04},
    {"loss_type": "luspo", "importance_sampling_level": "sequence"},
)
MAX_LENGTH = 16  # by which 'dr_grpo' divides
SCALES = ("group", "batch", "none")


def _drawn(random: np.random.Generator, lengths: Sequence[int]) -> Rows:
    """Log-probabilities of so many tokens, with 4 digits."""
    return [(-random.gamma(1.5, 0.8, n) - 0.01).round(4).tolist() for n in lengths]


def _near(random: np.random.Generator, rows: Rows, distance: float) -> Rows:
    """Log-probabilities that are about so far from these."""
    return [
        np.minimum(np.asarray(r) + random.normal(0, distance, len(r)), -0.005)
        .round(4)
        .tolist()
        for r in rows
    ]


def _between(random: np.random.Generator, bounds: tuple[int, int], count: int) -> Any:
    return random.integers(bounds[0], bounds[1] + 1, count)


def _padded(prompts: Rows, answers: Rows) -> tuple[torch.Tensor, ...]:
    """Log-probabilities of every token but the first [B, T - 1]; which tokens are there
    [B, T]; and which are an answer's [B, T]."""
    T = max(len(p) + len(a) for p, a in zip(prompts, answers))
    logps = torch.full((len(answers), T), -1.0)
    there, answered = torch.zeros(2, len(answers), T, dtype=torch.long)
    for row, (prompt, answer) in enumerate(zip(prompts, answers)):
        end = len(prompt) + len(answer)
        logps[row, :end] = torch.tensor(prompt + answer)
        there[row, :end], answered[row, len(prompt) : end] = 1, 1
    return logps[:, 1:].clone().requires_grad_(), there, answered


def _slopes(logps: torch.Tensor, answered: torch.Tensor) -> list[float]:
    """The loss's gradient in the log-probability of an answer: in that of its last
    token, as it is the same in every one."""
    assert logps.grad is not None
    last = answered.cumsum(1).argmax(1) - 1
    return logps.grad[torch.arange(len(last)), last].tolist()


def _pairs(random: np.random.Generator, shape: Any) -> dict[str, Rows]:
    """A batch of prompts with two answers each."""
    count, of_prompt, of_better, of_worse = shape
    found = {
        "prompt": _drawn(random, _between(random, of_prompt, count)),
        "better": _drawn(random, _between(random, of_better, count)),
        "worse": _drawn(random, _between(random, of_worse, count)),
    }
    for side in ("better", "worse"):
        found[f"reference_{side}"] = _near(random, found[side], 0.3)
    return found


def _with_reference(pairs: dict[str, Rows], kind: str, settings: dict) -> dict:
    """What DPOTrainer makes of a batch. Its loss with smoothing is 'aot' of one pair,
    where there is nothing to sort."""
    smoothing = settings.get("smoothing", 0.0)
    logps, there, answered = _padded(pairs["prompt"] * 2, _both(pairs, ""))
    reference, _, _ = _padded(pairs["prompt"] * 2, _both(pairs, "reference_"))
    made = trainer(
        DPOTrainer,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        beta=settings["beta"],
        label_smoothing=smoothing,
        loss_types=["ipo" if kind == "ipo" else "aot" if smoothing else "sigmoid"],
        loss_weights=[1.0],
        f_divergence_type="reverse_kl",
        ld_alpha=None,
        use_weighting=False,
        precompute_ref_logps=False,
    )
    count, losses = len(pairs["prompt"]), []
    batches = [[i, i + count] for i in range(count)] if smoothing else [slice(None)]
    for rows in batches:
        made.ref_model = Told(reference[rows].detach())
        inputs = {
            "input_ids": torch.zeros_like(there[rows]),
            "attention_mask": there[rows],
            "completion_mask": answered[rows],
        }
        losses.append(made._compute_loss(Told(logps[rows]), inputs, False))
    loss = torch.stack(losses).mean()
    loss.backward()
    return {"loss": loss.item(), "slopes": _slopes(logps, answered)}


def _both(pairs: dict[str, Rows], prefix: str) -> Rows:
    return pairs[f"{prefix}better"] + pairs[f"{prefix}worse"]


def _without_reference(pairs: dict[str, Rows], kind: str, settings: dict) -> dict:
    """What ORPOTrainer and CPOTrainer make of a batch; 'nll' is the share of a loss
    that has to do with the better answer alone."""
    logps, there, answered = _padded(pairs["prompt"] * 2, _both(pairs, ""))
    own = {"beta": settings["beta"], "is_encoder_decoder": False, "padding_value": 1}
    if kind == "orpo":
        made = trainer(ORPOTrainer, **own)
    else:
        made = trainer(
            CPOTrainer,
            **own,
            loss_type="simpo",
            simpo_gamma=settings["gamma"],
            label_smoothing=0.0,
            cpo_alpha=0.0,
            alpha=0.0,
            pad_token_id=1,
        )
    count = len(pairs["prompt"])
    batch = {}
    for side, rows in (("chosen", slice(count)), ("rejected", slice(count, None))):
        ids = torch.zeros_like(there[rows])
        batch[f"{side}_input_ids"] = ids
        batch[f"{side}_attention_mask"] = there[rows]
        batch[f"{side}_labels"] = ids.masked_fill(answered[rows] == 0, -100)
    loss, metrics = made.get_batch_loss_metrics(Told(logps), batch)
    loss.backward()
    return {
        "loss": loss.item(),
        "nll": metrics["nll_loss"],
        "slopes": _slopes(logps, answered),
    }


def _unpaired(random: np.random.Generator, labels: list[bool], settings: dict) -> dict:
    """What KTOTrainer makes of good answers and bad ones, and of as many answers to
    other prompts."""
    count = len(labels)
    prompts = _drawn(random, _between(random, (1, 3), count))
    answers, others = (_drawn(random, _between(random, (2, 6), count)) for _ in "ab")
    # mostly likelier than the reference thinks, so that the divergence is above 0
    references = [_near(random, rows, 0.2) for rows in (answers, others)]
    references[1] = [(np.array(row) - 0.05).round(4).tolist() for row in references[1]]
    made = trainer(
        KTOTrainer,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        beta=settings["beta"],
        desirable_weight=settings.get("good", 1.0),
        undesirable_weight=settings.get("bad", 1.0),
        loss_type="kto",
        calculate_KL=True,
        precompute_ref_logps=False,
    )
    logps, there, answered = _padded(prompts, answers)
    of_others, others_there, others_answered = _padded(prompts, others)
    made.ref_model = Told(
        _padded(prompts, references[1])[0].detach(),
        _padded(prompts, references[0])[0].detach(),
    )
    inputs = {
        "label": torch.tensor(labels),
        "input_ids": torch.zeros_like(there),
        "attention_mask": there,
        "completion_mask": answered,
        "KL_input_ids": torch.zeros_like(others_there),
        "KL_attention_mask": others_there,
        "KL_completion_mask": others_answered,
    }
    loss = made._compute_loss(Told(of_others, logps), inputs, False)
    loss.backward()
    return {
        "settings": settings,
        "labels": labels,
        "answers": answers,
        "others": others,
        "reference_answers": references[0],
        "reference_others": references[1],
        "far": made._metrics["train"]["kl"][0],
        "loss": loss.item(),
        "slopes": _slopes(logps, answered),
    }


def _group(random: np.random.Generator, shape: Any) -> dict:
    """A batch of answers to one prompt, the new policy a step away from the old."""
    count, bounds = shape
    new = _drawn(random, _between(random, bounds, count))
    return {
        "new": new,
        "old": _near(random, new, 0.3),
        "reference": _near(random, new, 0.3),
        "advantages": random.normal(0, 1, count).round(4).tolist(),
    }


def _clipped(group: dict, settings: dict) -> dict:
    """What GRPOTrainer makes of a batch of answers."""
    prompts = [[-1.0]] * len(group["new"])
    new, there, answered = _padded(prompts, group["new"])
    old, reference = (_padded(prompts, group[n])[0] for n in ("old", "reference"))
    mask = answered[:, 1:]
    whole = {"beta": 0.0, "epsilon_high": 0.2, "importance_sampling_level": "token"}
    made = trainer(
        GRPOTrainer,
        **(whole | settings),
        epsilon_low=0.2,
        max_completion_length=MAX_LENGTH,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        args=SimpleNamespace(
            delta=None, use_bias_correction_kl=False, steps_per_generation=1
        ),
        _entropy_bonus_enabled=False,
    )
    inputs = {
        "prompt_ids": torch.zeros_like(there[:, :1]),
        "prompt_mask": there[:, :1],
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": torch.tensor(group["advantages"]),
        "old_per_token_logps": old.detach() * mask,
        "ref_per_token_logps": reference.detach() * mask,
        "num_items_in_batch": mask.sum(),
    }
    loss = made._compute_loss(Told(new), inputs)
    loss.backward()
    assert new.grad is not None
    slopes = [g[: len(row)].tolist() for g, row in zip(new.grad, group["new"])]
    return {"settings": settings, "loss": loss.item(), "slopes": slopes}


def _advantages(rewards: list[list[float]], scale: str) -> list[list[float]]:
    """What GRPOTrainer makes of the rewards of groups."""
    flat = [{"prompt": ""} for row in rewards for _ in row]
    ids = [[0]] * len(flat)
    made = trainer(
        GRPOTrainer,
        environment_factories=None,
        environments=None,
        tools=None,
        mask_truncated_completions=False,
        pad_to_multiple_of=None,
        _tokenizer=SimpleNamespace(pad_token_id=0),
        args=SimpleNamespace(
            per_device_train_batch_size=len(flat),
            steps_per_generation=1,
            gradient_accumulation_steps=1,
            gradient_checkpointing_kwargs=None,
        ),
        num_iterations=1,
        use_vllm=False,
        beta=0.0,
        num_generations=len(rewards[0]),
        reward_weights=torch.ones(1),
        reward_func_names=["reward"],
        multi_objective_aggregation="sum_then_normalize",
        scale_rewards=scale,
        log_multimodal=False,
        _logs=defaultdict(lambda: defaultdict(list), prompt=[], completion=[]),
        _pending_extra_logs={},
        _pending_metrics={},
    )
    made._logs["advantages"] = []
    made._generate = lambda _: (ids, ids, None, ids, None, {}, None, None)
    made._calculate_rewards = lambda *_: torch.tensor(rewards).reshape(-1, 1)
    found = made._generate_and_score_completions(flat)["advantages"]
    return found.reshape(len(rewards), -1).tolist()


def main() -> None:
    random = np.random.default_rng(0)
    paired = [{**_pairs(random, shape), "found": []} for shape in SHAPES]
    for pairs in paired:
        for kind, settings in PAIRED:
            has = kind in ("dpo", "ipo")
            made = (_with_reference if has else _without_reference)(
                pairs, kind, settings
            )
            pairs["found"].append({"kind": kind, "settings": settings, **made})
    unpaired = [
        _unpaired(random, labels, settings)
        for labels in ([True] * 3 + [False] * 3, [True, False, False, True, True])
        for settings in UNPAIRED
    ]
    groups = [_group(random, shape) for shape in GROUPS]
    for group in groups:
        group["found"] = [_clipped(group, settings) for settings in CLIPPED]
    rewards = [random.normal(size=(3, 4)).round(4).tolist(), [[1.0, 0, 0], [2, 5, 2]]]
    advantages = [
        {"rewards": r, "scale": scale, "advantages": _advantages(r, scale)}
        for r in rewards
        for scale in SCALES
    ]
    found = {
        "versions": {"trl": trl.__version__, "torch": torch.__version__},
        "max_length": MAX_LENGTH,
        "paired": paired,
        "unpaired": unpaired,
        "groups": groups,
        "advantages": advantages,
    }
    path = Path(__file__).with_name("trl.json")
    path.write_text(json.dumps(_short(found)) + "\n", "utf-8")
    print(f"{path}: {path.stat().st_size:,} bytes")


def _short(found: Any) -> Any:
    """Numbers with 8 digits, as many as float32 has."""
    if isinstance(found, dict):
        return {name: _short(each) for name, each in found.items()}
    if isinstance(found, (list, tuple)):
        return [_short(each) for each in found]
    return float(f"{found:.8g}") if isinstance(found, float) else found


if __name__ == "__main__":
    main()
