"""Windows over episodes: one observation and the action chunk that follows it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from resip.errors import ResipError
from torch import Tensor


def last_rows(episodes: Sequence[slice]) -> Tensor:
    """For each step of all episodes in order, the row of its own episode's last step: ``(N,)``."""
    stops = torch.tensor([episode.stop for episode in episodes])
    lengths = torch.tensor([episode.stop - episode.start for episode in episodes])
    return (stops - 1).repeat_interleave(lengths)


def chunk_rows(rows: Tensor, last: Tensor, horizon: int) -> Tensor:
    """Rows of the actions that follow the steps ``rows`` ``(B,)``: ``(B, horizon)``.

    A chunk starts with the action of its own step. Past the end of an episode its last action is repeated: an
    absolute target repeated is a hold. No window reaches into another episode. (Those of all steps at once would be
    larger than the data.)

    Args:
      rows: steps.
      last: see `last_rows`.
      horizon: actions in a chunk.
    """
    return torch.minimum(rows[:, None] + torch.arange(horizon, device=rows.device), last[rows][:, None])


def split_episodes(
    seeds: NDArray[np.int64], success: NDArray[np.bool_], held_out: float, seed: int
) -> tuple[list[int], list[int]]:
    """Split whole demonstrations at random into training and validation episodes; those that failed are in neither.

    Args:
      seeds: seed of each episode; those that share one (displaced copies) are on one side.
      success: whether each succeeded.
      held_out: fraction of the demonstrations for validation; at least one if it is positive.
      seed: seed of the choice.

    Returns:
      Indices of the training and of the validation episodes.

    Raises:
      ResipError: nothing would be left to train on.
    """
    different = np.unique(seeds[success])
    if len(different) == 0:
        raise ResipError(f"none of {len(seeds)} episodes succeeded: there is nothing to clone")
    n_held_out = max(1, round(held_out * len(different))) if held_out > 0 else 0
    if n_held_out >= len(different):
        raise ResipError(f"{len(different)} demonstrations are too few to hold out {held_out:.0%} for validation")
    chosen = np.random.default_rng(seed).permutation(different)[:n_held_out]
    aside = np.isin(seeds, chosen)
    return np.flatnonzero(success & ~aside).tolist(), np.flatnonzero(success & aside).tolist()


def steps_of(episodes: Sequence[slice], chosen: Sequence[int]) -> NDArray[np.int64]:
    """Rows of every step of the chosen episodes."""
    return np.concatenate([np.arange(episodes[i].start, episodes[i].stop) for i in chosen])
