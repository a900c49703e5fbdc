"""What may become a target: sound actions inside the box, a step at a time."""

import numpy as np
import pytest
from resip import rotation, spaces
from resip.control import panda
from resip.control.limits import Limits, check_action, check_joint_command, clip_pose

LIMITS = Limits()
HOME = panda.ee_pose(panda.RESET_RAD)


def action(offset_m=(0.0, 0.0, 0.0), turn_rad=0.0, gripper=-1.0):
    turned = rotation.matrix_from_rotvec([0.0, 0.0, turn_rad]) @ HOME.matrix
    return spaces.pack_action(HOME.position + offset_m, turned, gripper)


def test_a_small_step_is_sound():
    assert check_action(action((0.02, 0.0, 0.01), 0.1), HOME, LIMITS) is None


@pytest.mark.parametrize("index", range(spaces.ACTION_DIM))
def test_an_action_that_is_not_finite_is_refused_wherever_it_is(index):
    bad = action()
    bad[index] = np.nan
    assert f"not finite at index {index}" in check_action(bad, HOME, LIMITS)


def test_an_action_of_the_wrong_shape_is_refused():
    assert "shape" in check_action(np.zeros(8), HOME, LIMITS)


def test_parallel_rows_are_no_rotation():
    bad = action()
    bad[spaces.ACTION_ROT6D] = [1, 0, 0, 1, 0, 0]
    assert "no rotation" in check_action(bad, HOME, LIMITS)


def test_jumps_are_refused():
    assert "jumps" in check_action(action((LIMITS.max_jump_m + 0.01, 0.0, 0.0)), HOME, LIMITS)
    assert "turns" in check_action(action(turn_rad=LIMITS.max_jump_rad + 0.01), HOME, LIMITS)


def test_a_target_within_a_step_and_the_box_stays_as_it_is():
    target = spaces.action_pose(action((0.03, -0.02, 0.01), 0.3))
    clipped = clip_pose(target, HOME, LIMITS)
    np.testing.assert_array_equal(clipped.position, target.position)
    np.testing.assert_array_equal(clipped.matrix, target.matrix)


def test_a_far_target_is_approached_along_the_straight_line():
    target = spaces.action_pose(action((0.3, 0.0, 0.4), 2.0))
    clipped = clip_pose(target, HOME, LIMITS)
    step = clipped.position - HOME.position
    assert np.linalg.norm(step) == pytest.approx(LIMITS.max_step_m)
    np.testing.assert_allclose(np.cross(step, target.position - HOME.position), 0.0, atol=1e-9)
    assert rotation.angle_between(HOME.matrix, clipped.matrix) == pytest.approx(LIMITS.max_step_rad)
    remaining = rotation.angle_between(clipped.matrix, target.matrix)
    assert remaining == pytest.approx(2.0 - LIMITS.max_step_rad)


def test_targets_outside_the_box_end_on_its_wall():
    pose = HOME
    for _ in range(20):
        pose = clip_pose(spaces.Pose(np.array([2.0, -2.0, -2.0]), HOME.matrix), pose, LIMITS)
    np.testing.assert_allclose(pose.position, [LIMITS.upper_m[0], LIMITS.lower_m[1], LIMITS.lower_m[2]], atol=1e-9)


def test_joint_commands_near_the_measured_joints_are_sound():
    assert check_joint_command(panda.RESET_RAD + 0.1, panda.RESET_RAD, LIMITS) is None


def test_unsound_joint_commands_are_refused_by_the_joints_name():
    far = panda.RESET_RAD.copy()
    far[2] += LIMITS.max_joint_lead_rad + 0.01
    assert "panda_joint3" in check_joint_command(far, panda.RESET_RAD, LIMITS)
    near_limit = panda.RESET_RAD.copy()
    near_limit[3] = panda.HARD_UPPER_RAD[3] - LIMITS.joint_margin_rad / 2
    assert "panda_joint4" in check_joint_command(near_limit, near_limit, LIMITS)
    bad = panda.RESET_RAD.copy()
    bad[6] = np.inf
    assert "panda_joint7" in check_joint_command(bad, panda.RESET_RAD, LIMITS)
    assert "shape" in check_joint_command(np.zeros(6), panda.RESET_RAD, LIMITS)
