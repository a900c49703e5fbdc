"""Scripted expert for lamp: stand the bulb up in the base, screw it in, and put the hood over it.

Without memory, like the others. The hand holds the bulb by its globe, so it may grip it at any heading.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces

from resip_training.experts import motion
from resip_training.experts.motion import CONTACT, TRAVEL, Scene
from resip_training.sim import scene as scene_geometry
from resip_training.sim import threads
from resip_training.sim.tasks.lamp import LAMP

Array = NDArray[np.float64]

BASE, BULB, HOOD = LAMP.part_names
OPEN, CLOSE = spaces.GRIPPER_OPEN, spaces.GRIPPER_CLOSE
_UP: Final = np.array([0.0, 0.0, 1.0])
_DOWN: Final = -_UP
_FULL_TURN_RAD: Final = 2 * np.pi

#: Bulb and hood in the base's frame (y down) when assembled.
_BULB_SEAT, _HOOD_SEAT = (
    spaces.Pose(relation.target_positions_m[0], relation.target_matrix) for relation in LAMP.relations
)
_GLOBE_LOCAL_M: Final = np.array([0.0, 0.038, 0.0])
_HOOD_TOP_LOCAL_M: Final = np.array([0.0, -0.0514, 0.0])
_GLOBE_WIDTH_M: Final = (0.052, 0.0625)  # what a gripper closed on the 60 mm globe reads
_HOOD_WIDTH_M: Final = (0.052, 0.0655)  # and on the hood, 60 mm wide at its upper end
#: Open, for a hand whose full width is 70 mm; below it the fingers are on their way.
_OPEN_WIDTH_M: Final = 0.067
_CLEAR_M: Final = 0.07  # between a hand and what it has let go of
_VERTICAL_COSINE: Final = 0.94

_BASE_HALF_M, _BASE_ON_TABLE_M = 0.04235, 0.0152  # aimed at 2 mm below its height, so that it is not dragged up
_WALL_HALF_M: Final = 0.01
_CORNER_GAP_M: Final = 0.002
_CORNER_GAP_RELEASED_M: Final = 0.012  # near enough for a base that was let go of early
_CORNER_OVERSHOOT_M: Final = 0.015
_SLOW_WITHIN_M: Final = 0.020
_NUDGE: Final = motion.Pace(0.004, 0.06)
_PLATE_LOCAL_M: Final = np.array([0.0, -0.0435, 0.0])
_PLATE_WIDTH_M: Final = (0.051, 0.0565)  # what a gripper closed on the 55.2 mm plate reads

#: The lying bulb is gripped this far up its axis: the pads hold the globe, and the fingertip is near enough to free it.
_GRIP_LOCAL_M: Final = np.array([0.0, 0.028, 0.0])
_GRIP_ROOM_M: Final = 0.002
_TILT_RAD: Final = np.deg2rad(40.0)
_CARRY_HEIGHT_M: Final = 0.050
_PEG_TIP_LOCAL_M: Final = np.array([0.0, -0.053, 0.0])
_PEG_IN_SOCKET_Y_M: Final = -0.034  # the socket reaches from -0.0458 to -0.0148
_UPRIGHT_COSINE: Final = 0.97
_LEANING_COSINE: Final = 0.9
_RELEASE_PLAY_M: Final = 0.002
_LOWER: Final = motion.Pace(0.010, 0.12, down_m=0.006)

#: A bulb let in with this much of a turn to go slides past the base's thread, and any less meets its upper end.
_LEAST_TURN_RAD: Final = np.deg2rad(350.0)
#: How far below a tight thread the bulb can stand.
_THREAD_PLAY_M: Final = 0.0035
#: Where the hand that holds the standing bulb points: sideways, for ahead it would meet the wrist's singularity.
_HEADING_RAD, _HEADING_RANGE_RAD = np.deg2rad(90.0), np.deg2rad(35.0)
_SCREWED_RAD: Final = np.deg2rad(10.0)
_RELEASED_RAD: Final = np.deg2rad(18.0)

_TURN_RAD: Final = np.deg2rad(168.0)
_TURN_END_RAD: Final = motion.NEUTRAL_YAW_RAD - _TURN_RAD / 2
_TURN_DONE_RAD: Final = 0.08
_TURN_PACE: Final = motion.Pace(0.02, 0.35)
_PRESS_M: Final = 0.004
_PUSH_M: Final = 0.001  # into the corner
_RISE_M: Final = 0.045  # of the fingertip above the globe's centre: the fingers have then left the bulb
_LOWER_HOOD: Final = motion.Pace(0.04, 0.30, down_m=0.02)
_HOOD_CARRY_M: Final = 0.110  # its lower end then passes over the bulb


def act(scene: Scene) -> Array:
    """Action ``(10,)`` for what is seen now."""
    if _holds_hood(scene):
        return _place_hood(scene)
    if _holds_bulb(scene) and not _let_in(scene):
        return _insert_bulb(scene)
    if bulb_inserted(scene):
        return _pick_hood(scene) if bulb_screwed(scene) else _screw(scene)
    if not base_cornered(scene):
        return _corner_base(scene)
    return _leave_base(scene) if _at_base(scene) else _pick_bulb(scene)


def base_cornered(scene: Scene) -> bool:
    """Whether the base stands in the obstacle's front left corner, which holds it while the bulb is screwed in."""
    gap = _corner(scene) - scene.parts[BASE].position[:2]
    return bool(np.all(np.abs(gap) < (_CORNER_GAP_M if _holds_base(scene) else _CORNER_GAP_RELEASED_M)))


