"""Actions are executed at the time they were predicted for, from the newest chunk, and never past its end."""

from __future__ import annotations

import numpy as np
import pytest
from resip import rotation, spaces
from resip.errors import ResipError
from resip.policy.chunks import Chunk, ChunkExecutor, blended


def make_chunk(observed_s: float, label: float, n: int = 32) -> Chunk:
    """Action i of the chunk is ``label + i`` in every entry."""
    return Chunk(observed_s, np.repeat(label + np.arange(n, dtype=float)[:, None], 10, axis=1))


def commanded(executor: ChunkExecutor, time_s: float) -> np.ndarray:
    """The whole action, where there is one."""
    action = executor.action_at(time_s)
    assert action is not None
    return action


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


def random_actions(rng: np.random.Generator, n: int) -> np.ndarray:
    """Poses within centimetres and a radian of each other, gripper anywhere."""
    position = np.array([0.5, 0.0, 0.1]) + rng.uniform(-0.05, 0.05, (n, 3))
    matrix = rotation.matrix_from_rotvec(rng.uniform(-0.6, 0.6, (n, 3)))
    return spaces.pack_action(position, matrix, rng.uniform(-1, 1, n))


@pytest.mark.parametrize("seed", range(20))
def test_a_blended_command_stays_on_the_way_from_chunk_to_chunk_and_ends_at_the_new_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    blend_steps, late_steps = int(rng.integers(1, 6)), int(rng.integers(0, 5))
    old, new = Chunk(0.0, random_actions(rng, 32)), Chunk(0.8, random_actions(rng, 32))
    executor = ChunkExecutor(blend_steps=blend_steps)
    executor.add(old)
    for i in range(8 + late_steps):
        np.testing.assert_array_equal(commanded(executor, 0.1 * i), old.actions[i])
    executor.add(new)
    for i in range(8 + late_steps, 32):
        command, wanted, former = commanded(executor, 0.1 * i), new.actions[i - 8], old.actions[i]
        k = i - 8 - late_steps + 1
        if k > blend_steps:
            np.testing.assert_array_equal(command, wanted)
            continue
        fraction = k / (blend_steps + 1)
        pose, end, start = (spaces.action_pose(action) for action in (command, wanted, former))
        np.testing.assert_allclose(pose.position, (1 - fraction) * start.position + fraction * end.position)
        whole = rotation.angle_between(start.matrix, end.matrix)
        np.testing.assert_allclose(rotation.angle_between(start.matrix, pose.matrix), fraction * whole, atol=1e-9)
        np.testing.assert_allclose(rotation.angle_between(pose.matrix, end.matrix), (1 - fraction) * whole, atol=1e-9)
        assert command[9] == wanted[9]


def test_without_a_blend_the_newer_chunk_counts_at_once() -> None:
    executor = ChunkExecutor(blend_steps=0)
    executor.add(make_chunk(0.0, 0))
    assert executed(executor, 0.7) == 7
    executor.add(make_chunk(0.8, 100))
    assert executed(executor, 0.8) == 100


def test_an_old_chunk_that_is_used_up_takes_no_part() -> None:
    rng = np.random.default_rng(0)
    executor = ChunkExecutor(blend_steps=3)
    new = Chunk(0.8, random_actions(rng, 8))
    executor.add(Chunk(0.0, random_actions(rng, 9)))
    executor.action_at(0.0)
    executor.add(new)
    np.testing.assert_array_equal(commanded(executor, 0.9), new.actions[1])


def test_a_chunk_that_comes_during_a_blend_goes_on_from_the_blended_command() -> None:
    rng = np.random.default_rng(1)
    first, second, third = (Chunk(t, random_actions(rng, 32)) for t in (0.0, 0.8, 1.0))
    executor = ChunkExecutor(blend_steps=3)
    executor.add(first)
    executor.action_at(0.8)
    executor.add(second)
    executor.action_at(0.9)
    executor.add(third)
    command = commanded(executor, 1.0)
    blend = blended(first.actions[9:12], second.actions[1:4], 3)  # from 0.9 s on
    np.testing.assert_allclose(command, blended(blend[1:2], third.actions[:1], 3)[0])


def test_a_blend_has_ended_when_the_next_chunk_is_asked_for() -> None:
    """A policy that predicts after every second action would else never be obeyed, but in part."""
    rng = np.random.default_rng(3)
    old, new = (Chunk(t, random_actions(rng, 32)) for t in (0.0, 0.2))
    executor = ChunkExecutor(execute_steps=2, blend_steps=3)
    executor.add(old)
    executor.action_at(0.1)
    executor.add(new)
    np.testing.assert_allclose(commanded(executor, 0.2), blended(old.actions[2:3], new.actions[:1], 1)[0])
    np.testing.assert_array_equal(commanded(executor, 0.3), new.actions[1])
    assert executor.wants_chunk(0.4)


def test_a_rotation_that_is_none_is_left_for_the_limits_to_find() -> None:
    rng = np.random.default_rng(2)
    old, new = random_actions(rng, 2), random_actions(rng, 2)
    new[0, 3:9] = 0.0
    mixed = blended(old, new, 2)
    np.testing.assert_array_equal(mixed[0], new[0])
    assert not np.array_equal(mixed[1], new[1])


def test_what_is_executed_tells_when_it_was_observed() -> None:
    executor = ChunkExecutor(blend_steps=3)
    assert executor.observed_at(0.0) is None
    executor.add(make_chunk(0.0, 0, n=4))
    executor.action_at(0.3)
    assert executor.observed_at(0.3) == 0.0
    executor.action_at(0.4)
    assert executor.observed_at(0.4) is None
