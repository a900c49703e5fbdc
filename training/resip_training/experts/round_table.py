"""Scripted expert for round_table: drag the top to the wall, screw the leg into it, then the base onto the leg.

Without memory, like the others. At the wall the arm can stand the leg up over the top; nearer it could not.
What keeps the top from turning is its friction on the table, three times that in the thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces

from resip_training.experts import motion, screw
from resip_training.experts.motion import CONTACT, TRAVEL, Scene
from resip_training.sim.tasks import ROUND_TABLE

Array = NDArray[np.float64]

TOP, LEG, BASE = ROUND_TABLE.part_names
OPEN, CLOSE = spaces.GRIPPER_OPEN, spaces.GRIPPER_CLOSE
_UP: Final = np.array([0.0, 0.0, 1.0])
_DOWN: Final = -_UP

_LEG_SEAT, _BASE_SEAT = (
    spaces.Pose(relation.target_positions_m[0], relation.target_matrix) for relation in ROUND_TABLE.relations
)

_TOP_RADIUS_M, _WALL_HALF_M = 0.100, 0.010
_WALL_GAP_M: Final = 0.003
_WALL_GAP_RELEASED_M: Final = 0.015
_WALL_OVERSHOOT_M: Final = 0.015
_SLOW_WITHIN_M: Final = 0.020
#: The walls at the sides leave the top this much room on either side of the middle, with some to spare.
_SIDE_ROOM_M: Final = 0.045
_RIM_RADIUS_M, _RIM_GRIP_HEIGHT_M = 0.0969, 0.016
_RIM_SIDES: Final = 16
_RIM_CONE_RAD: Final = np.deg2rad(70.0)  # the rim is gripped within this of the side that is towards the robot
_FINGER_ROOM_M: Final = 0.11  # from the middle of another part, for the fingers to pass
_NEAREST_X_M: Final = 0.42  # nearer to the robot, a hand that points down hardly reaches the table
_RIM_WIDTH_M: Final = (0.003, 0.011)  # what a gripper closed on the 6.25 mm rim reads

_LEG_WIDTH_M: Final = (0.038, 0.0445)  # what a gripper closed on the leg's 42.5 mm reads
_BASE_WIDTH_M: Final = (0.040, 0.052)  # and between the arms of the base
_OPEN_WIDTH_M: Final = 0.060
_CLEAR_M: Final = 0.07
_TILT_RAD: Final = np.deg2rad(38.0)
_VERTICAL_COSINE: Final = 0.94
_LOWER: Final = motion.Pace(0.010, 0.12, down_m=0.004)
_NUDGE: Final = motion.Pace(0.004, 0.06)
_RISE: Final = motion.Pace(0.02, 0.06)

_LEG_GRIP_M, _LEG_ROOM_M = 0.028, 0.004  # along the leg, from its origin, where it is picked
_SCREW_GRIP_M, _SCREW_ROOM_M = 0.036, 0.003  # where it is held from above
_BASE_GRIP_M: Final = 0.004
_ARM_REACH_M: Final = 0.10  # within this of the middle, an open hand may meet the base's arms
_CROSS_CLEAR_M: Final = 0.022  # fingers this far above their grip are above the base's arms

#: Turned a little past the target, threads let a part in deepest, and a full turn screws it home.
_ENTRY_TURN_RAD: Final = np.deg2rad(-10.0)
#: Heading of a hand that picks the leg, from which it can turn to the left.
_PICK_HEADING_RAD: Final = 0.0
#: Where the hand that stands the leg up may look, from straight ahead: to the left, where the arm reaches well.
_LOOK_RAD: Final = (np.deg2rad(60.0), np.deg2rad(110.0))
_CARRY_HEIGHT_M: Final = 0.060
_INSERTED_HEIGHT_M: Final = 0.016
_RELEASE_HEIGHT_M: Final = 0.0145  # depending on its turn, a part comes to rest on the thread at 6 to 14 mm
_LOWER_TO_M: Final = 0.005
_HOME_HEIGHT_M: Final = 0.004
_HOME_TURN_RAD: Final = np.deg2rad(15.0)
_STAYS_TURN_RAD: Final = np.deg2rad(19.0)


@dataclass(frozen=True)
class _Offset:
    """Of a part from its seat."""

    height_m: float
    aside_m: float
    tilt_rad: float
    turn_rad: float
    """About the vertical."""

    @property
    def inserted(self) -> bool:
        """Whether the part stands in its hole."""
        return self.height_m < _INSERTED_HEIGHT_M and self.aside_m < 0.006 and self.tilt_rad < 0.25


def act(scene: Scene) -> Array:
    """Action ``(10,)`` for what is seen now."""
    leg, base = _leg_offset(scene), _base_offset(scene)
    base_under_way = leg.inserted and (base.inserted or _holds_base(scene))
    if _leg_home(scene, leg) or base_under_way:
        return _base_onto_leg(scene, base)
    return _leg_into_top(scene, leg)


# ---- what is seen ----


def _leg_seat(scene: Scene) -> spaces.Pose:
    return motion.compose(scene.parts[TOP], _LEG_SEAT)


def _base_seat(scene: Scene) -> spaces.Pose:
    return motion.compose(scene.parts[LEG], _BASE_SEAT)


def _offset(part: spaces.Pose, seat: spaces.Pose) -> _Offset:
    x, y, height = part.position - seat.position
    off = part.matrix @ seat.matrix.T
    tilt = float(np.arccos(np.clip(off[2, 2], -1.0, 1.0)))
    return _Offset(float(height), float(np.hypot(x, y)), tilt, motion.yaw(off))


def _leg_offset(scene: Scene) -> _Offset:
    return _offset(scene.parts[LEG], _leg_seat(scene))


def _base_offset(scene: Scene) -> _Offset:
    return _offset(scene.parts[BASE], _base_seat(scene))


def _leg_home(scene: Scene, leg: _Offset) -> bool:
    """Whether the leg is screwed into the top; a leg that the hand still holds must be in a little further."""
    within = _HOME_TURN_RAD if _holds_leg(scene) else _STAYS_TURN_RAD
    seated = leg.height_m < _HOME_HEIGHT_M and leg.aside_m < 0.004 and leg.tilt_rad < 0.15
    return seated and abs(leg.turn_rad) < within


def _tilted(scene: Scene) -> bool:
    """Whether the hand stands aslant, as it does from picking the leg until it has let go of it."""
    return bool(scene.ee.matrix[:, 2] @ _DOWN < _VERTICAL_COSINE)


def _holds_leg(scene: Scene) -> bool:
    along, aside = _distance_along(scene, LEG, 1)
    return bool(aside < 0.012 and 0.0 < along < 0.055 and _LEG_WIDTH_M[0] < scene.width_m < _LEG_WIDTH_M[1])


def _holds_base(scene: Scene) -> bool:
    along, aside = _distance_along(scene, BASE, 2)
    return bool(aside < 0.010 and abs(along) < 0.02 and _BASE_WIDTH_M[0] < scene.width_m < _BASE_WIDTH_M[1])


def _distance_along(scene: Scene, part: str, axis: int) -> tuple[float, float]:
    """Of the fingertip from the part's origin: along one of its axes, and aside from it."""
    local = scene.parts[part].matrix.T @ (scene.ee.position - scene.parts[part].position)
    return float(local[axis]), float(np.linalg.norm(np.delete(local, axis)))


