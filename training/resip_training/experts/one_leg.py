"""Scripted expert for one_leg: corner the top, pick the leg, stand it up, insert it, screw it in.

The plan is reactive: after every skill it looks at the scene again and does what is missing, so that a
dropped leg or a shifted top is simply picked up or pushed again. No skill remembers more than where it began.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces

from resip_training.experts import motion
from resip_training.experts.motion import APPROACH, CONTACT, TRAVEL, Plan, Scene
from resip_training.sim import scene as scene_geometry

Array = NDArray[np.float64]

TOP, LEG = "square_table_top", "square_table_leg4"
OPEN, CLOSE = spaces.GRIPPER_OPEN, spaces.GRIPPER_CLOSE

_TOP_HALF_M: Final = 0.08125
_WALL_HALF_M: Final = 0.01
_CORNER_TOLERANCE_M: Final = 0.0035
_CORNER_OVERSHOOT_M: Final = 0.015
#: Middle of the rim that is nearest to the robot, in the top's frame.
_RIM_LOCAL_M: Final = np.array([0.0, 0.004, 0.078125])
_RIM_WIDTH_M: Final = (0.003, 0.010)  # what a gripper closed on the 6.25 mm rim reads
_RIM_FREE_WIDTH_M: Final = 0.030
#: Orientation of the top when it stands in the corner.
_SQUARE: Final = np.stack([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]], axis=-1)

#: The hole that the leg goes into: the one in the obstacle's corner side away from the walls.
_SEAT_LOCAL_M: Final = np.array([0.05625, 0.046875, -0.05625])
_LEG_WIDTH_M: Final = (0.026, 0.033)  # what a gripper closed on the 30 mm leg reads
#: The leg that lies nearest; the open fingers keep off it.
_NEIGHBOUR: Final = "square_table_leg3"
_NEIGHBOUR_OFFSET_M: Final = 0.007
_LEG_FREE_WIDTH_M: Final = 0.048
_TILT_RAD: Final = np.deg2rad(50.0)
_CARRY_HEIGHT_M: Final = 0.045
_ALIGN_HEIGHT_M: Final = 0.030
_RELEASE_HEIGHT_M: Final = 0.0105
_INSERTED_HEIGHT_M: Final = 0.016
_UPRIGHT_COSINE: Final = 0.97

_TURN_RAD: Final = np.deg2rad(100.0)
#: Heading of the gripper's x axis in the middle of the wrist's range; turns are centred on it.
_NEUTRAL_YAW_RAD: Final = np.deg2rad(53.0)
_TURN_END_RAD: Final = _NEUTRAL_YAW_RAD - _TURN_RAD / 2
_TURN_PACE: Final = motion.Pace(0.02, 0.35)
_PRESS_M: Final = 0.004
_DOWN: Final = np.array([0.0, 0.0, -1.0])
_UP: Final = np.array([0.0, 0.0, 1.0])


def plan(scene: Scene) -> Plan:
    """Actions for one episode; it goes on until the episode ends."""
    while True:
        if leg_inserted(scene):
            scene = yield from _screw(scene)
        elif not top_cornered(scene):
            scene = yield from _corner_top(scene)
        else:
            scene = yield from _fetch_leg(scene)


def top_cornered(scene: Scene) -> bool:
    """Whether the top stands in the obstacle's front left corner."""
    gap = _corner(scene) - scene.parts[TOP].position[:2]
    return bool(np.all(np.abs(gap) < _CORNER_TOLERANCE_M))


def leg_inserted(scene: Scene) -> bool:
    """Whether the leg stands upright in its hole."""
    x, height, z = leg_above_seat(scene)
    upright = scene.parts[LEG].matrix[2, 1] > _UPRIGHT_COSINE
    return bool(upright and np.hypot(x, z) < 0.006 and height < _INSERTED_HEIGHT_M)


def leg_above_seat(scene: Scene) -> Array:
    """Leg position relative to its seat, ``(3,)`` in the top's frame; the second entry is the height."""
    return motion.relative(scene.parts[TOP], scene.parts[LEG]).position - _SEAT_LOCAL_M


