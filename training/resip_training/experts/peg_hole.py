"""Scripted expert for peg_hole: pick the peg and let it into the hole. Without memory, like the others."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces

from resip_training.experts import motion
from resip_training.experts.motion import TRAVEL, Scene

Array = NDArray[np.float64]

PEG, HOLE = "peg", "hole"
OPEN, CLOSE = spaces.GRIPPER_OPEN, spaces.GRIPPER_CLOSE

_GRIP_HEIGHT_M, _GRIP_ROOM_M = 0.035, 0.005  # of the fingertip above the peg's lower end
_PEG_WIDTH_M: Final = (0.008, 0.012)  # what a gripper closed on the peg's 10 mm sides reads
_OPEN_WIDTH_M: Final = 0.060
_CLEAR_M: Final = 0.06
_HOLE_HEIGHT_M: Final = 0.009
_INSIDE_M: Final = -0.0001  # contacts give way by less
_PRESS_M: Final = 0.004
_CARRY_M: Final = 0.025
_ABOVE_M: Final = 0.0005
_NEAR_M: Final = 0.0015
#: Near enough to enter from here.
_ROUGH_M: Final = 0.001
_ROUGH_RAD: Final = 0.02
_ALIGNED_M: Final = 0.00007  # the clearance is 0.08 mm on the narrower side
#: Slow: what moves down fast is pushed aside by its own motion, by more than the clearance.
_ENTER: Final = motion.Pace(0.003, 0.12, down_m=0.0006)
_LOWER: Final = motion.Pace(0.010, 0.12, down_m=0.004)


def act(scene: Scene) -> Array:
    """Action ``(10,)`` for what is seen now."""
    if _holds_peg(scene):
        return _insert(scene)
    return motion.grasp(scene, _grip(scene), _CLEAR_M, _OPEN_WIDTH_M)


def _holds_peg(scene: Scene) -> bool:
    near = np.linalg.norm(_grip(scene).position - scene.ee.position) < 0.015
    return bool(near and _PEG_WIDTH_M[0] < scene.width_m < _PEG_WIDTH_M[1])


def _grip(scene: Scene) -> spaces.Pose:
    """Hand pointing down, fingers on the peg's narrow pair of sides, the way round that the wrist can keep."""
    peg, hole = scene.parts[PEG], scene.parts[HOLE]
    frames = [motion.gripper_frame(-peg.matrix[:, 2], side * peg.matrix[:, 1]) for side in (1.0, -1.0)]

    def strain_rad(frame: Array) -> float:
        """How far the wrist has to turn from its middle, to grasp here or to insert there."""
        inserting = hole.matrix @ peg.matrix.T @ frame
        return max(abs(motion.wrapped(motion.yaw(m) - motion.NEUTRAL_YAW_RAD)) for m in (frame, inserting))

    height_m = _GRIP_HEIGHT_M + scene.aside_m(PEG, _GRIP_ROOM_M)
    return spaces.Pose(peg.position + height_m * peg.matrix[:, 2], min(frames, key=strain_rad))


def _insert(scene: Scene) -> Array:
    """Bring the peg over the hole, aligned, and lower it: the lower, the better it is aligned."""
    peg, hole = scene.parts[PEG], scene.parts[HOLE]
    offset = motion.relative(hole, peg)
    aside_m = float(np.hypot(offset.position[0], offset.position[1]))
    turned_rad = float(rotation.angle_between(peg.matrix, hole.matrix))
    above_m = offset.position[2] - _HOLE_HEIGHT_M
    if above_m < _INSIDE_M and aside_m < _ROUGH_M:
        height_m, pace = -_PRESS_M, _LOWER
    elif above_m < _NEAR_M and aside_m < _ROUGH_M and turned_rad < _ROUGH_RAD:
        height_m, pace = _entering_height_m(above_m, aside_m), _ENTER
    else:
        height_m = _HOLE_HEIGHT_M + min(_ABOVE_M + 6.0 * max(0.0, aside_m - _ROUGH_M / 2) + 0.5 * turned_rad, _CARRY_M)
        pace = TRAVEL if aside_m > 0.01 else _LOWER
    if offset.position[2] < height_m - 0.015 and aside_m > 0.005:
        return motion.towards(scene, motion.raised(scene.ee, 0.06), CLOSE, TRAVEL)
    goal = motion.compose(hole, spaces.Pose(np.array([0.0, 0.0, height_m]), np.eye(3)))
    return motion.towards(scene, motion.compose(goal, motion.relative(peg, scene.ee)), CLOSE, pace)


def _entering_height_m(above_m: float, aside_m: float) -> float:
    """Down while the peg fits; else stay, clear of the block, until it does: any vertical motion pushes it aside."""
    return -_PRESS_M if aside_m < _ALIGNED_M else _HOLE_HEIGHT_M + max(above_m, _ABOVE_M)
