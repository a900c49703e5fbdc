"""Scripted expert for one_leg: corner the top, pick the leg, stand it up, insert it, screw it in.

The expert has no memory: ``act`` maps what is seen now to an action. So a policy without memory can clone it,
a dropped leg or a shifted top is simply picked up or pushed again, and no two demonstrations contradict each
other. Where a motion must come before another (above it first, then down), the goal is a *funnel*: its
clearance shrinks as the error does.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces

from resip_training.experts import motion, screw
from resip_training.experts.motion import CONTACT, TRAVEL, Scene
from resip_training.sim import scene as scene_geometry

Array = NDArray[np.float64]

TOP, LEG = "square_table_top", "square_table_leg4"
OPEN, CLOSE = spaces.GRIPPER_OPEN, spaces.GRIPPER_CLOSE
_UP: Final = np.array([0.0, 0.0, 1.0])
_DOWN: Final = -_UP

_TOP_HALF_M: Final = 0.08125
_WALL_HALF_M: Final = 0.01
_CORNER_GAP_M: Final = 0.002
_CORNER_GAP_RELEASED_M: Final = 0.012  # near enough for a top that was let go of early
_CORNER_OVERSHOOT_M: Final = 0.015
_SLOW_WITHIN_M: Final = 0.020
#: A top this far askew is turned on the spot: pushed forward, it would turn away from the hand.
_ASKEW_RAD: Final = 0.45
_TURN_TOP_RAD: Final = 0.2
#: Middle of the rim that is nearest to the robot, in the top's frame.
_RIM_LOCAL_M: Final = np.array([0.0, 0.004, 0.078125])
_RIM_ROOM_M: Final = 0.015  # along the rim
_RIM_WIDTH_M: Final = (0.003, 0.010)  # what a gripper closed on the 6.25 mm rim reads
#: Orientation of the top when it stands in the corner.
_SQUARE: Final = np.stack([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]], axis=-1)

#: The hole that the leg goes into: the one in the obstacle's corner side away from the walls.
_SEAT_LOCAL_M: Final = np.array([0.05625, 0.046875, -0.05625])
_LEG_GRIP_M, _LEG_ROOM_M = 0.006, 0.004  # along the lying leg, from its origin
_LEG_TOP_GRIP_M, _LEG_TOP_ROOM_M = 0.012, 0.003  # and along the standing one
_LEG_WIDTH_M: Final = (0.026, 0.031)  # what a gripper closed on the 30 mm leg reads
_TILT_RAD: Final = np.deg2rad(50.0)
_CARRY_HEIGHT_M: Final = 0.060
_RELEASE_HEIGHT_M: Final = 0.0075  # the leg's thread rests on the hole's at 5.8 mm
_INSERTED_HEIGHT_M: Final = 0.016
_UPRIGHT_COSINE: Final = 0.97
_LEANING_COSINE: Final = 0.9

#: Slow enough that to let go a moment early does no harm.
_NUDGE: Final = motion.Pace(0.004, 0.06)
_LOWER: Final = motion.Pace(0.010, 0.12, down_m=0.004)
#: Open, for a hand whose full width is 65 mm; below it the fingers are on their way.
_OPEN_WIDTH_M: Final = 0.060
_CLEAR_M: Final = 0.07  # between a hand and what it has let go of
_VERTICAL_COSINE: Final = 0.94


def act(scene: Scene) -> Array:
    """Action ``(10,)`` for what is seen now."""
    if _holds_leg(scene) and not _let_in(scene):
        return _insert_leg(scene)
    if leg_inserted(scene):
        return _screw(scene)
    if not top_cornered(scene):
        return _corner_top(scene)
    return _leave_rim(scene) if _at_rim(scene) else _pick_leg(scene)


def top_cornered(scene: Scene) -> bool:
    """Whether the top stands in the obstacle's front left corner."""
    gap = _corner(scene) - scene.parts[TOP].position[:2]
    return bool(np.all(np.abs(gap) < (_CORNER_GAP_M if _holds_rim(scene) else _CORNER_GAP_RELEASED_M)))


