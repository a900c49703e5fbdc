"""Demonstrations by hand in the training environment: an operator's motions in, a data set out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from resip import rotation, spaces
from resip.errors import ResipError
from resip.teleop.profile import PROFILES, Profile
from resip.teleop.source import Button, Motion, RawInput, SourceError, SourceLostError
from resip.teleop.target import TargetGenerator
from resip_training.agents import ExpertAgent
from resip_training.data.operate import UNDO_STEPS, Attempt, Hand, operate, operate_in_viewer
from resip_training.data.store import DemoSet
from resip_training.sim.env import AssemblyEnv

TASK = "peg_hole"
#: Takes a motion's numbers for metres and radians.
DIRECT = Profile(
    full_scale=1.0,
    dead_zone=0.0,
    translation_step_m=1.0,
    rotation_step_rad=1.0,
    max_translation_m=1.0,
    max_rotation_rad=4.0,
    rotation_frame="base",
)
STILL = np.zeros(3)


def motion(translation=STILL, turn=STILL, *pressed: Button) -> Motion:
    return Motion(np.asarray(translation, float), np.asarray(turn, float), frozenset(pressed), frozenset(), 0.0)


class SkilledOperator:
    """Sees the world as the window shows it, and moves as the expert would."""

    def __init__(self, first: Motion | None = None) -> None:
        self._first = [] if first is None else [first]
        self._gripper = spaces.GRIPPER_OPEN

    def watch(self, env: AssemblyEnv) -> bool:
        self._env = env
        return True

    def open(self) -> str:
        return "a skilled hand"

    def read(self, timeout_s: float) -> RawInput | None:
        return None

    def close(self) -> None:
        pass

    def sample(self, now_s: float) -> Motion | str:
        if self._first:
            return self._first.pop()
        env = self._env
        seen = {"robot_state": env.robot_state(), "part_poses": env.part_poses().reshape(1, -1)}
        action = ExpertAgent(env.task)(env, seen, np.array([0]))[0]
        target, state = spaces.action_pose(action), seen["robot_state"][0]
        matrix = rotation.matrix_from_rot6d(state[spaces.STATE_ROT6D])
        gripper = float(spaces.gripper_command(action))
        pressed = (Button.GRIPPER,) if gripper != self._gripper else ()
        self._gripper = gripper
        turn = rotation.rotvec_from_matrix(target.matrix @ matrix.T)
        return motion(target.position - state[spaces.STATE_POSITION], turn, *pressed)


def test_what_an_operator_does_until_it_succeeds_is_a_demonstration(tmp_path: Path) -> None:
    operator = SkilledOperator(first=motion(STILL, STILL, Button.DISCARD))
    operate(TASK, 1, 700, "low", tmp_path / "set", operator, DIRECT, operator.watch, images=False, period_s=0.0)
    demos = DemoSet(tmp_path / "set", task=TASK)
    assert demos.seeds.tolist() == [700]
    assert demos.success.all()
    assert demos.provenance["source"] == "teleop"
    assert demos.has_worlds
    assert np.ptp(demos.action[:, -1]) == 2.0, "the gripper closes in it"


def test_a_closed_window_ends_it_and_the_set_is_completed_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = SkilledOperator()
    operate(TASK, 1, 700, "low", tmp_path, operator, DIRECT, lambda env: False, images=False, period_s=0.0)
    assert "0 demonstrations, 0 steps" in capsys.readouterr().out
    operate(TASK, 1, 700, "low", tmp_path, operator, DIRECT, operator.watch, images=False, period_s=0.0)
    assert DemoSet(tmp_path, task=TASK).seeds.tolist() == [700]


def test_the_world_stands_still_while_the_operator_does() -> None:
    env = AssemblyEnv(TASK, 1, threads=1)
    attempt = Attempt(env, 700, TargetGenerator(DIRECT))
    before = env.robot_state()
    assert attempt.advance(motion()) is None
    assert len(attempt) == 0
    np.testing.assert_array_equal(env.robot_state(), before)
    env.close()


def test_undo_takes_the_world_back_and_the_recording_with_it() -> None:
    env = AssemblyEnv(TASK, 1, threads=1)
    attempt = Attempt(env, 700, TargetGenerator(DIRECT))
    attempt.undo()  # nothing to undo
    states = []
    for _ in range(UNDO_STEPS + 5):
        states.append(env.robot_state()[0])
        attempt.advance(motion([0.0, 0.005, 0.0]))
    attempt.undo()
    assert len(attempt) == 5
    np.testing.assert_array_equal(env.robot_state()[0], states[5])
    attempt.advance(motion([0.0, 0.005, 0.0]))
    np.testing.assert_allclose(env.robot_state()[0], states[6], atol=1e-9)  # and goes on from there
    attempt.undo()
    assert len(attempt) == 0
    np.testing.assert_array_equal(env.robot_state()[0], states[0])
    env.close()


class LosingSource(SkilledOperator):
    def __init__(self, error: SourceError) -> None:
        super().__init__()
        self._error = error

    def read(self, timeout_s: float) -> RawInput | None:
        raise self._error

    def sample(self, now_s: float) -> Motion | str:
        raise AssertionError("a lost device is not asked")


def test_a_lost_device_is_told_once_and_is_no_motion() -> None:
    said: list[str] = []
    hand = Hand(LosingSource(SourceLostError("SpaceMouse was unplugged")), said.append, period_s=0.001)
    assert [hand.motion() for _ in range(5)] == [None] * 5
    assert said == ["reading a skilled hand", "holding: SpaceMouse was unplugged; trying again"]


@pytest.mark.parametrize(
    ("source", "profile", "message"),
    [("joystick", "", "keyboard, spacemouse"), ("keyboard", "fine", "choose from keyboard")],
)
def test_unknown_sources_and_profiles_are_refused(tmp_path: Path, source: str, profile: str, message: str) -> None:
    assert "fine" in PROFILES
    with pytest.raises(ResipError, match=message):
        operate_in_viewer(TASK, 1, 0, "low", tmp_path, source, profile, images=False)