def bulb_above_seat(scene: Scene) -> Array:
    """Bulb position relative to its seat, ``(3,)`` in the base's frame but with y up; the second is the height."""
    return (motion.relative(scene.parts[BASE], scene.parts[BULB]).position - _BULB_SEAT.position) * [1.0, -1.0, 1.0]


def turn_left_rad(scene: Scene) -> float:
    """Turn, in [-pi, pi), by which the bulb must be screwed on to stand as its seat wants."""
    return _turn_between(scene.parts[BASE], scene.parts[BULB])


def _turn_between(base: spaces.Pose, bulb: spaces.Pose) -> float:
    off = _BULB_SEAT.matrix.T @ motion.relative(base, bulb).matrix
    return float(np.arctan2(off[0, 2] - off[2, 0], off[0, 0] + off[2, 2]))


def bulb_inserted(scene: Scene) -> bool:
    """Whether the bulb's peg is in the base's socket; the bulb may lean."""
    x, height, z = motion.relative(scene.parts[BASE], _at_local(scene.parts[BULB], _PEG_TIP_LOCAL_M)).position
    upright = scene.parts[BULB].matrix[2, 1] > _LEANING_COSINE
    return bool(upright and np.hypot(x, z) < 0.010 and height > _PEG_IN_SOCKET_Y_M)


def bulb_screwed(scene: Scene) -> bool:
    """Whether the bulb is assembled, by a margin that is wider while the hand can still turn it."""
    near = np.all(np.abs(bulb_above_seat(scene)) < 0.0045)
    turned = abs(turn_left_rad(scene)) < (_SCREWED_RAD if _holds_bulb(scene) else _RELEASED_RAD)
    return bool(near and turned and scene.parts[BULB].matrix[2, 1] > _UPRIGHT_COSINE)


def _at_local(part: spaces.Pose, local_m: Array) -> spaces.Pose:
    return motion.compose(part, spaces.Pose(local_m, np.eye(3)))


def _globe_m(scene: Scene) -> Array:
    return _at_local(scene.parts[BULB], _GLOBE_LOCAL_M).position


def _holds_bulb(scene: Scene) -> bool:
    near = np.linalg.norm(_globe_m(scene) - scene.ee.position) < 0.020
    return bool(near and _GLOBE_WIDTH_M[0] < scene.width_m < _GLOBE_WIDTH_M[1])


