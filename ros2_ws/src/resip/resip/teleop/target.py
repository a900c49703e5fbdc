"""From what the operator asks for to targets of the fingertip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from resip import rotation, spaces
from resip.teleop.profile import Profile
from resip.teleop.source import Button, Motion

Deadman = Literal["motion", "button"]

#: Steps in which the gripper is not toggled again.
DEBOUNCE_STEPS: Final = 10
#: Steps in which the arm stands still and targets go on, so that the gripper's motion is in the recording.
GRIPPER_STEPS: Final = 15
#: A hand wider than this is taken for open at the start: the reference opens to 0.065 m, parts are narrower.
_OPEN_FROM_M: Final = 0.055


@dataclass(frozen=True)
class Target:
    """What the policy would say: fingertip pose (base frame), gripper +1 close, -1 open."""

    pose: spaces.Pose
    gripper: float


class TargetGenerator:
    """Turns motions into targets, a call a control step.

    Every moving step starts anew from the measured pose, so that nothing adds up while the arm cannot follow. A
    step without motion keeps the pose it began with, so that the arm does not sink. Where the deadman is off there
    is no target, and no target is a hold.

    Args:
      profile: gives the size of steps and the frame of turns.
      deadman: ``motion``: targets while there is motion, or the gripper moves; ``button``: while it is held.
    """

    def __init__(self, profile: Profile, deadman: Deadman = "motion") -> None:
        self._profile = profile
        self._deadman = deadman
        self.reset()

    def reset(self, gripper: float | None = None) -> None:
        """Forget the pose that was held, and the gripper's state unless it is given."""
        self._gripper = gripper
        self._since_toggle = DEBOUNCE_STEPS + GRIPPER_STEPS
        self._held: spaces.Pose | None = None

    def release(self) -> None:
        """Forget the pose that was held: time went by without targets."""
        self._held = None
        self._since_toggle = max(self._since_toggle, GRIPPER_STEPS)

    def step(self, motion: Motion, measured: spaces.Pose, width_m: float) -> Target | None:
        """Target of this control step; None while the deadman is off.

        Args:
          motion: what the operator asks for.
          measured: the fingertip's pose now.
          width_m: between the fingers; tells the gripper's state before the first toggle.
        """
        allowed = self._deadman == "motion" or Button.DEADMAN in motion.down
        gripper = self._gripper_after(motion, width_m, allowed)
        working = motion.moves or self._since_toggle < GRIPPER_STEPS
        if not allowed or (self._deadman == "motion" and not working):
            self._held = None
            return None
        if motion.moves:
            self._held = None
            return Target(self._moved(motion, measured), gripper)
        self._held = self._held or measured
        return Target(self._held, gripper)

    def _gripper_after(self, motion: Motion, width_m: float, allowed: bool) -> float:
        self._since_toggle += 1
        if self._gripper is None:
            self._gripper = spaces.GRIPPER_OPEN if width_m > _OPEN_FROM_M else spaces.GRIPPER_CLOSE
        if allowed and Button.GRIPPER in motion.pressed and self._since_toggle >= DEBOUNCE_STEPS:
            self._gripper = -self._gripper
            self._since_toggle = 0
        return self._gripper

    def _moved(self, motion: Motion, measured: spaces.Pose) -> spaces.Pose:
        translation_m, rotation_rad = self._profile.step(motion)
        turn = rotation.matrix_from_rotvec(rotation_rad)
        matrix = turn @ measured.matrix if self._profile.rotation_frame == "base" else measured.matrix @ turn
        return spaces.Pose(measured.position + translation_m, matrix)
