"""SIGHT: which keys a query may look at.

Before: segments and positions of a batch, and of what a cache holds. After: attention,
as a mask where all keys are at hand, in parts where they come round.
"""

import dataclasses
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sight:
    """Slots of a row, documents and positions in them, of queries and keys; a query
    looks no further back than `window` positions."""

    query_slots_T: Any
    key_slots_S: Any
    query_segments_BT: Any
    key_segments_BS: Any
    query_positions_BT: Any
    key_positions_BS: Any
    window: int = dataclasses.field(metadata={"static": True})

    @property
    def keys(self) -> tuple[Any, Any, Any]:
        """Slots, segments and positions of the keys."""
        return self.key_slots_S, self.key_segments_BS, self.key_positions_BS

    def of(self, slots_S: Any, segments_BS: Any, positions_BS: Any) -> "Sight":
        """The same queries' sight of other keys."""
        return dataclasses.replace(
            self,
            key_slots_S=slots_S,
            key_segments_BS=segments_BS,
            key_positions_BS=positions_BS,
        )


def mask(sight: Sight) -> jax.Array:
    """mask_BTS: true where a query may look: its own document, no later, no further
    back than its window."""
    s = sight
    causal_TS = s.key_slots_S[None, :] <= s.query_slots_T[:, None]
    same_BTS = s.query_segments_BT[:, :, None] == s.key_segments_BS[:, None, :]
    real_BTS = (s.key_segments_BS > 0)[:, None, :]
    distance_BTS = s.query_positions_BT[:, :, None] - s.key_positions_BS[:, None, :]
    return causal_TS & same_BTS & real_BTS & (distance_BTS < s.window)
