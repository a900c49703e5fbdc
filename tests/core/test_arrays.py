"""Geometry and control give for tensors what they give for numpy arrays, and need no torch for those."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from resip import arrays, rotation, spaces
from resip.control import ik, panda
from resip.control.servo import PoseServo
from strategies import components, joints, matrices, rotvecs

vectors = st.tuples(components, components, components).map(np.array)
speeds = st.tuples(*[st.floats(-2.0, 2.0)] * panda.DOF).map(np.array)


def tensors(*values):
    return tuple(torch.as_tensor(np.array(value)) for value in values)


def assert_same(given_numpy, given_torch):
    """Compare results, a pose field by field."""
    if isinstance(given_numpy, spaces.Pose):
        assert_same(given_numpy.position, given_torch.position)
        assert_same(given_numpy.matrix, given_torch.matrix)
        return
    assert isinstance(given_torch, torch.Tensor)
    assert given_torch.dtype == torch.float64
    np.testing.assert_allclose(given_torch.numpy(), given_numpy, rtol=0.0, atol=1e-9)


@given(rotvecs)
def test_rotations_of_one_argument(rotvec):
    matrix = rotation.matrix_from_rotvec(rotvec)
    quat = rotation.quat_from_matrix(matrix)
    assert_same(matrix, rotation.matrix_from_rotvec(*tensors(rotvec)))
    assert_same(rotation.matrix_from_quat(quat), rotation.matrix_from_quat(*tensors(quat)))
    assert_same(rotation.quat_inverse(quat), rotation.quat_inverse(*tensors(quat)))
    assert_same(rotation.rot6d_from_matrix(matrix), rotation.rot6d_from_matrix(*tensors(matrix)))
    rows = rotation.rot6d_from_matrix(matrix)
    assert_same(rotation.matrix_from_rot6d(rows), rotation.matrix_from_rot6d(*tensors(rows)))
    # of a half turn either sign is right: the rotation is what must agree
    back = rotation.matrix_from_quat(rotation.quat_from_matrix(*tensors(matrix)))
    assert_same(matrix, back)
    assert_same(matrix, rotation.matrix_from_rotvec(rotation.rotvec_from_matrix(*tensors(matrix))))


@given(matrices, matrices, st.floats(0.0, 1.0))
def test_rotations_of_two_arguments(a, b, fraction):
    qa, qb = rotation.quat_from_matrix(a), rotation.quat_from_matrix(b)
    assert_same(rotation.quat_multiply(qa, qb), rotation.quat_multiply(*tensors(qa, qb)))
    assert_same(rotation.quat_in_hemisphere(qa, qb), rotation.quat_in_hemisphere(*tensors(qa, qb)))
    assert_same(rotation.angle_between(a, b), rotation.angle_between(*tensors(a, b)))
    if rotation.angle_between(a, b) < np.pi - 1e-6:  # a half turn goes either way round
        assert_same(rotation.interpolate(a, b, fraction), rotation.interpolate(*tensors(a, b, fraction)))


@given(joints(), speeds, st.floats(0.0, 0.08))
def test_kinematics(q, qd, width_m):
    assert_same(panda.flange_pose(q), panda.flange_pose(*tensors(q)))
    assert_same(panda.ee_pose(q), panda.ee_pose(*tensors(q)))
    assert_same(panda.flange_jacobian(q), panda.flange_jacobian(*tensors(q)))
    assert_same(panda.ee_pose_and_jacobian(q)[1], panda.ee_pose_and_jacobian(*tensors(q))[1])
    assert_same(panda.robot_state(q, qd, width_m), panda.robot_state(*tensors(q, qd, width_m)))


@given(vectors, matrices, st.floats(-1.0, 1.0))
def test_actions(position, matrix, gripper):
    action = spaces.pack_action(position, matrix, gripper)
    assert_same(action, spaces.pack_action(*tensors(position, matrix, gripper)))
    assert_same(spaces.action_pose(action), spaces.action_pose(*tensors(action)))
    assert_same(spaces.gripper_command(action), spaces.gripper_command(*tensors(action)))


@given(joints(), vectors, matrices)
def test_inverse_kinematics(q, offset, matrix):
    target = spaces.Pose(panda.ee_pose(q).position + 0.1 * offset, matrix)
    if np.linalg.norm(ik.pose_error(panda.ee_pose(q), target)[3:]) < np.pi - 1e-6:
        assert_same(ik.step(q, target, ik.IkSettings()), ik.step(*tensors(q), as_tensors(target), ik.IkSettings()))


def as_tensors(pose):
    return spaces.Pose(*tensors(pose.position, pose.matrix))


def test_the_servo():
    rng = np.random.default_rng(0)
    start = panda.ee_pose(panda.RESET_RAD)
    by_numpy, by_torch = PoseServo(4), PoseServo(4, kind=torch.zeros(0))
    for tick in range(20):
        target = spaces.Pose(start.position + rng.uniform(-0.05, 0.05, (4, 3)), np.tile(start.matrix, (4, 1, 1)))
        time_s = np.full(4, 0.1 * tick)
        by_numpy.set_target(target, time_s)
        by_torch.set_target(as_tensors(target), *tensors(time_s))
        assert_same(by_numpy.sample(time_s + 0.04), by_torch.sample(*tensors(time_s + 0.04)))
    for name, values in by_numpy.snapshot().items():
        assert_same(values, by_torch.snapshot()[name])


def test_a_tensor_of_no_direction_gives_no_number():
    actions = torch.zeros(2, spaces.ACTION_DIM)
    actions[1, 3:9] = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    matrix = spaces.action_pose(actions).matrix
    assert torch.isnan(matrix[0]).any()
    assert_same(np.eye(3), matrix[1])


def test_a_constant_reaches_a_device_once():
    there = torch.zeros(1)
    assert arrays.constant(panda.RESET_RAD, there) is arrays.constant(panda.RESET_RAD.copy(), there)
    assert arrays.constant(panda.RESET_RAD, np.zeros(1)) is panda.RESET_RAD


@pytest.mark.parametrize("module", ["resip.rotation", "resip.spaces", "resip.control.servo", "resip.control.limits"])
def test_control_needs_no_torch(module):
    code = f"import sys; sys.modules['torch'] = None; import {module}; assert sys.modules['torch'] is None"
    subprocess.run([sys.executable, "-c", code], check=True)
