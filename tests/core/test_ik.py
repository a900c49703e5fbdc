"""Differential inverse kinematics: it gets there, stays within the limits, and is never thrown off."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resip import rotation, spaces
from resip.control import ik, panda
from strategies import components, joints, matrices, unit_vectors

SETTINGS = ik.IkSettings()
PATIENT = ik.IkSettings(iterations=200, posture_gain=0.0)
LOWER_RAD = panda.HARD_LOWER_RAD + SETTINGS.limit_margin_rad
UPPER_RAD = panda.HARD_UPPER_RAD - SETTINGS.limit_margin_rad

anywhere_m = st.tuples(components, components, components).map(lambda v: 3.0 * np.array(v))


def moved(pose, offset_m, rotvec_rad):
    return spaces.Pose(pose.position + offset_m, rotation.matrix_from_rotvec(rotvec_rad) @ pose.matrix)


def distance(q, target):
    """How far the fingertip at joints ``q`` is from ``target``: metres, radians."""
    error = ik.pose_error(panda.ee_pose(q), target)
    return np.linalg.norm(error[..., :3], axis=-1), np.linalg.norm(error[..., 3:], axis=-1)


def within_limits(q):
    return bool(np.all(q >= LOWER_RAD) and np.all(q <= UPPER_RAD))


@given(unit_vectors, st.floats(0.0, 0.05), unit_vectors, st.floats(0.0, 0.3))
def test_a_targets_step_of_one_control_period_is_met_within_3_millimetres(direction, step_m, axis, turn_rad):
    target = moved(panda.ee_pose(panda.RESET_RAD), step_m * direction, turn_rad * axis)

    off_m, off_rad = distance(ik.solve(panda.RESET_RAD, target), target)

    assert off_m < 3e-3
    assert off_rad < np.deg2rad(0.5)


@given(unit_vectors, st.floats(0.0, 0.05))
def test_a_resting_target_is_met_ever_more_closely(direction, step_m):
    target = moved(panda.ee_pose(panda.RESET_RAD), step_m * direction, np.zeros(3))
    q = ik.solve(panda.RESET_RAD, target)
    for _ in range(10):
        q = ik.solve(q, target)

    off_m, off_rad = distance(q, target)
    assert off_m < 1e-4
    assert off_rad < 1e-3


@given(joints(margin_rad=0.35), unit_vectors)
def test_away_from_the_limits_a_small_step_gets_closer(q, direction):
    target = moved(panda.ee_pose(q), 0.01 * direction, np.zeros(3))
    before = np.linalg.norm(ik.pose_error(panda.ee_pose(q), target))

    after = np.linalg.norm(ik.pose_error(panda.ee_pose(ik.solve(q, target, PATIENT)), target))

    assert after <= before + 1e-9


@given(joints(), anywhere_m, matrices)
def test_whatever_is_asked_for_the_joints_stay_within_the_limits_and_finite(seed, position, matrix):
    q = ik.solve(seed, spaces.Pose(position, matrix))

    assert np.all(np.isfinite(q))
    assert within_limits(q)


@given(joints(margin_rad=0.2), anywhere_m, matrices)
def test_one_step_moves_no_joint_farther_than_the_settings_allow(q, position, matrix):
    change = ik.step(q, spaces.Pose(position, matrix), SETTINGS) - q

    assert np.max(np.abs(change)) <= SETTINGS.max_step_rad + 1e-12


@pytest.mark.parametrize(
    "position",
    [[3.0, 0.0, 0.5], [0.95, 0.35, 0.8], [0.8, 0.3, 0.1], [0.76, 0.3, 0.1], [0.3, 0.0, -0.5], [-1.0, 0.0, 0.3]],
)
def test_towards_a_target_out_of_reach_the_arm_comes_to_rest(position):
    target = spaces.Pose(np.array(position), panda.ee_pose(panda.RESET_RAD).matrix)
    q = panda.RESET_RAD
    for _ in range(200):
        q = ik.solve(q, target)

    settled = ik.solve(q, target)

    assert np.max(np.abs(settled - q)) < 1e-3
    assert distance(settled, target)[0] < distance(panda.RESET_RAD, target)[0]


def test_redundancy_is_spent_on_the_posture():
    target = panda.ee_pose(panda.RESET_RAD)
    q = panda.RESET_RAD + 0.15 * np.array([1, 0, -1, 0, 0.5, 0, 0.5])
    for _ in range(200):
        q = ik.solve(q, target)

    np.testing.assert_allclose(q, panda.RESET_RAD, rtol=0.0, atol=2e-3)


def test_a_batch_is_its_members():
    rng = np.random.default_rng(0)
    seeds = rng.uniform(LOWER_RAD, UPPER_RAD, (16, panda.DOF))
    targets = panda.ee_pose(seeds + rng.uniform(-0.1, 0.1, seeds.shape))

    batched = ik.solve(seeds, targets)

    for index, seed in enumerate(seeds):
        one = ik.solve(seed, spaces.Pose(targets.position[index], targets.matrix[index]))
        np.testing.assert_allclose(batched[index], one, rtol=0.0, atol=1e-9)
