"""Scripted expert for one_leg: corner the top, pick the leg, stand it up, insert it, screw it in.

The plan is reactive: after every skill it looks at the scene again and does what is missing, so that a
dropped leg or a shifted top is simply picked up or pushed again.
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
_WALL_M: Final = 0.01  # half thickness of the obstacle's walls
_CORNER_TOLERANCE_M: Final = 0.0035
_CORNER_OVERSHOOT_M: Final = 0.015
_RIM_LOCAL_M: Final = np.array([0.0, 0.004, 0.078125])
_RIM_WIDTH_M: Final = 0.010  # a closed gripper on the 6.25 mm rim reads less than this

_HOLE_LOCAL_M: Final = np.array([0.05625, 0.0, -0.05625])
_SEATED_Y_M: Final = 0.046875
_LEG_WIDTH_M: Final = 0.030
_HELD_WIDTH_M: Final = (0.026, 0.033)
_FREE_WIDTH_M: Final = 0.048
_TILT_RAD: Final = np.deg2rad(50.0)
_RELEASE_HEIGHT_M: Final = 0.0105
_INSERTED_HEIGHT_M: Final = 0.016
_CLEARANCE_M: Final = 0.045
_TURN_RAD: Final = np.deg2rad(100.0)
#: Yaw of the gripper's x axis about which a turn is centred: the wrist's middle.
_NEUTRAL_YAW_RAD: Final = np.deg2rad(53.0)
_DOWN: Final = np.array([0.0, 0.0, -1.0])
_UP: Final = np.array([0.0, 0.0, 1.0])


def plan(scene: Scene) -> Plan:
    """Actions for one episode; never returns by itself: the episode ends when the task is done."""
    while True:
        if leg_inserted(scene):
            skill = _screw(scene)
        elif not top_cornered(scene):
            skill = _corner_top(scene)
        else:
            skill = _fetch_leg(scene)
        scene = yield from skill


def top_cornered(scene: Scene) -> bool:
    """Whether the top stands in the obstacle's front left corner."""
    gap = _corner(scene) - scene.parts[TOP].position[:2]
    return bool(np.all(np.abs(gap) < _CORNER_TOLERANCE_M))


def leg_inserted(scene: Scene) -> bool:
    """Whether the leg stands upright in its hole."""
    offset = _leg_in_hole(scene)
    upright = scene.parts[LEG].matrix[2, 1] > 0.97
    return bool(upright and np.hypot(offset[0], offset[2]) < 0.006 and offset[1] < _INSERTED_HEIGHT_M)


def _leg_in_hole(scene: Scene) -> Array:
    """Leg position relative to its seat in the top's frame; the second entry is the height left to screw."""
    local = motion.relative(scene.parts[TOP], scene.parts[LEG]).position
    return local - _HOLE_LOCAL_M - np.array([0.0, _SEATED_Y_M, 0.0])


def _corner(scene: Scene) -> Array:
    """Where the top's centre stands (x, y) when it touches the front and the left wall."""
    front_m = scene.obstacle_m[0] - _WALL_M - _TOP_HALF_M
    left_center_m = scene_geometry.OBSTACLE_WALLS["obstacle_left"][0][1]
    return np.array([front_m, scene.obstacle_m[1] + left_center_m - _WALL_M - _TOP_HALF_M])


def _nearest_opening(scene: Scene, approach: Array, opening: Array) -> Array:
    """Of the two ways to close on a part along ``opening``, the one nearer to the present orientation."""
    frames = [motion.gripper_frame(approach, side * opening) for side in (1.0, -1.0)]
    return min(frames, key=lambda frame: float(rotation.angle_between(scene.ee.matrix, frame)))