def leg_inserted(scene: Scene) -> bool:
    """Whether the leg stands in its hole; one that is held from above may lean."""
    x, height, z = leg_above_seat(scene)
    leaning = _holds_leg(scene) and not _tilted(scene)
    upright = scene.parts[LEG].matrix[2, 1] > (_LEANING_COSINE if leaning else _UPRIGHT_COSINE)
    return bool(upright and np.hypot(x, z) < (0.012 if leaning else 0.006) and height < _INSERTED_HEIGHT_M)


def leg_above_seat(scene: Scene) -> Array:
    """Leg position relative to its seat, ``(3,)`` in the top's frame; the second entry is the height."""
    return motion.relative(scene.parts[TOP], scene.parts[LEG]).position - _SEAT_LOCAL_M


def _tilted(scene: Scene) -> bool:
    """Whether the hand stands aslant, as it does from picking the leg until it has let go of it."""
    return bool(scene.ee.matrix[:, 2] @ _DOWN < _VERTICAL_COSINE)


def _holds_leg(scene: Scene) -> bool:
    near = np.linalg.norm(scene.parts[LEG].position - scene.ee.position) < 0.035
    return bool(near and _LEG_WIDTH_M[0] < scene.width_m < _LEG_WIDTH_M[1])


def _let_in(scene: Scene) -> bool:
    """Whether the leg is in its hole far enough to be let go of, or has been regrasped from above."""
    return leg_inserted(scene) and (leg_above_seat(scene)[1] < _RELEASE_HEIGHT_M or not _tilted(scene))


def _grasp(scene: Scene, pose: spaces.Pose, turn_inside: bool = False) -> Array:
    return motion.grasp(scene, pose, _CLEAR_M, _OPEN_WIDTH_M, turn_inside)


# ---- the top ----


def _corner(scene: Scene) -> Array:
    """Where the top's centre stands (x, y) when it touches the front and the left wall."""
    front_m = scene.obstacle_m[0] - _WALL_HALF_M - _TOP_HALF_M
    left_center_m = scene_geometry.OBSTACLE_WALLS["obstacle_left"][0][1]
    return np.array([front_m, scene.obstacle_m[1] + left_center_m - _WALL_HALF_M - _TOP_HALF_M])


def _rim_grasp(scene: Scene) -> spaces.Pose:
    top = scene.parts[TOP]
    local_m = _RIM_LOCAL_M + [scene.aside_m(TOP, _RIM_ROOM_M), 0.0, 0.0]
    return spaces.Pose(top.position + top.matrix @ local_m, motion.nearest_grip(scene, _DOWN, top.matrix[:, 2]))


def _at_rim(scene: Scene) -> bool:
    """Whether the hand is at the rim, or has not yet risen clear of it."""
    x, y, height = scene.ee.position - _rim_grasp(scene).position
    return bool(np.hypot(x, y) < 0.025 and height < _CLEAR_M - 0.01)


def _holds_rim(scene: Scene) -> bool:
    return _at_rim(scene) and _RIM_WIDTH_M[0] < scene.width_m < _RIM_WIDTH_M[1]


def _corner_top(scene: Scene) -> Array:
    """Grip the rim nearest to the robot and drag the top into the corner."""
    if not _holds_rim(scene):
        return _grasp(scene, _rim_grasp(scene))
    top, corner = scene.parts[TOP], _corner(scene) + _CORNER_OVERSHOOT_M
    askew_rad = float(rotation.angle_between(top.matrix, _SQUARE))
    if askew_rad > _ASKEW_RAD:
        turned = rotation.interpolate(top.matrix, _SQUARE, _TURN_TOP_RAD / askew_rad)
        grip = motion.relative(top, _rim_grasp(scene))
        return motion.towards(scene, motion.compose(spaces.Pose(top.position, turned), grip), CLOSE, CONTACT)
    goal = motion.compose(spaces.Pose(np.append(corner, top.position[2]), _SQUARE), motion.relative(top, scene.ee))
    near = np.linalg.norm(_corner(scene) - top.position[:2]) < _SLOW_WITHIN_M
    return motion.towards(scene, goal, CLOSE, _NUDGE if near else CONTACT)


