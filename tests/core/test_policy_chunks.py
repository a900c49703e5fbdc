"""Actions are executed at the time they were predicted for, from the newest chunk, and never past its end."""

from __future__ import annotations

import numpy as np
import pytest
from resip.errors import ResipError
from resip.policy.chunks import Chunk, ChunkExecutor


def make_chunk(observed_s: float, label: float, n: int = 32) -> Chunk:
    """Action i of the chunk is ``label + i`` in every entry."""
    return Chunk(observed_s, np.repeat(label + np.arange(n, dtype=float)[:, None], 10, axis=1))


def executed(executor: ChunkExecutor, time_s: float) -> float | None:
    action = executor.action_at(time_s)
    return None if action is None else float(action[0])


def test_without_a_chunk_there_is_no_action_and_one_is_wanted() -> None:
    executor = ChunkExecutor()
    assert executor.action_at(0.0) is None
    assert executor.wants_chunk(0.0)


def test_action_i_is_executed_i_periods_after_the_observation() -> None:
    executor = ChunkExecutor()
    executor.add(make_chunk(2.0, 100))
    assert [executed(executor, 2.0 + 0.1 * i) for i in range(32)] == [100.0 + i for i in range(32)]


def test_actions_that_were_past_when_the_chunk_arrived_are_skipped() -> None:
    executor = ChunkExecutor()
    executor.add(make_chunk(2.0, 100))
    assert executed(executor, 2.3) == 103


@pytest.mark.parametrize(("late_s", "index"), [(0.03, 0), (0.07, 1), (0.12, 1), (0.18, 2)])
def test_off_the_grid_the_nearest_action_counts(late_s: float, index: int) -> None:
    executor = ChunkExecutor()
    executor.add(make_chunk(2.0, 100))
    assert executed(executor, 2.0 + late_s) == 100 + index


def test_a_used_up_chunk_is_neither_repeated_nor_extrapolated() -> None:
    executor = ChunkExecutor()
    executor.add(make_chunk(0.0, 0, n=4))
    assert executed(executor, 0.3) == 3
    assert executor.action_at(0.4) is None
    assert executor.action_at(100.0) is None


def test_nothing_is_executed_before_the_observation() -> None:
    executor = ChunkExecutor()
    executor.add(make_chunk(5.0, 0))
    assert executor.action_at(4.8) is None
    assert executed(executor, 5.0) == 0


def test_a_chunk_is_wanted_after_eight_actions_and_the_old_one_bridges_the_wait() -> None:
    executor = ChunkExecutor(execute_steps=8)
    executor.add(make_chunk(0.0, 0))
    assert [executor.wants_chunk(0.1 * i) for i in range(9)] == [False] * 8 + [True]
    assert executed(executor, 0.8) == 8  # its successor, observed at 0.8, is still being computed
    executor.add(make_chunk(0.8, 100))
    assert executed(executor, 0.9) == 101
    assert not executor.wants_chunk(0.9)


def test_a_late_older_chunk_does_not_replace_a_newer_one() -> None:
    executor = ChunkExecutor()
    executor.add(make_chunk(0.8, 100))
    executor.add(make_chunk(0.0, 0))
    assert executed(executor, 0.9) == 101
    assert not executor.wants_chunk(0.9)


def test_a_chunk_of_the_future_waits_for_its_time() -> None:
    executor = ChunkExecutor()
    executor.add(make_chunk(0.0, 0))
    executor.add(make_chunk(0.5, 100))
    assert executed(executor, 0.4) == 4
    assert executed(executor, 0.5) == 100


def test_of_two_chunks_of_one_observation_the_later_counts() -> None:
    executor = ChunkExecutor()
    executor.add(make_chunk(0.0, 0))
    executor.add(make_chunk(0.0, 100))
    assert executed(executor, 0.1) == 101


def test_reset_forgets() -> None:
    executor = ChunkExecutor()
    executor.add(make_chunk(0.0, 0))
    executor.reset()
    assert executor.action_at(0.0) is None


def test_the_callers_copy_does_not_alias_the_chunk() -> None:
    executor = ChunkExecutor()
    executor.add(make_chunk(0.0, 7))
    action = executor.action_at(0.0)
    assert action is not None
    action[:] = -1
    assert executed(executor, 0.0) == 7


def test_nan_and_wrong_shapes_are_refused_naming_time_and_action() -> None:
    actions = np.zeros((32, 10))
    actions[5, 2] = np.nan
    with pytest.raises(ResipError, match=r"t = 1.500 s is not finite at action 5"):
        Chunk(1.5, actions)
    with pytest.raises(ResipError, match=r"\(n, 10\), got \(32, 9\)"):
        Chunk(0.0, np.zeros((32, 9)))
