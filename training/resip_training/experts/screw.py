"""Screwing a part in with the hand above it: grasp, turn, let go, turn back, again and again.

The hand points down. Its *heading* is the yaw of its x axis; turns are centred on the middle of the wrist's range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces

from resip_training.experts import motion
from resip_training.experts.motion import TRAVEL, Scene

Array = NDArray[np.float64]

TURN_RAD: Final = np.deg2rad(100.0)

START_HEADING_RAD: Final = motion.NEUTRAL_YAW_RAD + TURN_RAD / 2
_END_HEADING_RAD: Final = motion.NEUTRAL_YAW_RAD - TURN_RAD / 2
_DONE_RAD: Final = 0.08
_PACE: Final = motion.Pace(0.02, 0.35)
_PRESS_M: Final = 0.004
#: How far the hand turns to either side of the middle, and how far ahead of it a goal may be.
_WRIST_RAD: Final = np.deg2rad(120.0)
_TURN_STEP_RAD: Final = 1.0


def left_rad(scene: Scene) -> float:
    """How far the hand may still turn clockwise before it must turn back."""
    return motion.wrapped(motion.yaw(scene.ee.matrix) - _END_HEADING_RAD)


def can_turn(scene: Scene) -> bool:
    """Whether a hand that holds a part now has some way left to turn it."""
    return left_rad(scene) > _DONE_RAD


def turn(scene: Scene, axis_xy_m: Array) -> Array:
    """Turn the held part clockwise about the vertical through ``axis_xy_m``, pressing it down lightly."""
    turned = rotation.matrix_from_rotvec([0.0, 0.0, -min(left_rad(scene), _PACE.lead_rad)]) @ scene.ee.matrix
    center = np.append(axis_xy_m, scene.ee.position[2] - _PRESS_M)
    return motion.towards(scene, spaces.Pose(center, turned), spaces.GRIPPER_CLOSE, _PACE)


def turned_out(scene: Scene, open_width_m: float) -> bool:
    """Whether the hand is at the end of a turn and has not opened yet."""
    return scene.width_m < open_width_m and left_rad(scene) < TURN_RAD / 4


def open_in_place(scene: Scene) -> Array:
    """Let go where the hand is."""
    return motion.towards(scene, scene.ee, spaces.GRIPPER_OPEN, TRAVEL)


def best_grip(scene: Scene, grips: Sequence[Array]) -> Array:
    """The gripper frame of ``grips`` that lets the longest turn fit around the wrist's middle; the hand's, if close."""

    def cost(grip: Array) -> float:
        """Turn (rad) away from the wanted heading, and a share of that from the hand's own."""
        here, now = motion.yaw(grip), motion.yaw(scene.ee.matrix)
        return abs(motion.wrapped(here - START_HEADING_RAD)) + 0.3 * abs(motion.wrapped(here - now))

    return min(grips, key=cost)


def grips_around(first: Array, count: int) -> list[Array]:
    """Frames that point down as ``first`` does, ``count`` of them spread over a full turn about the vertical."""
    return [rotation.matrix_from_rotvec([0.0, 0.0, k * 2 * np.pi / count]) @ first for k in range(count)]


def middle_grip(approach: Array, opening: Array, middle_rad: float = motion.NEUTRAL_YAW_RAD) -> Array:
    """Of the two ways to close on a part along ``opening``, the one whose heading is nearer to ``middle_rad``."""
    frames = [motion.gripper_frame(approach, side * opening) for side in (1.0, -1.0)]
    return min(frames, key=lambda frame: abs(motion.wrapped(motion.yaw(frame) - middle_rad)))


def reachable(scene: Scene, goal: spaces.Pose, center_m: Array | None = None) -> spaces.Pose:
    """The goal turned about the vertical: as near as the wrist comes, and there the way round that it can.

    Args:
      scene: where the hand is.
      goal: where it is to come.
      center_m: what the vertical goes through; by default the goal's own place.
    """
    now, wanted = (motion.wrapped(motion.yaw(m) - motion.NEUTRAL_YAW_RAD) for m in (scene.ee.matrix, goal.matrix))
    step = np.clip(np.clip(wanted, -_WRIST_RAD, _WRIST_RAD) - now, -_TURN_STEP_RAD, _TURN_STEP_RAD)
    return motion.turned(goal, goal.position if center_m is None else center_m, float(now + step - wanted))