def _leave_rim(scene: Scene) -> Array:
    """Open where the rim is, then rise."""
    grasp = _rim_grasp(scene)
    goal = grasp if scene.width_m < _OPEN_WIDTH_M else motion.raised(grasp, _CLEAR_M)
    return motion.towards(scene, goal, OPEN, TRAVEL)


# ---- the leg ----


def _pick_leg(scene: Scene) -> Array:
    """Grasp the lying leg with the hand tilted back, so that standing it up tilts the hand forward no more."""
    leg = scene.parts[LEG]
    axis = rotation.normalize(leg.matrix[:, 1] * np.array([1.0, 1.0, 0.0]))
    approach = np.cos(_TILT_RAD) * _DOWN - np.sin(_TILT_RAD) * axis
    grip = motion.nearest_grip(scene, approach, np.cross(_UP, axis))
    along_m = _LEG_GRIP_M + scene.aside_m(LEG, _LEG_ROOM_M)
    return _grasp(scene, spaces.Pose(leg.position + along_m * axis + 0.003 * _UP, grip))


def _standing(scene: Scene, height_m: float) -> spaces.Pose:
    """Gripper pose that holds the leg upright, square to the top, ``height_m`` above its seat."""
    seat = spaces.Pose(_SEAT_LOCAL_M + np.array([0.0, height_m, 0.0]), np.eye(3))
    grip = motion.relative(scene.parts[LEG], scene.ee)
    return motion.compose(motion.compose(scene.parts[TOP], seat), grip)


def _insert_leg(scene: Scene) -> Array:
    """Lift the leg, stand it up over its hole and lower it, the lower the better it is aligned."""
    x, height, z = leg_above_seat(scene)
    aside_m = float(np.hypot(x, z))
    tilt_rad = float(np.arccos(np.clip(scene.parts[LEG].matrix[2, 1], -1.0, 1.0)))
    clearance_m = min(10.0 * max(0.0, aside_m - 0.001) + 0.5 * max(0.0, tilt_rad - 0.03), _CARRY_HEIGHT_M)
    wanted_m = _RELEASE_HEIGHT_M - 0.003 + clearance_m
    if height < min(wanted_m, _CARRY_HEIGHT_M) - 0.02:
        return motion.towards(scene, motion.raised(scene.ee, 0.12), CLOSE, TRAVEL)
    near = clearance_m < _CARRY_HEIGHT_M
    return motion.towards(scene, _standing(scene, wanted_m), CLOSE, _LOWER if near else TRAVEL)


def _screw(scene: Scene) -> Array:
    """Let go of the leg, grasp it from above, and turn it: again and again."""
    leg = scene.parts[LEG]
    faces = [_face_frame(scene, face) for face in range(4)]
    height_m = _LEG_TOP_GRIP_M + scene.aside_m(LEG, _LEG_TOP_ROOM_M)
    grasp = spaces.Pose(leg.position + height_m * _UP, screw.best_grip(scene, faces))
    away_m = float(np.linalg.norm(scene.ee.position - leg.position))
    if _tilted(scene) and away_m < 0.055:
        goal = scene.ee if scene.width_m < _OPEN_WIDTH_M else motion.backed_off(scene.ee, _CLEAR_M)
        return motion.towards(scene, goal, OPEN, TRAVEL)
    if _holds_leg(scene) and screw.can_turn(scene):
        return screw.turn(scene, motion.compose(scene.parts[TOP], spaces.Pose(_SEAT_LOCAL_M, np.eye(3))).position[:2])
    if screw.turned_out(scene, _OPEN_WIDTH_M):
        return screw.open_in_place(scene)
    return _grasp(scene, grasp, turn_inside=True)


def _face_frame(scene: Scene, face: int) -> Array:
    """Gripper pointing down, closing on the leg's ``face``-th pair of sides."""
    quarter = rotation.matrix_from_rotvec([0.0, 0.0, face * np.pi / 2])
    return motion.gripper_frame(_DOWN, quarter @ scene.parts[LEG].matrix[:, 0])