def _corner_top(scene: Scene) -> Plan:
    """Grip the rim nearest to the robot and drag the top into the corner."""

    def grasp(now: Scene) -> spaces.Pose:
        top = now.parts[TOP]
        return spaces.Pose(
            top.position + top.matrix @ _RIM_LOCAL_M, _nearest_opening(now, _DOWN, top.matrix[:, 2])
        )

    scene = yield from _move(scene, lambda now: motion.raised(grasp(now), 0.06), OPEN, TRAVEL, 0.015, 0.2)
    scene = yield from _move(scene, grasp, OPEN, APPROACH)
    scene = yield from _close(scene, grasp, lambda now: now.width_m < _RIM_WIDTH_M)

    def drag(now: Scene) -> spaces.Pose:
        top, corner = now.parts[TOP], _corner(now) + _CORNER_OVERSHOOT_M
        straight = spaces.Pose(np.append(corner, top.position[2]), _squared(top.matrix))
        return motion.compose(straight, motion.relative(top, now.ee))

    while not top_cornered(scene) and scene.width_m < _RIM_WIDTH_M and scene.width_m > 0.003:
        scene = yield motion.towards(scene, drag(scene), CLOSE, CONTACT)
    scene = yield from _open(scene, lambda now: now.width_m > 0.03)
    return (yield from _rise(scene, 0.07))


def _squared(matrix: Array) -> Array:
    """The top's orientation turned flat and parallel to the walls."""
    nominal = np.stack([[0.0, -1.0, 0.0], _UP, [-1.0, 0.0, 0.0]], axis=-1)
    del matrix
    return nominal


def _fetch_leg(scene: Scene) -> Plan:
    """Pick the leg up from the table, stand it over its hole and let it in."""
    if not _holding_leg(scene):
        scene = yield from _pick_leg(scene)
    if not _holding_leg(scene):
        return scene
    scene = yield from _lift_leg(scene)
    scene = yield from _insert_leg(scene)
    return scene


def _holding_leg(scene: Scene) -> bool:
    near = np.linalg.norm(scene.parts[LEG].position - scene.ee.position) < 0.035
    return bool(near and _HELD_WIDTH_M[0] < scene.width_m < _HELD_WIDTH_M[1])


def _pick_leg(scene: Scene) -> Plan:
    def grasp(now: Scene) -> spaces.Pose:
        leg = now.parts[LEG]
        axis = rotation.normalize(leg.matrix[:, 1] * np.array([1.0, 1.0, 0.0]))
        approach = np.cos(_TILT_RAD) * _DOWN - np.sin(_TILT_RAD) * axis
        frame = _nearest_opening(now, approach, np.cross(_UP, axis))
        return spaces.Pose(leg.position + 0.006 * axis + 0.003 * _UP, frame)

    scene = yield from _move(scene, lambda now: motion.backed_off(grasp(now), 0.08), OPEN, TRAVEL, 0.02, 0.25)
    scene = yield from _move(scene, grasp, OPEN, APPROACH)
    return (yield from _close(scene, grasp, lambda now: now.width_m < _HELD_WIDTH_M[1]))


def _leg_goal(scene: Scene, height_m: float) -> spaces.Pose:
    """Gripper pose that holds the leg upright, square to the top, ``height_m`` above its seat."""
    top = scene.parts[TOP]
    local = spaces.Pose(_HOLE_LOCAL_M + np.array([0.0, _SEATED_Y_M + height_m, 0.0]), np.eye(3))
    grip = motion.relative(scene.parts[LEG], scene.ee)
    return motion.compose(motion.compose(top, local), grip)


def _lift_leg(scene: Scene) -> Plan:
    start = scene.ee
    while _holding_leg(scene) and scene.ee.position[2] < 0.11 and scene.parts[LEG].matrix[2, 1] < 0.5:
        scene = yield motion.towards(scene, motion.raised(scene.ee, 0.12), CLOSE, APPROACH)
    del start

    def over(now: Scene) -> spaces.Pose:
        return _leg_goal(now, _CLEARANCE_M)

    while _holding_leg(scene) and not motion.at(scene, over(scene), 0.003, 0.04):
        scene = yield motion.towards(scene, over(scene), CLOSE, TRAVEL)
    return scene


def _insert_leg(scene: Scene) -> Plan:
    while _holding_leg(scene) and not _leg_low(scene):
        offset = _leg_in_hole(scene)
        astray = np.hypot(offset[0], offset[2]) > 0.0025 or scene.parts[LEG].matrix[2, 1] < 0.995
        height = max(offset[1], 0.030) if astray and offset[1] > 0.026 else _RELEASE_HEIGHT_M - 0.003
        scene = yield motion.towards(scene, _leg_goal(scene, height), CLOSE, CONTACT)
    scene = yield from _open(scene, lambda now: now.width_m > _FREE_WIDTH_M)
    return (yield from _back_off(scene, 0.07))