def _grasp(scene: Scene, pose: spaces.Pose, turn_inside: bool = False) -> Array:
    return motion.grasp(scene, screw.reachable(scene, pose), _CLEAR_M, _OPEN_WIDTH_M, turn_inside)


# ---- the top ----


def _top_at_wall(scene: Scene) -> bool:
    """Whether the top touches the obstacle's front wall, or nearly, once it has been let go of."""
    gap = _top_goal(scene)[0] - scene.parts[TOP].position[0]
    return bool(gap < (_WALL_GAP_M if _holds_rim(scene) else _WALL_GAP_RELEASED_M))


def _top_goal(scene: Scene) -> Array:
    """Where the top's centre stands (x, y) when it touches the front wall."""
    x, y = scene.obstacle_m[:2]
    free_y = np.clip(scene.parts[TOP].position[1], y - _SIDE_ROOM_M, y + _SIDE_ROOM_M)
    return np.array([x - _WALL_HALF_M - _TOP_RADIUS_M, free_y])


def _rim_grasp(scene: Scene) -> spaces.Pose:
    """Where to grip the rim: on the side towards the robot, or where the hand is, if it is there."""
    top = scene.parts[TOP]
    turns = [rotation.matrix_from_rotvec([0.0, 0.0, 2 * np.pi * k / _RIM_SIDES]) for k in range(_RIM_SIDES)]
    outward = min((turn @ top.matrix[:, 0] for turn in turns), key=lambda side: _rim_cost(scene, side))
    place = top.position + _RIM_RADIUS_M * outward + _RIM_GRIP_HEIGHT_M * _UP
    return spaces.Pose(place, screw.middle_grip(_DOWN, outward))


