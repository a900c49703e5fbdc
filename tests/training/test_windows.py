"""Windows stay inside their episode, and whole episodes are held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from resip.errors import ResipError
from resip_training.data.windows import chunk_rows, last_rows, split_episodes, steps_of

EPISODES = [slice(0, 3), slice(3, 8)]


def test_a_chunk_starts_at_its_own_step_and_repeats_the_last_action_past_the_end() -> None:
    np.testing.assert_array_equal(
        chunk_rows(torch.arange(8), last_rows(EPISODES), horizon=4),
        [
            [0, 1, 2, 2],
            [1, 2, 2, 2],
            [2, 2, 2, 2],
            [3, 4, 5, 6],
            [4, 5, 6, 7],
            [5, 6, 7, 7],
            [6, 7, 7, 7],
            [7, 7, 7, 7],
        ],
    )


def split(
    seeds: Sequence[int], held_out: float, seed: int = 0, failed: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """Split episodes of these seeds, of which those with the indices ``failed`` did not succeed."""
    success = ~np.isin(np.arange(len(seeds)), failed)
    return split_episodes(np.array(seeds), success, held_out, seed)


def test_the_split_is_by_episode_complete_and_follows_from_the_seed() -> None:
    train, held_out = split(range(50), held_out=0.1, seed=3)
    assert len(held_out) == 5
    assert sorted(train + held_out) == list(range(50))
    assert (train, held_out) == split(range(50), held_out=0.1, seed=3)
    assert held_out != split(range(50), held_out=0.1, seed=4)[1]


def test_displaced_copies_are_held_out_with_their_demonstration() -> None:
    seeds = [7, 7, 7, 8, 8, 8, 9, 9, 9]
    train, held_out = split(seeds, held_out=0.3)
    assert len(held_out) == 3
    assert not {seeds[i] for i in train} & {seeds[i] for i in held_out}


def test_a_small_set_still_holds_out_one_episode_unless_told_not_to() -> None:
    assert len(split(range(5), held_out=0.05)[1]) == 1
    assert split(range(5), held_out=0.0) == ([0, 1, 2, 3, 4], [])


def test_episodes_that_failed_are_neither_trained_on_nor_validated_on() -> None:
    train, held_out = split(range(10), held_out=0.25, failed=(0, 4))
    assert len(held_out) == 2
    assert sorted(train + held_out) == [1, 2, 3, 5, 6, 7, 8, 9]


def test_a_set_of_failures_alone_is_refused() -> None:
    with pytest.raises(ResipError, match="none of 3 episodes succeeded"):
        split(range(3), held_out=0.0, failed=range(3))


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(ResipError, match="too few"):
        split([3], held_out=0.1)


def test_the_steps_of_chosen_episodes() -> None:
    assert steps_of(EPISODES, [1]).tolist() == [3, 4, 5, 6, 7]
