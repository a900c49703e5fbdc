"""Kinematics of the arm, against published numbers and finite differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resip import rotation, spaces
from resip.control import panda
from strategies import joints

# Rest pose of the Polymetis configuration, and where its own model puts panda_link8 there.
REST_RAD = np.array([-0.13935, -0.02048, -0.05201, -2.06913, 0.05059, 2.00287, -0.91679])
REST_FLANGE_M = [0.52873, -0.09943, 0.43643]
REST_FLANGE_QUAT = [0.93832, 0.34422, -0.00724, -0.03182]

STEP_RAD = 1e-6
speeds = st.tuples(*[st.floats(-2.0, 2.0)] * panda.DOF).map(np.array)


def test_the_flange_at_polymetis_rest_pose():
    pose = panda.flange_pose(REST_RAD)

    np.testing.assert_allclose(pose.position, REST_FLANGE_M, rtol=0.0, atol=1e-5)
    expected = rotation.matrix_from_quat(REST_FLANGE_QUAT)
    np.testing.assert_allclose(pose.matrix, expected, rtol=0.0, atol=2e-5)


def test_the_reset_pose_holds_the_gripper_down_over_the_table():
    pose = panda.ee_pose(panda.RESET_RAD)

    np.testing.assert_allclose(pose.position, [0.567, 0.055, 0.124], rtol=0.0, atol=5e-3)
    assert pose.matrix[2, 2] < -0.99


@given(joints())
def test_the_fingertip_is_10_cm_along_the_flange_and_turned_by_minus_45_degrees(q):
    flange, fingertip = panda.flange_pose(q), panda.ee_pose(q)

    offset = flange.matrix.T @ (fingertip.position - flange.position)
    turn = rotation.rotvec_from_matrix(flange.matrix.T @ fingertip.matrix)
    np.testing.assert_allclose(offset, [0.0, 0.0, 0.1034], rtol=0.0, atol=1e-12)
    np.testing.assert_allclose(turn, [0.0, 0.0, -np.pi / 4], rtol=0.0, atol=1e-9)


def finite_differences(pose_of, q):
    """Twist per joint (6, 7), by central differences of a forward-kinematics function."""
    columns = []
    for step in STEP_RAD * np.eye(panda.DOF):
        ahead, behind = pose_of(q + step), pose_of(q - step)
        linear = ahead.position - behind.position
        angular = rotation.rotvec_from_matrix(ahead.matrix @ behind.matrix.T)
        columns.append(np.concatenate([linear, angular]) / (2 * STEP_RAD))
    return np.stack(columns, axis=-1)


@given(joints())
def test_the_jacobian_is_the_derivative_of_the_fingertips_pose(q):
    pose, jacobian = panda.ee_pose_and_jacobian(q)

    np.testing.assert_array_equal(pose.position, panda.ee_pose(q).position)
    np.testing.assert_allclose(jacobian, finite_differences(panda.ee_pose, q), rtol=0.0, atol=1e-7)


@given(joints())
def test_the_flange_jacobian_is_the_derivative_of_the_flanges_pose(q):
    np.testing.assert_allclose(panda.flange_jacobian(q), finite_differences(panda.flange_pose, q), rtol=0.0, atol=1e-7)


@given(joints(), speeds)
def test_the_robot_state_carries_the_velocity_of_the_fingertip(q, qd):
    state = panda.robot_state(q, qd, 0.05)

    dt_s = 1e-6
    ahead, behind = panda.ee_pose(q + dt_s * qd), panda.ee_pose(q - dt_s * qd)
    linear = (ahead.position - behind.position) / (2 * dt_s)
    angular = rotation.rotvec_from_matrix(ahead.matrix @ behind.matrix.T) / (2 * dt_s)
    np.testing.assert_allclose(state[spaces.STATE_LINEAR_VELOCITY], linear, rtol=0.0, atol=1e-6)
    np.testing.assert_allclose(state[spaces.STATE_ANGULAR_VELOCITY], angular, rtol=0.0, atol=1e-6)
    np.testing.assert_array_equal(state[spaces.STATE_POSITION], panda.ee_pose(q).position)
    assert state[spaces.STATE_GRIPPER_WIDTH] == 0.05


def test_a_batch_is_its_members():
    batch = np.random.default_rng(0).uniform(panda.LOWER_RAD, panda.UPPER_RAD, (2, 3, panda.DOF))
    pose, jacobian = panda.ee_pose_and_jacobian(batch)

    for index in np.ndindex(2, 3):
        one, one_jacobian = panda.ee_pose_and_jacobian(batch[index])
        np.testing.assert_allclose(pose.position[index], one.position, rtol=0.0, atol=1e-15)
        np.testing.assert_allclose(pose.matrix[index], one.matrix, rtol=0.0, atol=1e-15)
        np.testing.assert_allclose(jacobian[index], one_jacobian, rtol=0.0, atol=1e-15)


def test_another_number_of_joints_is_refused():
    with pytest.raises(ValueError, match=r"7 joints, got an array of shape \(6,\)"):
        panda.ee_pose(np.zeros(6))