def _rim_cost(scene: Scene, outward: Array) -> float:
    """How badly (m) the rim can be gripped on its side ``outward``: other parts in the way, far from the right side."""
    place = (scene.parts[TOP].position + _RIM_RADIUS_M * outward)[:2]
    room_m = min(float(np.linalg.norm(scene.parts[part].position[:2] - place)) for part in (LEG, BASE))
    crowded_m = max(0.0, _FINGER_ROOM_M - room_m) + max(0.0, _NEAREST_X_M - float(place[0]))
    aside_rad = float(np.arccos(np.clip(-outward[0], -1.0, 1.0)))
    behind = aside_rad > _RIM_CONE_RAD
    there = np.linalg.norm(scene.ee.position[:2] - place) < _RIM_RADIUS_M * np.pi / _RIM_SIDES
    return 3.0 * crowded_m + 0.05 * aside_rad + 10.0 * behind - 0.1 * bool(there)


def _at_rim(scene: Scene) -> bool:
    """Whether the hand is at the rim, or has not yet risen clear of it."""
    x, y, height = scene.ee.position - _rim_grasp(scene).position
    return bool(np.hypot(x, y) < 0.025 and height < _CLEAR_M - 0.01)


def _holds_rim(scene: Scene) -> bool:
    return _at_rim(scene) and _RIM_WIDTH_M[0] < scene.width_m < _RIM_WIDTH_M[1]


def _drag_top(scene: Scene) -> Array:
    """Grip the rim and drag the top to the front wall."""
    if not _holds_rim(scene):
        return _grasp(scene, _rim_grasp(scene))
    top, wall = scene.parts[TOP], _top_goal(scene)
    near = wall[0] - top.position[0] < _SLOW_WITHIN_M
    goal = spaces.Pose(np.array([wall[0] + _WALL_OVERSHOOT_M, wall[1], top.position[2]]), top.matrix)
    hand = motion.compose(goal, motion.relative(top, scene.ee))
    return motion.towards(scene, hand, CLOSE, _NUDGE if near else CONTACT)


def _leave_rim(scene: Scene) -> Array:
    """Open where the rim is, then rise."""
    grasp = _rim_grasp(scene)
    goal = grasp if scene.width_m < _OPEN_WIDTH_M else motion.raised(grasp, _CLEAR_M)
    return motion.towards(scene, goal, OPEN, TRAVEL)


# ---- the leg ----


def _leg_into_top(scene: Scene, leg: _Offset) -> Array:
    let_in = leg.inserted and (leg.height_m < _RELEASE_HEIGHT_M or not _tilted(scene))
    if _holds_leg(scene) and not let_in:
        return _insert_leg(scene, leg)
    if leg.inserted:
        return _screw_leg(scene)
    if not _top_at_wall(scene):
        return _drag_top(scene)
    return _leave_rim(scene) if _at_rim(scene) else _pick_leg(scene)


