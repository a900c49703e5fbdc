"""What may become a target: sound actions inside the box, a step at a time."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from resip import rotation, spaces
from resip.control import ik, panda
from resip.control.limits import (
    BOX_TOLERANCE_M,
    Limits,
    LimitsError,
    SpeedCheck,
    TorqueCheck,
    UnsoundActionError,
    blames_policy,
    check_action,
    check_joint_command,
    clip_pose,
    load_limits,
)
from ruamel.yaml import YAML

LIMITS = Limits()
HOME = panda.ee_pose(panda.RESET_RAD)


TO_THE_POINT = ik.IkSettings(iterations=40)


def moved(offset_m):
    return spaces.Pose(HOME.position + offset_m, HOME.matrix)


def beyond_box_m(q_rad, axis):
    tip_m = panda.ee_pose(q_rad).position[axis]
    return max(LIMITS.lower_m[axis] - tip_m, tip_m - LIMITS.upper_m[axis], 0.0)


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


@pytest.mark.parametrize(("axis", "offset_m"), [(2, (0.0, 0.0, -0.25)), (1, (0.0, 0.5, 0.0))])
def test_joint_commands_lead_the_fingertip_out_of_the_box_by_its_tolerance_at_most(axis, offset_m):
    shares = np.linspace(0, 1, 40)
    way = [ik.solve(panda.RESET_RAD, moved(np.array(offset_m) * share), TO_THE_POINT) for share in shares]
    refused = [check_joint_command(q, q_before, LIMITS) for q_before, q in itertools.pairwise(way)]
    beyond = [beyond_box_m(q, axis) for q in way[1:]]
    assert [problem is not None for problem in refused] == [m > BOX_TOLERANCE_M for m in beyond]
    assert f"out of the box along {'xyz'[axis]}" in refused[-1]
    # and it may always come back
    assert all(check_joint_command(q, q_before, LIMITS) is None for q_before, q in itertools.pairwise(way[::-1]))


# ---- the file of a cell ----

SHIPPED = Path(__file__).parents[2] / "ros2_ws/src/resip/config/limits.yaml"


@pytest.fixture
def limits_file(tmp_path):
    """Write the shipped file with changes; a value of None takes the line out."""

    def write(**changes):
        values = YAML(typ="safe", pure=True).load(SHIPPED) | changes
        path = tmp_path / "limits.yaml"
        path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
        return path

    return write


def test_the_shipped_file_holds_the_limits_that_training_knows():
    assert load_limits(SHIPPED) == Limits() == load_limits("")


def test_everything_that_is_wrong_with_a_file_is_in_one_message(limits_file):
    path = limits_file(max_step_m=None, lower_m=[0.0, 0.0, 0.0], velocity_margin="much", max_stepp_m=0.1)
    with pytest.raises(LimitsError) as refused:
        load_limits(path)
    for words in (str(path), "max_step_m is missing", "did you mean 'max_step_m'", "lower_m is [0.0", "'much'"):
        assert words in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lower_m": [0.5, 0.0, 0.2], "upper_m": [0.6, 0.1, 0.1]}, "lower_m is not below upper_m"),
        ({"max_step_m": 0.15, "max_jump_m": 0.1}, "max_step_m is not below max_jump_m"),
        ({"joint_velocity_rad_s": [1.0] * 6}, "7 numbers"),
        ({"joint_velocity_rad_s": [9.0] * 7}, "outside"),
        ({"joint_margin_rad": 0.0}, "joint_margin_rad is 0.0, outside 0.2"),
        ({"max_step_m": True}, "not a number"),
        ({"external_torque_nm": 20.0}, "7 numbers"),
    ],
)
def test_a_wrong_value_is_named(limits_file, change, words):
    with pytest.raises(LimitsError, match=words):
        load_limits(limits_file(**change))


def test_a_file_that_is_not_there_or_no_yaml_is_one_error(tmp_path):
    with pytest.raises(LimitsError, match="No such file"):
        load_limits(tmp_path / "none.yaml")
    (tmp_path / "odd.yaml").write_text("lower_m: [1, 2")
    with pytest.raises(LimitsError, match="no YAML"):
        load_limits(tmp_path / "odd.yaml")


# ---- at the bridge ----


def test_commands_at_the_limit_pass_and_faster_ones_are_refused_by_the_joints_name():
    speed = SpeedCheck(LIMITS)
    at_limit = np.array(LIMITS.joint_velocity_rad_s)
    assert all(speed.check(panda.RESET_RAD + at_limit * t, t) is None for t in np.arange(0.0, 0.5, 0.01))
    speed.reset()
    fast = at_limit * np.array([1, 1, 1, 1, 1.5, 1, 1])
    refused = [speed.check(panda.RESET_RAD + fast * t, t) for t in np.arange(0.0, 0.2, 0.01)]
    assert refused[0] is None
    assert "panda_joint5 is commanded at 3.00 rad/s" in refused[-1]


def test_a_knock_is_overlooked_and_a_jam_is_not():
    torques, jam = TorqueCheck(LIMITS), np.zeros(7)
    jam[6] = -LIMITS.external_torque_nm[6] - 1.0
    assert torques.check(jam, 0.0) is None
    assert torques.check(np.zeros(7), 0.05) is None
    assert torques.check(jam, 0.1) is None
    assert torques.check(jam, 0.19) is None
    assert "panda_joint7 with 21 Nm" in torques.check(jam, 0.21)


def test_a_policy_is_blamed_for_what_it_asked_and_pressed_and_for_nothing_else():
    turn = spaces.Pose(HOME.position, HOME.matrix @ rotation.matrix_from_rotvec([0.0, 0.0, 2.5]))
    unsound = UnsoundActionError(check_action(spaces.pack_action(turn.position, turn.matrix, -1.0), HOME, LIMITS))
    assert str(unsound) == "unsound action: the target turns by 2.50 rad, more than 2.0 rad in one tick"
    assert blames_policy(f"supervisor_node: stopped until armed again: policy: {unsound}")
    torques, jam = TorqueCheck(LIMITS), np.full(7, 100.0)
    torques.check(jam, 0.0)
    assert blames_policy(f"franka_bridge_node: {torques.check(jam, 0.2)}")
    assert not blames_policy("supervisor_node: stopped until armed again: front camera: silent for 0.09 s")
    assert not blames_policy("franka_bridge_node: the robot's server was lost: CANCELLED")
