"""From deflection to target: dead zone, limits of a step, frames, gripper and deadman."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resip import rotation, spaces
from resip.errors import ResipError
from resip.teleop.profile import PROFILES, PROFILES_OF
from resip.teleop.source import Button, Motion
from resip.teleop.target import DEBOUNCE_STEPS, GRIPPER_STEPS, TargetGenerator

profiles = st.sampled_from(sorted(PROFILES)).map(PROFILES.__getitem__)
counts = st.floats(-2000, 2000)
vectors = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array)
TOOL_DOWN = rotation.matrix_from_rotvec([np.pi, 0.0, 0.0])
MEASURED = spaces.Pose(np.array([0.5, 0.1, 0.2]), TOOL_DOWN)
WIDE_M, NARROW_M = 0.065, 0.02


def motion(translation=(0, 0, 0), turn=(0, 0, 0), pressed=(), down=()):
    return Motion(np.array(translation, float), np.array(turn, float), frozenset(pressed), frozenset(down), 0.0)


@given(profiles, counts)
def test_deflection_is_odd_bounded_and_nothing_in_the_dead_zone(profile, raw):
    value = float(profile.deflection(raw))
    assert -1.0 <= value <= 1.0
    assert value == -float(profile.deflection(-raw))
    assert (value == 0.0) == (abs(raw) / profile.full_scale <= profile.dead_zone)


@given(profiles, counts, counts)
def test_deflection_grows_without_a_jump(profile, a, b):
    low, high = sorted((a, b))
    rise = float(profile.deflection(high) - profile.deflection(low))
    assert -1e-12 <= rise <= (high - low) / profile.full_scale / (1 - profile.dead_zone) + 1e-12


@given(profiles, vectors, vectors)
def test_no_step_is_longer_than_the_profiles_limits(profile, translation, turn):
    translation_m, rotation_rad = profile.step(motion(translation, turn))
    assert np.linalg.norm(translation_m) <= profile.max_translation_m + 1e-12
    assert np.linalg.norm(rotation_rad) <= profile.max_rotation_rad + 1e-12
    assert np.linalg.norm(np.cross(translation_m, translation)) <= 1e-12  # cut, but not turned aside


@given(profiles, vectors, vectors)
def test_a_target_lies_one_step_from_the_measured_pose(profile, translation, turn):
    asked = motion(translation, turn)
    target = TargetGenerator(profile).step(asked, MEASURED, WIDE_M)
    if not asked.moves:
        assert target is None
        return
    assert np.linalg.norm(target.pose.position - MEASURED.position) <= profile.max_translation_m + 1e-9
    assert rotation.angle_between(MEASURED.matrix, target.pose.matrix) <= profile.max_rotation_rad + 1e-6


@pytest.mark.parametrize(
    "wrong", [{"dead_zone": 1.0}, {"dead_zone": -0.1}, {"full_scale": 0.0}, {"max_translation_m": float("nan")}]
)
def test_a_profile_that_cannot_be_is_refused_by_name(wrong):
    with pytest.raises(ResipError, match=next(iter(wrong))):
        dataclasses.replace(PROFILES["fine"], **wrong)


def test_every_profile_belongs_to_one_source():
    assert sorted(name for names in PROFILES_OF.values() for name in names) == sorted(PROFILES)


def test_targets_start_anew_from_the_measured_pose():
    targets = TargetGenerator(PROFILES["fine"])
    for _ in range(50):  # an arm that cannot follow
        target = targets.step(motion([1, 0, 0]), MEASURED, WIDE_M)
    np.testing.assert_allclose(target.pose.position, MEASURED.position + [0.008, 0, 0])


@pytest.mark.parametrize(("frame", "axis"), [("base", [0, 0, 1]), ("tool", [0, 0, -1])])
def test_turns_are_about_the_axes_of_the_frame(frame, axis):
    profile = dataclasses.replace(PROFILES["fine"], rotation_frame=frame)
    target = TargetGenerator(profile).step(motion(turn=[0, 0, 1]), MEASURED, WIDE_M)
    turned = rotation.rotvec_from_matrix(target.pose.matrix @ MEASURED.matrix.T)  # in the base's axes
    np.testing.assert_allclose(turned, 0.08 * np.array(axis), atol=1e-9)


def test_without_motion_there_is_no_target():
    assert TargetGenerator(PROFILES["wired"]).step(motion(), MEASURED, WIDE_M) is None


@pytest.mark.parametrize(
    ("width_m", "first", "toggled"),
    [(WIDE_M, spaces.GRIPPER_OPEN, spaces.GRIPPER_CLOSE), (NARROW_M, spaces.GRIPPER_CLOSE, spaces.GRIPPER_OPEN)],
)
def test_the_gripper_goes_on_from_what_it_does_and_toggles(width_m, first, toggled):
    targets = TargetGenerator(PROFILES["wired"])
    assert targets.step(motion([1, 0, 0]), MEASURED, width_m).gripper == first
    assert targets.step(motion(pressed={Button.GRIPPER}), MEASURED, width_m).gripper == toggled
    assert targets.step(motion([1, 0, 0]), MEASURED, width_m).gripper == toggled


def test_a_second_press_within_the_debounce_does_nothing():
    targets = TargetGenerator(PROFILES["wired"])
    press = motion(pressed={Button.GRIPPER})
    grippers = [targets.step(press, MEASURED, WIDE_M).gripper for _ in range(DEBOUNCE_STEPS + 1)]
    assert grippers == [spaces.GRIPPER_CLOSE] * DEBOUNCE_STEPS + [spaces.GRIPPER_OPEN]


def test_the_arm_stands_still_while_the_gripper_moves():
    targets = TargetGenerator(PROFILES["wired"])
    targets.step(motion(pressed={Button.GRIPPER}), MEASURED, WIDE_M)
    sunk = dataclasses.replace(MEASURED, position=MEASURED.position - [0, 0, 0.01])
    held = [targets.step(motion(), sunk, NARROW_M) for _ in range(GRIPPER_STEPS)]
    assert [target is not None for target in held] == [True] * (GRIPPER_STEPS - 1) + [False]
    np.testing.assert_array_equal(held[-2].pose.position, MEASURED.position)


def test_a_deadman_button_that_is_not_held_lets_nothing_through():
    targets = TargetGenerator(PROFILES["wired"], "button")
    assert targets.step(motion([1, 0, 0], pressed={Button.GRIPPER}), MEASURED, WIDE_M) is None
    still = targets.step(motion(down={Button.DEADMAN}), MEASURED, WIDE_M)
    np.testing.assert_array_equal(still.pose.position, MEASURED.position)
    assert still.gripper == spaces.GRIPPER_OPEN  # the press before was not kept for later
