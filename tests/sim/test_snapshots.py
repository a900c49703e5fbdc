"""Episodes can start from any state that was recorded."""

from __future__ import annotations

import numpy as np
import pytest
from resip.errors import ResipError
from resip_training.experts import motion, peg_hole
from resip_training.sim import snapshots
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.task import Task


def expert_actions(task: Task, observation: dict[str, np.ndarray]) -> np.ndarray:
    rows = zip(observation["robot_state"], observation["part_poses"], strict=True)
    return np.array([peg_hole.act(motion.unpack(state, parts, task.part_names)) for state, parts in rows])


@pytest.fixture
def env() -> AssemblyEnv:
    return AssemblyEnv("peg_hole", num_envs=2, threads=1)


def assembled(env: AssemblyEnv) -> list[dict[str, np.ndarray]]:
    """Snapshots before each step of an episode of the expert, and at its end."""
    observation, _ = env.reset(seed=3)
    states = [env.worlds.snapshot()]
    for _ in range(env.task.max_steps):
        observation, _, terminated, _, _ = env.step(expert_actions(env.task, observation))
        states.append(env.worlds.snapshot())
        if terminated[0]:
            return states
    raise AssertionError("the expert fails")


def test_a_snapshot_is_the_same_after_it_was_rows_of_numbers(env: AssemblyEnv) -> None:
    env.reset(seed=1)
    snapshot = env.worlds.snapshot()
    rows = snapshots.flatten(snapshot)
    assert rows.shape == (2, snapshots.width(snapshots.layout(snapshot)))
    again = snapshots.unflatten(rows[[1, 0]], snapshot)
    assert list(again) == list(snapshot)
    for name, values in snapshot.items():
        np.testing.assert_array_equal(again[name], values[::-1])
        assert again[name].dtype == values.dtype


def test_an_episode_starts_where_the_snapshot_was_taken_and_others_go_on(env: AssemblyEnv) -> None:
    middle = assembled(env)[30]
    before, _ = env.reset(seed=8)
    mask = np.array([True, False])
    after, _ = env.reset(options={"reset_mask": mask, "snapshot": middle})
    np.testing.assert_array_equal(after["robot_state"][1], before["robot_state"][1])
    np.testing.assert_array_equal(env.worlds.snapshot()["qpos"][0], middle["qpos"][0])
    assert not np.allclose(after["part_poses"][0], before["part_poses"][0])


def test_what_is_assembled_in_the_snapshot_has_been_paid_for(env: AssemblyEnv) -> None:
    *_, last, end = assembled(env)
    mask = np.array([True, False])
    for snapshot, reward in ((last, 1.0), (end, 0.0)):
        env.reset(seed=8)
        observation, _ = env.reset(options={"reset_mask": mask, "snapshot": snapshot})
        _, paid, terminated, _, _ = env.step(expert_actions(env.task, observation))
        assert paid[0] == reward
        assert terminated[0]


def test_steps_that_the_episode_has_behind_it_count_for_its_length(env: AssemblyEnv) -> None:
    env.reset(seed=8)
    snapshot = env.worlds.snapshot()
    steps = np.array([env.task.max_steps - 1, env.task.max_steps - 2])
    observation, _ = env.reset(options={"snapshot": snapshot, "steps": steps})
    assert env.step(expert_actions(env.task, observation))[3].tolist() == [True, False]
    observation, _ = env.reset(options={"reset_mask": np.array([True, False]), "snapshot": snapshot})
    assert env.step(expert_actions(env.task, observation))[3].tolist() == [False, True]


def test_snapshots_of_another_simulation_are_refused_naming_the_entry(env: AssemblyEnv) -> None:
    env.reset(seed=1)
    recorded = snapshots.layout(env.worlds.snapshot())
    snapshots.check(recorded, env.worlds.snapshot(), "demos")
    for changed in ({"qpos": [99]}, {"wind": []}):
        with pytest.raises(ResipError, match=f"demos has snapshots of another simulation: {next(iter(changed))}"):
            snapshots.check(recorded | changed, env.worlds.snapshot(), "demos")