def _tilted(scene: Scene) -> bool:
    """Whether the hand stands aslant, as it does from picking the bulb until it has let go of it."""
    return bool(scene.ee.matrix[:, 2] @ _DOWN < _VERTICAL_COSINE)


def _let_in(scene: Scene) -> bool:
    """Whether the bulb stands on the base's thread, or has been regrasped from above."""
    height_m = bulb_above_seat(scene)[1]
    return bulb_inserted(scene) and (height_m < _resting_height_m(scene) + _RELEASE_PLAY_M or not _tilted(scene))


def _resting_height_m(scene: Scene) -> float:
    """Height above its seat at which a bulb that is let in at its present heading stands on the base's thread."""
    return threads.PITCH_M * _turn_from_top_rad(turn_left_rad(scene)) / _FULL_TURN_RAD - _THREAD_PLAY_M


def _turn_from_top_rad(turn_rad: float) -> float:
    """Turn that screws in a bulb let in with ``turn_rad`` to its seat: whole turns added as the threads need."""
    return _LEAST_TURN_RAD + (turn_rad - _LEAST_TURN_RAD) % _FULL_TURN_RAD


def _grasp(scene: Scene, pose: spaces.Pose, turn_inside: bool = False) -> Array:
    return motion.grasp(scene, pose, _CLEAR_M, _OPEN_WIDTH_M, turn_inside)


def _upright(part: spaces.Pose, axis: Array) -> Array:
    """Smallest turn that makes the part's ``axis`` (base frame) point upwards, as a matrix."""
    across = np.cross(axis, _UP)
    sine, cosine = float(np.linalg.norm(across)), float(axis @ _UP)
    return rotation.matrix_from_rotvec(across / max(sine, 1e-9) * np.arctan2(sine, cosine))


def _carried(scene: Scene, part: spaces.Pose, turn: Array, position_m: Array) -> spaces.Pose:
    """Gripper pose that brings a held part to ``position_m``, turned by ``turn`` (base frame) from where it is."""
    return motion.compose(spaces.Pose(position_m, turn @ part.matrix), motion.relative(part, scene.ee))


# ---- the base ----


def _corner(scene: Scene) -> Array:
    """Where the base's centre stands (x, y) when it touches the front and the left wall."""
    front_m = scene.obstacle_m[0] - _WALL_HALF_M - _BASE_HALF_M
    left_center_m = scene_geometry.OBSTACLE_WALLS["obstacle_left"][0][1]
    return np.array([front_m, scene.obstacle_m[1] + left_center_m - _WALL_HALF_M - _BASE_HALF_M])


def _plate_grip(scene: Scene) -> spaces.Pose:
    """From above on the base's upper plate, across the pair of sides that the wrist reaches best."""
    base = scene.parts[BASE]
    yaws = motion.yaw(base.matrix) + np.arange(4) * np.pi / 2
    best = min(yaws, key=lambda yaw: abs(motion.wrapped(yaw - motion.NEUTRAL_YAW_RAD)))
    return spaces.Pose(_at_local(base, _PLATE_LOCAL_M).position, _downward(best))


def _at_base(scene: Scene) -> bool:
    """Whether the hand is at the base's plate, or has not yet risen clear of it."""
    x, y, height = scene.ee.position - _plate_grip(scene).position
    return bool(np.hypot(x, y) < 0.025 and height < _CLEAR_M - 0.01)


def _holds_base(scene: Scene) -> bool:
    return _at_base(scene) and _PLATE_WIDTH_M[0] < scene.width_m < _PLATE_WIDTH_M[1]