def _pick_leg(scene: Scene) -> Array:
    """Grasp the lying leg with the hand tilted back, so that standing it up tilts the hand forward no more."""
    leg = scene.parts[LEG]
    axis = rotation.normalize(leg.matrix[:, 1] * np.array([1.0, 1.0, 0.0]))
    tilt_rad = _TILT_RAD if axis[0] > -0.3 else 0.0  # a leg that points at the robot is picked from straight above
    approach = np.cos(tilt_rad) * _DOWN - np.sin(tilt_rad) * axis
    grip = screw.middle_grip(approach, np.cross(_UP, axis), _PICK_HEADING_RAD)
    along_m = _LEG_GRIP_M + scene.aside_m(LEG, _LEG_ROOM_M)
    return _grasp(scene, spaces.Pose(leg.position + along_m * axis + 0.005 * _UP, grip))


def _insert_leg(scene: Scene, leg: _Offset) -> Array:
    """Lift the leg, stand it up over its hole and lower it, the lower the better it is aligned."""
    clearance_m = min(10.0 * max(0.0, leg.aside_m - 0.001) + 0.5 * max(0.0, leg.tilt_rad - 0.03), _CARRY_HEIGHT_M)
    wanted_m = _LOWER_TO_M + clearance_m
    if leg.height_m < min(wanted_m, _CARRY_HEIGHT_M) - 0.02:
        return motion.towards(scene, motion.raised(scene.ee, 0.12), CLOSE, TRAVEL)
    near = clearance_m < _CARRY_HEIGHT_M
    return motion.towards(scene, _standing(scene, wanted_m), CLOSE, _LOWER if near else TRAVEL)


def _standing(scene: Scene, height_m: float) -> spaces.Pose:
    """Gripper pose that holds the leg upright ``height_m`` above its seat, as near as can be to its turn for entry."""
    seat = _leg_seat(scene)
    entry = motion.turned(motion.raised(seat, height_m), seat.position, _ENTRY_TURN_RAD)
    hand = motion.compose(entry, motion.relative(scene.parts[LEG], scene.ee))
    ahead_rad = float(np.arctan2(seat.position[1], seat.position[0]))
    looks_rad = motion.wrapped(float(np.arctan2(hand.matrix[1, 2], hand.matrix[0, 2])) - ahead_rad)
    return motion.turned(hand, seat.position, np.clip(looks_rad, *_LOOK_RAD) - looks_rad)


def _screw_leg(scene: Scene) -> Array:
    """Let go of the leg, grasp it from above, and turn it: again and again."""
    leg = scene.parts[LEG]
    if _tilted(scene) and _distance_along(scene, LEG, 1)[1] < 0.055:
        goal = scene.ee if scene.width_m < _OPEN_WIDTH_M else motion.backed_off(scene.ee, _CLEAR_M)
        return motion.towards(scene, goal, OPEN, TRAVEL)
    if _holds_leg(scene) and screw.can_turn(scene):
        return screw.turn(scene, _leg_seat(scene).position[:2])
    if screw.turned_out(scene, _OPEN_WIDTH_M):
        return screw.open_in_place(scene)
    flat = motion.gripper_frame(_DOWN, leg.matrix[:, 0])
    grip = screw.best_grip(scene, screw.grips_around(flat, 8))
    along_m = _SCREW_GRIP_M + scene.aside_m(LEG, _SCREW_ROOM_M)
    return _grasp(scene, spaces.Pose(leg.position + along_m * leg.matrix[:, 1], grip), turn_inside=True)


# ---- the base ----


def _base_onto_leg(scene: Scene, base: _Offset) -> Array:
    if base.inserted:
        return _screw_base(scene)
    if _holds_base(scene):
        return _insert_base(scene, base)
    return _leave_leg(scene) if _at_leg(scene) else _pick_base(scene)


