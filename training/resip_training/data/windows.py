"""Windows over episodes: one observation and the action chunk that follows it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from resip.errors import ResipError


def chunk_rows(episodes: Sequence[slice], horizon: int) -> NDArray[np.int64]:
    """Rows of the actions that follow each step: ``(N, horizon)``, N the steps of all episodes in order.

    Row i starts with the action of its own step. Past the end of an episode its last action is repeated:
    an absolute target repeated is a hold. No window reaches into another episode.
    """
    rows = [
        np.minimum(np.arange(episode.start, episode.stop)[:, None] + np.arange(horizon), episode.stop - 1)
        for episode in episodes
    ]
    return np.concatenate(rows)


def split_episodes(seeds: Sequence[int] | NDArray[np.int64], held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Split whole demonstrations at random into training and validation episodes.

    Args:
      seeds: seed of each episode; those that share one (displaced copies) are on one side.
      held_out: fraction of the demonstrations for validation; at least one if it is positive.
      seed: seed of the choice.

    Returns:
      Indices of the training and of the validation episodes.

    Raises:
      ResipError: nothing would be left to train on.
    """
    different = np.unique(seeds)
    n_held_out = max(1, round(held_out * len(different))) if held_out > 0 else 0
    if n_held_out >= len(different):
        raise ResipError(f"{len(different)} demonstrations are too few to hold out {held_out:.0%} for validation")
    chosen = np.random.default_rng(seed).permutation(different)[:n_held_out]
    aside = np.isin(seeds, chosen)
    return np.flatnonzero(~aside).tolist(), np.flatnonzero(aside).tolist()


def steps_of(episodes: Sequence[slice], chosen: Sequence[int]) -> NDArray[np.int64]:
    """Rows of every step of the chosen episodes."""
    return np.concatenate([np.arange(episodes[i].start, episodes[i].stop) for i in chosen])