def _corner(scene: Scene) -> Array:
    """Where the top's centre stands (x, y) when it touches the front and the left wall."""
    front_m = scene.obstacle_m[0] - _WALL_HALF_M - _TOP_HALF_M
    left_center_m = scene_geometry.OBSTACLE_WALLS["obstacle_left"][0][1]
    return np.array([front_m, scene.obstacle_m[1] + left_center_m - _WALL_HALF_M - _TOP_HALF_M])


def _nearest_grip(scene: Scene, approach: Array, opening: Array) -> Array:
    """Of the two ways to close on a part along ``opening``, the one nearer to the present orientation."""
    frames = [motion.gripper_frame(approach, side * opening) for side in (1.0, -1.0)]
    return min(frames, key=lambda frame: float(rotation.angle_between(scene.ee.matrix, frame)))


def _holds_rim(scene: Scene) -> bool:
    return _RIM_WIDTH_M[0] < scene.width_m < _RIM_WIDTH_M[1]


def _corner_top(scene: Scene) -> Plan:
    """Grip the rim nearest to the robot and drag the top into the corner."""

    def grasp(now: Scene) -> spaces.Pose:
        top = now.parts[TOP]
        return spaces.Pose(top.position + top.matrix @ _RIM_LOCAL_M, _nearest_grip(now, _DOWN, top.matrix[:, 2]))

    def drag(now: Scene) -> spaces.Pose:
        top, corner = now.parts[TOP], _corner(now) + _CORNER_OVERSHOOT_M
        return motion.compose(spaces.Pose(np.append(corner, top.position[2]), _SQUARE), motion.relative(top, now.ee))

    scene = yield from motion.move(scene, lambda now: motion.raised(grasp(now), 0.06), OPEN, TRAVEL, 0.015, 0.2)
    scene = yield from motion.move(scene, grasp, OPEN, APPROACH)
    scene = yield from motion.hold(scene, CLOSE, lambda now: now.width_m < _RIM_WIDTH_M[1])
    while _holds_rim(scene) and not top_cornered(scene):
        scene = yield motion.towards(scene, drag(scene), CLOSE, CONTACT)
    scene = yield from motion.hold(scene, OPEN, lambda now: now.width_m > _RIM_FREE_WIDTH_M)
    clear = motion.raised(scene.ee, 0.07)
    return (yield from motion.move(scene, lambda _: clear, OPEN, TRAVEL, 0.02, 0.3))


def _holds_leg(scene: Scene) -> bool:
    near = np.linalg.norm(scene.parts[LEG].position - scene.ee.position) < 0.035
    return bool(near and _LEG_WIDTH_M[0] < scene.width_m < _LEG_WIDTH_M[1])


def _fetch_leg(scene: Scene) -> Plan:
    """Pick the leg up from the table, stand it over its hole and let it in."""
    if not _holds_leg(scene):
        scene = yield from _pick_leg(scene)
    if _holds_leg(scene):
        scene = yield from _carry_leg(scene)
        scene = yield from _insert_leg(scene)
    return scene


def _pick_leg(scene: Scene) -> Plan:
    """Grasp the lying leg with the hand tilted back, so that standing it up tilts the hand forward no more."""

    def grasp(now: Scene) -> spaces.Pose:
        leg = now.parts[LEG]
        axis = rotation.normalize(leg.matrix[:, 1] * np.array([1.0, 1.0, 0.0]))
        approach = np.cos(_TILT_RAD) * _DOWN - np.sin(_TILT_RAD) * axis
        return spaces.Pose(leg.position + 0.006 * axis + 0.003 * _UP, _nearest_grip(now, approach, np.cross(_UP, axis)))

    scene = yield from motion.move(scene, lambda now: motion.backed_off(grasp(now), 0.08), OPEN, TRAVEL, 0.02, 0.25)
    scene = yield from motion.move(scene, grasp, OPEN, APPROACH, 0.007)
    return (yield from motion.hold(scene, CLOSE, lambda now: now.width_m < _LEG_WIDTH_M[1]))


def _standing(scene: Scene, height_m: float) -> spaces.Pose:
    """Gripper pose that holds the leg upright, square to the top, ``height_m`` above its seat."""
    seat = spaces.Pose(_SEAT_LOCAL_M + np.array([0.0, height_m, 0.0]), np.eye(3))
    grip = motion.relative(scene.parts[LEG], scene.ee)
    return motion.compose(motion.compose(scene.parts[TOP], seat), grip)


