"""BEST OF N: of several answers to a prompt the one with the highest reward.

Before: rollouts and rewards. After: an answer, or a conversation to learn from.
"""

import numpy as np


def best(rewards_PK: np.ndarray) -> np.ndarray:
    """The place [P] of the best of each K answers; of several the first."""
    return np.argmax(rewards_PK, axis=1)


def distribution(chances_Y: np.ndarray, rewards_Y: np.ndarray, n: int) -> np.ndarray:
    """The chance [Y] of each answer to be the best of `n`: that none drawn is better,
    less that none is as good, shared among those that are as good (arXiv:2401.01879).
    """
    found_Y = np.empty(len(chances_Y))
    for y, reward in enumerate(rewards_Y):
        up_to = chances_Y[rewards_Y <= reward].sum() ** n
        below = chances_Y[rewards_Y < reward].sum() ** n
        share = chances_Y[y] / chances_Y[rewards_Y == reward].sum()
        found_Y[y] = (up_to - below) * share
    return found_Y