def _corner_base(scene: Scene) -> Array:
    """Grip the base by its plate and drag it into the corner: to the left wall, then along it."""
    if not _holds_base(scene):
        return _grasp(scene, _plate_grip(scene))
    base = scene.parts[BASE]
    gap = _corner(scene) - base.position[:2]
    ahead_m = min(gap[0], max(0.0, gap[0] - 3.0 * max(0.0, gap[1] - 0.02)))
    goal_m = np.append(base.position[:2] + [ahead_m, gap[1]] + _CORNER_OVERSHOOT_M, _BASE_ON_TABLE_M)
    askew_rad = (motion.yaw(base.matrix) + np.pi / 4) % (np.pi / 2) - np.pi / 4
    goal = _carried(scene, base, rotation.matrix_from_rotvec(-askew_rad * _UP), goal_m)
    near = np.linalg.norm(gap) < _SLOW_WITHIN_M
    return motion.towards(scene, goal, CLOSE, _NUDGE if near else CONTACT)


def _leave_base(scene: Scene) -> Array:
    """Open where the plate is, then rise."""
    goal = scene.ee if scene.width_m < _OPEN_WIDTH_M else motion.raised(scene.ee, _CLEAR_M)
    return motion.towards(scene, goal, OPEN, TRAVEL)


# ---- the bulb ----


def _pick_bulb(scene: Scene) -> Array:
    """Grasp the lying bulb with the hand tilted back, so that standing it up tilts the hand forward no more."""
    bulb = scene.parts[BULB]
    axis = rotation.normalize(bulb.matrix[:, 1] * np.array([1.0, 1.0, 0.0]))
    approach = np.cos(_TILT_RAD) * _DOWN - np.sin(_TILT_RAD) * axis
    grip = motion.gripper_frame(approach, np.cross(_UP, -axis))
    local_m = _GRIP_LOCAL_M + [0.0, scene.aside_m(BULB, _GRIP_ROOM_M), 0.0]
    return _grasp(scene, spaces.Pose(_at_local(bulb, local_m).position, grip))


def _insert_bulb(scene: Scene) -> Array:
    """Lift the bulb, stand it up over its socket and lower it, the lower the better it is aligned."""
    bulb = scene.parts[BULB]
    x, height, z = bulb_above_seat(scene)
    aside_m = float(np.hypot(x, z))
    tilt_rad = float(np.arccos(np.clip(bulb.matrix[2, 1], -1.0, 1.0)))
    clearance_m = 10.0 * max(0.0, aside_m - 0.001) + 0.5 * max(0.0, tilt_rad - 0.03)
    near = clearance_m < _CARRY_HEIGHT_M
    turn = _to_best_heading(scene) @ _upright(bulb, bulb.matrix[:, 1])
    wanted_m = min(_resting_height_m(scene) - 0.003 + clearance_m, _CARRY_HEIGHT_M)
    if height < wanted_m - 0.02:
        return motion.towards(scene, motion.raised(scene.ee, 0.12), CLOSE, TRAVEL)
    seat_m = motion.compose(scene.parts[BASE], _BULB_SEAT).position
    goal = _carried(scene, bulb, turn, seat_m + wanted_m * _UP)
    return motion.towards(scene, goal, CLOSE, _LOWER if near else TRAVEL)


def _to_best_heading(scene: Scene) -> Array:
    """Turn about the vertical to the heading, among those in reach, from which the bulb needs least screwing."""
    bulb = scene.parts[BULB]
    standing = _upright(bulb, bulb.matrix[:, 1])
    ahead = standing @ scene.ee.matrix[:, 2]
    off_rad = motion.wrapped(float(np.arctan2(ahead[1], ahead[0])) - _HEADING_RAD)
    least, most = -_HEADING_RANGE_RAD - off_rad, _HEADING_RANGE_RAD - off_rad
    upright = spaces.Pose(bulb.position, standing @ bulb.matrix)
    extra_rad = _turn_from_top_rad(_turn_between(scene.parts[BASE], upright)) - _LEAST_TURN_RAD
    turns = [turn for turn in (-extra_rad, _FULL_TURN_RAD - extra_rad) if least <= turn <= most]
    return rotation.matrix_from_rotvec(_UP * (turns[0] if turns else least))