def _carry_leg(scene: Scene) -> Plan:
    """Lift the leg, stand it up and bring it over its hole."""
    while _holds_leg(scene) and scene.ee.position[2] < 0.11 and scene.parts[LEG].matrix[2, 1] < 0.5:
        scene = yield motion.towards(scene, motion.raised(scene.ee, 0.12), CLOSE, APPROACH)
    while _holds_leg(scene) and not motion.at(scene, _standing(scene, _CARRY_HEIGHT_M), 0.003, 0.04):
        scene = yield motion.towards(scene, _standing(scene, _CARRY_HEIGHT_M), CLOSE, TRAVEL)
    return scene


def _insert_leg(scene: Scene) -> Plan:
    """Lower the leg into its hole, aligning it first, and let go of it."""
    while _holds_leg(scene) and leg_above_seat(scene)[1] > _RELEASE_HEIGHT_M:
        x, height, z = leg_above_seat(scene)
        aligned = np.hypot(x, z) < 0.0025 and scene.parts[LEG].matrix[2, 1] > 0.995
        above = height > _ALIGN_HEIGHT_M - 0.004
        wanted = max(height, _ALIGN_HEIGHT_M) if above and not aligned else _RELEASE_HEIGHT_M - 0.003
        scene = yield motion.towards(scene, _standing(scene, wanted), CLOSE, CONTACT)
    scene = yield from motion.hold(scene, OPEN, lambda now: now.width_m > _LEG_FREE_WIDTH_M)
    clear = motion.backed_off(scene.ee, 0.07)
    return (yield from motion.move(scene, lambda _: clear, OPEN, TRAVEL, 0.02, 0.3))


def _screw(scene: Scene) -> Plan:
    """One turn of the wrist: grasp the leg from above at a face, turn it clockwise, let go."""
    face = _first_face(scene)

    def grasp(now: Scene) -> spaces.Pose:
        return spaces.Pose(now.parts[LEG].position + 0.012 * _UP, _face_frame(now, face))

    if np.linalg.norm((scene.ee.position - scene.parts[LEG].position)[:2]) > 0.02:
        scene = yield from motion.move(scene, lambda now: motion.raised(grasp(now), 0.05), OPEN, TRAVEL, 0.012, 0.15)
    scene = yield from motion.move(scene, grasp, OPEN, TRAVEL, 0.005, 0.08)
    scene = yield from motion.hold(scene, CLOSE, lambda now: now.width_m < _LEG_WIDTH_M[1])
    while _holds_leg(scene) and leg_inserted(scene) and _left_to_turn(scene) > 0.08:
        turned = rotation.matrix_from_rotvec([0.0, 0.0, -min(_left_to_turn(scene), 0.35)]) @ scene.ee.matrix
        center = np.append(scene.parts[LEG].position[:2], scene.ee.position[2] - _PRESS_M)
        scene = yield motion.towards(scene, spaces.Pose(center, turned), CLOSE, _TURN_PACE)
    return (yield from motion.hold(scene, OPEN, lambda now: now.width_m > _LEG_FREE_WIDTH_M))


def _left_to_turn(scene: Scene) -> float:
    """Clockwise angle (rad) to the end of the wrist's turn."""
    return motion.wrapped(motion.yaw(scene.ee.matrix) - _TURN_END_RAD)


def _first_face(scene: Scene) -> int:
    """Which of the leg's four faces lets the longest turn fit around the wrist's middle."""
    wanted = _NEUTRAL_YAW_RAD + _TURN_RAD / 2
    return min(range(4), key=lambda face: abs(motion.wrapped(motion.yaw(_face_frame(scene, face)) - wanted)))


def _face_frame(scene: Scene, face: int) -> Array:
    """Gripper pointing down, closing on the leg's ``face``-th pair of sides."""
    quarter = rotation.matrix_from_rotvec([0.0, 0.0, face * np.pi / 2])
    return motion.gripper_frame(_DOWN, quarter @ scene.parts[LEG].matrix[:, 0])
