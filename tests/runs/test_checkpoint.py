"""A checkpoint that is opened as what it is not."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from genlm.errors import UserError
from genlm.runs import checkpoint
from genlm.runs.saving import Checkpoints


def _abstract(**items) -> dict:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), items)


@pytest.mark.parametrize(
    "state",
    [
        {"mu": jnp.ones(3), "count": jnp.ones(())},
        {"mu": jnp.ones(4)},
        {"nu": jnp.ones(3)},
    ],
)
def test_a_state_of_another_form_is_one_line(state: dict, tmp_path: Path):
    params, own = {"w": jnp.ones(3)}, {"mu": jnp.ones(3)}
    with Checkpoints(
        tmp_path, start_step=0, keep_last=1, keep_best=False
    ) as checkpoints:
        checkpoints.save(1, {"params": params, "state": own})
        checkpoints.confirm(1)
    restored = checkpoint.restore(tmp_path, 1, _abstract(params=params, state=own))
    assert restored["state"]["mu"].tolist() == [1, 1, 1]
    with pytest.raises(UserError, match="has another form"):
        checkpoint.restore(tmp_path, 1, _abstract(params=params, state=state))
