"""A small student of a trained run: half the layers of the life's model.

  genlm run experiments/distill.py --workdir runs/student \
      --config.teacher=runs/life/pretrain --config.data.prepared=runs/life/prepare

The loss is nine parts forward KL at temperature 1, and one part the next token; with
--config.distill.direction=reverse the other KL. ':smoke' trains the teacher first, for
two steps. Planned, not run to its end.
"""

from ml_collections import ConfigDict

from experiments import base, life


def get_config(arg: str = "") -> ConfigDict:
    """One stage, whose teacher is a run."""
    is_smoke = bool(base.argument(arg, "smoke"))
    whole = life.get_config(arg)
    student = whole.pretrain.copy_and_resolve_references()
    student.stage = "distill"
    student.teacher = "pretrain" if is_smoke else "runs/life/pretrain"
    student.distill = {"direction": "forward", "share": 0.9, "temperature": 1.0}
    student.model.num_layers = max(1, student.model.num_layers // 2)
    if not is_smoke:
        student.data.prepared = "runs/life/prepare"
        return student
    earlier = ("prepare", "pretrain")
    return ConfigDict(
        {
            "stages": (*earlier, "student"),
            **{name: whole[name] for name in earlier},
            "student": student,
        }
    )