def _screw(scene: Scene) -> Array:
    """Let go of the bulb, grasp it from above, and turn it: again and again."""
    globe_m = _globe_m(scene)
    if _tilted(scene) and np.linalg.norm(scene.ee.position - globe_m) < 0.055:
        goal = scene.ee if scene.width_m < _OPEN_WIDTH_M else motion.backed_off(scene.ee, _CLEAR_M)
        return motion.towards(scene, goal, OPEN, TRAVEL)
    left_rad = motion.wrapped(motion.yaw(scene.ee.matrix) - _TURN_END_RAD)
    if _holds_bulb(scene) and left_rad > _TURN_DONE_RAD:
        turned = rotation.matrix_from_rotvec(-min(left_rad, 0.35) * _UP) @ scene.ee.matrix
        center = np.append(_corner(scene) + _PUSH_M, scene.ee.position[2] - _PRESS_M)
        return motion.towards(scene, spaces.Pose(center, turned), CLOSE, _TURN_PACE)
    if scene.width_m < _OPEN_WIDTH_M and left_rad < _TURN_RAD / 4:
        return motion.towards(scene, scene.ee, OPEN, TRAVEL)
    return _grasp(scene, spaces.Pose(globe_m, _downward(_TURN_END_RAD + _TURN_RAD)), turn_inside=True)


def _downward(yaw_rad: float) -> Array:
    """Gripper pointing down, its x axis at a heading."""
    return motion.gripper_frame(_DOWN, np.array([np.sin(yaw_rad), -np.cos(yaw_rad), 0.0]))


# ---- the hood ----


def _hood_grip(scene: Scene) -> spaces.Pose:
    """From above across the hood's upper end, the hand's short side towards the base and its bulb."""
    hood = scene.parts[HOOD]
    to_base = scene.parts[BASE].position - hood.position
    heading = float(np.arctan2(to_base[1], to_base[0]))
    yaws = [heading + side for side in (0.0, np.pi)]
    best = min(yaws, key=lambda yaw: abs(motion.wrapped(yaw - motion.NEUTRAL_YAW_RAD)))
    return spaces.Pose(_at_local(hood, _HOOD_TOP_LOCAL_M).position, _downward(best))


def _holds_hood(scene: Scene) -> bool:
    top_m = _at_local(scene.parts[HOOD], _HOOD_TOP_LOCAL_M).position
    near = np.linalg.norm(top_m - scene.ee.position) < 0.015
    return bool(near and _HOOD_WIDTH_M[0] < scene.width_m < _HOOD_WIDTH_M[1])


def _pick_hood(scene: Scene) -> Array:
    """Leave the bulb upwards, then come down on the hood."""
    above = scene.ee.position - _globe_m(scene)
    if np.hypot(above[0], above[1]) < 0.060 and above[2] < _RISE_M:
        goal = scene.ee if scene.width_m < _OPEN_WIDTH_M else motion.raised(scene.ee, _CLEAR_M)
        return motion.towards(scene, goal, OPEN, TRAVEL)
    return _grasp(scene, _hood_grip(scene))


def _place_hood(scene: Scene) -> Array:
    """Lift the hood over the bulb, and lower it, the lower the better it is centred."""
    hood = scene.parts[HOOD]
    seat_m = motion.compose(scene.parts[BASE], _HOOD_SEAT).position
    x, y, height = hood.position - seat_m
    clearance_m = min(20.0 * max(0.0, float(np.hypot(x, y)) - 0.004), _HOOD_CARRY_M)
    if height < clearance_m - 0.02:
        return motion.towards(scene, motion.raised(scene.ee, 0.12), CLOSE, TRAVEL)
    goal = _carried(scene, hood, _upright(hood, -hood.matrix[:, 1]), seat_m + (clearance_m - 0.002) * _UP)
    return motion.towards(scene, goal, CLOSE, _LOWER_HOOD)