def _at_leg(scene: Scene) -> bool:
    """Whether the hand is around the leg, or has not yet risen clear of it."""
    along, aside = _distance_along(scene, LEG, 1)
    return bool(aside < 0.035 and along < 0.09)


def _leave_leg(scene: Scene) -> Array:
    goal = scene.ee if scene.width_m < _OPEN_WIDTH_M else motion.raised(scene.ee, _CLEAR_M)
    return motion.towards(scene, goal, OPEN, TRAVEL)


def _base_grips(scene: Scene) -> list[Array]:
    """Hand square to the cross, above it, a finger in each of two opposite corners."""
    base = scene.parts[BASE].matrix
    corners = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]) @ base.T
    return [motion.gripper_frame(-base[:, 2], side * corner) for corner in corners for side in (1.0, -1.0)]


def _base_grasp(scene: Scene, grip: Array) -> Array:
    """Rise straight out of the arms, stand above the corners that ``grip`` closes on, come down and close."""
    base = scene.parts[BASE]
    pose = screw.reachable(scene, spaces.Pose(base.position + _BASE_GRIP_M * base.matrix[:, 2], grip))
    x, y, depth = pose.matrix.T @ (scene.ee.position - pose.position)
    aside_m = float(np.hypot(x, y))
    closing = scene.width_m < _OPEN_WIDTH_M
    if aside_m < (0.010 if closing else 0.004) and rotation.angle_between(scene.ee.matrix, pose.matrix) < 0.12:
        return _grasp(scene, pose)
    if aside_m < _ARM_REACH_M and -depth < _CROSS_CLEAR_M:
        return motion.towards(scene, motion.backed_off(scene.ee, 0.04), OPEN, _RISE)
    return motion.towards(scene, motion.backed_off(pose, _CROSS_CLEAR_M + 0.01), OPEN, TRAVEL)


def _pick_base(scene: Scene) -> Array:
    """Grasp the base so that its way to the leg turns the wrist least from its middle."""
    seat = _base_seat(scene)
    way_rad = motion.yaw(seat.matrix @ scene.parts[BASE].matrix.T) + _ENTRY_TURN_RAD

    def cost(grip: Array) -> float:
        """Turn (rad) of the wrist away from its middle here, and from the start of the screwing there."""
        from_middle = motion.wrapped(motion.yaw(grip) - motion.NEUTRAL_YAW_RAD)
        to_start = motion.wrapped(motion.yaw(grip) + way_rad - screw.START_HEADING_RAD)
        return abs(from_middle) + abs(to_start)

    return _base_grasp(scene, min(_base_grips(scene), key=cost))


def _insert_base(scene: Scene, base: _Offset) -> Array:
    """Carry the base over the leg, turn it for entry, and lower it, the lower the better it is aligned."""
    clearance_m = min(10.0 * max(0.0, base.aside_m - 0.001) + 0.5 * max(0.0, base.tilt_rad - 0.05), 0.05)
    wanted_m = _LOWER_TO_M + clearance_m
    if base.height_m < min(wanted_m, 0.04) and base.aside_m > 0.03:
        return motion.towards(scene, motion.raised(scene.ee, 0.12), CLOSE, TRAVEL)
    seat = _base_seat(scene)
    entry = motion.turned(motion.raised(seat, wanted_m), seat.position, _ENTRY_TURN_RAD)
    hand = motion.compose(entry, motion.relative(scene.parts[BASE], scene.ee))
    goal = screw.reachable(scene, hand, seat.position)
    return motion.towards(scene, goal, CLOSE, _LOWER if clearance_m < 0.05 else TRAVEL)


def _screw_base(scene: Scene) -> Array:
    if _holds_base(scene) and screw.can_turn(scene):
        return screw.turn(scene, _base_seat(scene).position[:2])
    if screw.turned_out(scene, _OPEN_WIDTH_M):
        return screw.open_in_place(scene)
    return _base_grasp(scene, screw.best_grip(scene, _base_grips(scene)))
