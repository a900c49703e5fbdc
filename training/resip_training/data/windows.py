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


def split_episodes(n_episodes: int, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Split whole episodes at random into training and validation indices.

    Args:
      n_episodes: episodes in the set.
      held_out: fraction for validation; at least one episode if it is positive.
      seed: seed of the choice.

    Raises:
      ResipError: nothing would be left to train on.
    """
    n_held_out = max(1, round(held_out * n_episodes)) if held_out > 0 else 0
    if n_held_out >= n_episodes:
        raise ResipError(f"{n_episodes} episodes are too few to hold out {held_out:.0%} of them for validation")
    order = np.random.default_rng(seed).permutation(n_episodes)
    return sorted(order[n_held_out:].tolist()), sorted(order[:n_held_out].tolist())


def steps_of(episodes: Sequence[slice], chosen: Sequence[int]) -> NDArray[np.int64]:
    """Rows of every step of the chosen episodes."""
    return np.concatenate([np.arange(episodes[i].start, episodes[i].stop) for i in chosen])
