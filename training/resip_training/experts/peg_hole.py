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

_GRIP_HEIGHT_M: Final = 0.035  # of the fingertip above the peg's lower end
_PEG_WIDTH_M: Final = (0.008, 0.012)  # what a gripper closed on the peg's 10 mm sides reads
_OPEN_WIDTH_M: Final = 0.060
_CLEAR_M: Final = 0.06
_HOLE_HEIGHT_M: Final = 0.009
_INSERTED_M: Final = 0.004
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
    """Hand pointing down, fingers on the peg's narrow pair of sides."""
    peg = scene.parts[PEG]
    down = -peg.matrix[:, 2]
    frame = motion.nearest_grip(scene, down, peg.matrix[:, 1])
    return spaces.Pose(peg.position + _GRIP_HEIGHT_M * peg.matrix[:, 2], frame)


def _insert(scene: Scene) -> Array:
    """Bring the peg over the hole, aligned, and lower it: the lower, the better it is aligned."""
    peg, hole = scene.parts[PEG], scene.parts[HOLE]
    offset = motion.relative(hole, peg)
    aside_m = float(np.hypot(offset.position[0], offset.position[1]))
    turned_rad = float(rotation.angle_between(peg.matrix, hole.matrix))
    inside = aside_m < 0.001 and offset.position[2] < _HOLE_HEIGHT_M - 0.001
    clearance_m = 0.0 if inside else 12.0 * max(0.0, aside_m - 0.0003) + 0.5 * max(0.0, turned_rad - 0.02)
    clearance_m = min(clearance_m, 0.025)
    height_m = clearance_m + (_HOLE_HEIGHT_M + 0.001 if clearance_m > 0 else -0.004)
    if offset.position[2] < height_m - 0.015 and aside_m > 0.005:
        return motion.towards(scene, motion.raised(scene.ee, 0.06), CLOSE, TRAVEL)
    goal = motion.compose(hole, spaces.Pose(np.array([0.0, 0.0, height_m]), np.eye(3)))
    wanted = motion.compose(goal, motion.relative(peg, scene.ee))
    return motion.towards(scene, wanted, CLOSE, TRAVEL if aside_m > 0.01 else _LOWER)