def _leg_low(scene: Scene) -> bool:
    return bool(_leg_in_hole(scene)[1] < _RELEASE_HEIGHT_M)


def _screw(scene: Scene) -> Plan:
    """One turn of the wrist: grasp the leg from above at a face, turn it clockwise, let go."""
    faces = _screw_start(scene)

    def grasp(now: Scene) -> spaces.Pose:
        return spaces.Pose(now.parts[LEG].position + np.array([0.0, 0.0, 0.012]), _face_frame(now, faces))

    if np.linalg.norm(scene.ee.position[:2] - scene.parts[LEG].position[:2]) > 0.02 or scene.ee.position[2] > 0.12:
        scene = yield from _move(scene, lambda now: motion.raised(grasp(now), 0.05), OPEN, TRAVEL, 0.012, 0.15)
    scene = yield from _move(scene, grasp, OPEN, APPROACH, 0.005, 0.08)
    scene = yield from _close(scene, grasp, lambda now: now.width_m < _HELD_WIDTH_M[1])
    end_yaw = _yaw(scene.ee.matrix) - _TURN_RAD
    while _holding_leg(scene) and leg_inserted(scene) and _turn_left(scene, end_yaw) > 0.10:
        leg = scene.parts[LEG].position
        turned = rotation.matrix_from_rotvec([0.0, 0.0, -min(_turn_left(scene, end_yaw), 0.35)]) @ scene.ee.matrix
        goal = spaces.Pose(np.array([leg[0], leg[1], scene.ee.position[2] - 0.004]), turned)
        scene = yield motion.towards(scene, goal, CLOSE, motion.Pace(0.02, 0.35))
    return (yield from _open(scene, lambda now: now.width_m > _FREE_WIDTH_M))


def _yaw(matrix: Array) -> float:
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def _turn_left(scene: Scene, end_yaw: float) -> float:
    """Clockwise angle (rad) still to turn."""
    return float((_yaw(scene.ee.matrix) - end_yaw + np.pi) % (2 * np.pi) - np.pi)


def _screw_start(scene: Scene) -> int:
    """Which of the leg's four faces lets a whole turn fit around the wrist's middle."""
    wanted = _NEUTRAL_YAW_RAD + _TURN_RAD / 2
    angles = [(_yaw(_face_frame(scene, k)) - wanted + np.pi) % (2 * np.pi) - np.pi for k in range(4)]
    return int(np.argmin(np.abs(angles)))


def _face_frame(scene: Scene, face: int) -> Array:
    axis = scene.parts[LEG].matrix[:, 0]
    quarter = rotation.matrix_from_rotvec([0.0, 0.0, face * np.pi / 2])
    return motion.gripper_frame(_DOWN, quarter @ axis)


def _move(scene: Scene, goal, gripper: float, pace, tolerance_m: float = 0.004, tolerance_rad: float = 0.06) -> Plan:  # noqa: ANN001
    while not motion.at(scene, goal(scene), tolerance_m, tolerance_rad):
        scene = yield motion.towards(scene, goal(scene), gripper, pace)
    return scene


def _close(scene: Scene, goal, closed) -> Plan:  # noqa: ANN001
    pose = goal(scene)
    while not closed(scene):
        scene = yield motion.towards(scene, pose, CLOSE, APPROACH)
    return scene


def _open(scene: Scene, opened) -> Plan:  # noqa: ANN001
    while not opened(scene):
        scene = yield motion.towards(scene, scene.ee, OPEN, APPROACH)
    return scene


def _rise(scene: Scene, height_m: float) -> Plan:
    goal = motion.raised(scene.ee, height_m)
    return (yield from _move(scene, lambda _: goal, OPEN, TRAVEL, 0.02, 0.3))


def _back_off(scene: Scene, distance_m: float) -> Plan:
    goal = motion.backed_off(scene.ee, distance_m)
    return (yield from _move(scene, lambda _: goal, OPEN, TRAVEL, 0.02, 0.3))
