"""The joint servo: what reaches the arm is continuous, limited in speed, and ends with its target."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from resip import rotation, spaces
from resip.control import ik, panda
from resip.control.limits import Limits
from resip.control.servo import PoseServo
from strategies import unit_vectors

PERIOD_S = spaces.CONTROL_PERIOD_S
STEP_S = 0.01

#: A policy's targets: each a step (direction, metres, axis, radians) away from the one before.
steps = st.lists(
    st.tuples(unit_vectors, st.floats(0.0, 0.15), unit_vectors, st.floats(0.0, 0.8)), min_size=1, max_size=6
)


def moved(pose, direction, step_m, axis, turn_rad):
    matrix = rotation.matrix_from_axis_angle(axis, turn_rad) @ pose.matrix
    return spaces.Pose(pose.position + step_m * direction, matrix)


def batch(*poses):
    return spaces.Pose(np.stack([pose.position for pose in poses]), np.stack([pose.matrix for pose in poses]))


def follow(targets, limits=None):
    """Command every 10 ms (n, 7) while the targets come at 10 Hz, and for a second after the last."""
    servo = PoseServo(limits=limits)
    servo.reset(panda.RESET_RAD, 0.0)
    ticks = round(PERIOD_S / STEP_S)
    commands = [servo.sample(0.0)[0]]
    for index in range(ticks * (len(targets) + 10)):
        if index % ticks == 0 and index // ticks < len(targets):
            servo.set_target(batch(targets[index // ticks]), index * STEP_S)
        commands.append(servo.sample((index + 1) * STEP_S)[0])
    return np.stack(commands)


def path(taken):
    poses = [panda.ee_pose(panda.RESET_RAD)]
    for step in taken:
        poses.append(moved(poses[-1], *step))
    return poses[1:]


@given(steps)
def test_no_joint_is_ever_commanded_faster_than_its_limit(taken):
    commands = follow(path(taken))

    speed_rad_s = np.abs(np.diff(commands, axis=0)) / STEP_S
    assert np.all(speed_rad_s <= panda.COMMAND_VELOCITY_RAD_S + 1e-9)


@given(steps)
def test_the_command_never_leaves_the_joint_limits(taken):
    commands = follow(path(taken))

    margin_rad = ik.IkSettings().limit_margin_rad - 1e-12
    assert np.all(commands >= panda.HARD_LOWER_RAD + margin_rad)
    assert np.all(commands <= panda.HARD_UPPER_RAD - margin_rad)


@given(steps)
def test_a_new_target_starts_from_where_the_command_is(taken):
    servo = PoseServo()
    servo.reset(panda.RESET_RAD, 0.0)
    for index, target in enumerate(path(taken)):
        time_s = 0.07 * index  # before the last one was reached
        before = servo.sample(time_s)
        servo.set_target(batch(target), time_s)
        np.testing.assert_array_equal(servo.sample(time_s), before)


@given(unit_vectors, st.floats(0.001, 0.03))
def test_a_target_is_reached_one_period_later_in_equal_steps(direction, step_m):
    target = moved(panda.ee_pose(panda.RESET_RAD), direction, step_m, np.array([0.0, 0.0, 1.0]), 0.0)
    commands = follow([target])

    travelled = commands[: round(PERIOD_S / STEP_S) + 1]
    np.testing.assert_allclose(np.diff(travelled, n=2, axis=0), 0.0, rtol=0.0, atol=1e-12)
    assert np.linalg.norm(panda.ee_pose(travelled[-1]).position - target.position) < 1e-3


@given(steps)
def test_when_targets_stop_coming_the_command_stands_still(taken):
    commands = follow(path(taken))

    np.testing.assert_array_equal(commands[-1], commands[-2])


def test_the_command_does_not_droop_with_an_arm_that_lags_behind():
    held = panda.ee_pose(panda.RESET_RAD)
    commands = follow([held] * 20)

    assert np.linalg.norm(panda.ee_pose(commands[-1]).position - held.position) < 1e-6


def test_a_reset_holds_the_measured_joints_of_those_entries_only():
    servo = PoseServo(batch_size=2)
    elsewhere = panda.RESET_RAD + 0.1
    target = moved(panda.ee_pose(panda.RESET_RAD), np.array([0.0, 0.0, 1.0]), 0.02, np.array([0.0, 0.0, 1.0]), 0.0)
    servo.set_target(batch(target, target), 0.0)
    undisturbed = servo.sample(1.0)[0]

    servo.reset(elsewhere, 0.5, ids=[1])

    np.testing.assert_array_equal(servo.sample(1.0), [undisturbed, elsewhere])


@given(st.lists(st.tuples(unit_vectors, st.floats(0.0, 0.1)), min_size=2, max_size=4))
def test_a_batch_is_its_members(taken):
    targets = [moved(panda.ee_pose(panda.RESET_RAD), *step, np.array([0.0, 0.0, 1.0]), 0.1) for step in taken]
    together = PoseServo(batch_size=len(targets))
    together.set_target(batch(*targets), 0.2)

    for index, target in enumerate(targets):
        alone = PoseServo()
        alone.set_target(batch(target), 0.2)
        for time_s in (0.2, 0.25, 0.6):
            np.testing.assert_allclose(together.sample(time_s)[index], alone.sample(time_s)[0], rtol=0.0, atol=1e-9)


@given(steps)
def test_no_joint_gains_speed_faster_than_its_limit(taken):
    gentle = Limits(joint_acceleration_rad_s2=(2.0,) * 7)
    speed_rad_s = np.abs(np.diff(follow(path(taken), gentle), axis=0)) / STEP_S
    assert np.all(speed_rad_s[1:] <= speed_rad_s[:-1] + 2.0 * PERIOD_S + 1e-6)
