"""A displaced copy keeps every relation of the episode and stands elsewhere on the table."""

from __future__ import annotations

import numpy as np
import pytest
from resip import rotation, spaces
from resip.control import panda
from resip_training.data.displaced import DISPLACEMENT_M, displaced
from resip_training.experts.rollout import Trajectory, run_expert


@pytest.fixture(scope="module")
def run() -> Trajectory:
    (found,) = run_expert("one_leg", "low", [720])
    return found


def test_copy_zero_is_the_episode_itself(run: Trajectory) -> None:
    assert displaced(run, 0) is run


def test_arm_parts_obstacle_and_actions_move_together_on_the_table(run: Trajectory) -> None:
    copy = displaced(run, 1)
    offset_m = copy.robot_state[0, :3] - run.robot_state[0, :3]
    assert 0 < np.abs(offset_m).max() <= DISPLACEMENT_M
    assert offset_m[2] == 0
    moves = [
        copy.robot_state[:, :3] - run.robot_state[:, :3],
        copy.action[:, :3] - run.action[:, :3],
        *np.moveaxis((copy.part_poses - run.part_poses).reshape(len(run), -1, spaces.PART_POSE_DIM)[..., :3], 1, 0),
    ]
    for move in moves:
        np.testing.assert_allclose(move, np.broadcast_to(offset_m, move.shape), atol=1e-12)
    np.testing.assert_array_equal(copy.action[:, 3:], run.action[:, 3:])
    np.testing.assert_array_equal(copy.robot_state[:, 3:], run.robot_state[:, 3:])


def test_the_joints_bring_the_fingertip_to_the_displaced_place(run: Trajectory) -> None:
    copy = displaced(run, 2)
    tip = panda.ee_pose(copy.joint_positions)
    np.testing.assert_allclose(tip.position, copy.robot_state[:, :3], atol=5e-4)
    wanted = rotation.matrix_from_rot6d(copy.robot_state[:, spaces.STATE_ROT6D])
    assert rotation.angle_between(tip.matrix, wanted).max() < 5e-3


def test_a_copy_follows_from_seed_and_number(run: Trajectory) -> None:
    np.testing.assert_array_equal(displaced(run, 1).action, displaced(run, 1).action)
    assert not np.array_equal(displaced(run, 1).action, displaced(run, 2).action)
