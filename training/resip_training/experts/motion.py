"""What a scripted expert sees and how it moves: shared by the experts of all tasks.

Targets are memoryless: a bounded lead ahead of the *measured* fingertip towards the goal. A policy that
clones the expert needs no clock, and nothing waits in mid-air.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """One observation, unpacked: fingertip, gripper width, parts and obstacle, in the base frame."""

    ee: spaces.Pose
    speed_m_s: float
    width_m: float
    parts: dict[str, spaces.Pose]
    obstacle_m: Array
    """Centre of the obstacle's front wall, ``(3,)``."""
    grip: Mapping[str, float] = field(default_factory=dict)
    """Where along a part it is to be gripped, if not in the usual place: from -1 to 1 of the room that there is."""

    def aside_m(self, part: str, room_m: float) -> float:
        """How far from its usual place the part is to be gripped, where the hand has ``room_m`` to either side."""
        return room_m * self.grip.get(part, 0.0)


#: An expert: what is seen to the action ``(10,)``.
Expert = Callable[[Scene], Array]


def unpack(robot_state: Array, part_poses: Array, part_names: tuple[str, ...]) -> Scene:
    """Read one environment's ``robot_state`` (16,) and ``part_poses`` (7 * (parts + 1),)."""
    poses = part_poses.reshape(-1, spaces.PART_POSE_DIM)
    parts = {
        name: spaces.Pose(row[:3], rotation.matrix_from_quat(row[3:]))
        for name, row in zip(part_names, poses, strict=False)
    }
    return Scene(
        ee=spaces.Pose(robot_state[spaces.STATE_POSITION], rotation.matrix_from_rot6d(robot_state[spaces.STATE_ROT6D])),
        speed_m_s=float(np.linalg.norm(robot_state[spaces.STATE_LINEAR_VELOCITY])),
        width_m=float(robot_state[spaces.STATE_GRIPPER_WIDTH.start]),
        parts=parts,
        obstacle_m=poses[-1, :3],
    )


@dataclass(frozen=True)
class Pace:
    """How far the target leads the fingertip: with the arm's lag, this sets the speed."""

    lead_m: float
    lead_rad: float
    down_m: float = np.inf
    """Greatest lead downwards: to come down slowly while the aim is corrected at full pace."""


#: Heading of the gripper's x axis in the middle of the wrist's range.
NEUTRAL_YAW_RAD: Final = float(np.deg2rad(53.0))

TRAVEL = Pace(0.04, 0.30)
CONTACT = Pace(0.010, 0.12)


def towards(scene: Scene, goal: spaces.Pose, gripper: float, pace: Pace) -> Array:
    """Action that leads the fingertip towards ``goal`` by at most the pace's lead."""
    step = goal.position - scene.ee.position
    distance = float(np.linalg.norm(step))
    if distance > pace.lead_m:
        step = step * (pace.lead_m / distance)
    step[2] = max(step[2], -pace.down_m)
    position = scene.ee.position + step
    angle = float(rotation.angle_between(scene.ee.matrix, goal.matrix))
    fraction = 1.0 if angle <= pace.lead_rad else pace.lead_rad / angle
    return spaces.pack_action(position, rotation.interpolate(scene.ee.matrix, goal.matrix, fraction), gripper)


def at(scene: Scene, goal: spaces.Pose, tolerance_m: float = 0.004, tolerance_rad: float = 0.06) -> bool:
    """Whether the fingertip is at ``goal``."""
    return bool(
        np.linalg.norm(scene.ee.position - goal.position) <= tolerance_m
        and rotation.angle_between(scene.ee.matrix, goal.matrix) <= tolerance_rad
    )


def relative(base: spaces.Pose, other: spaces.Pose) -> spaces.Pose:
    """Pose of ``other`` in the frame of ``base``."""
    return spaces.Pose(base.matrix.T @ (other.position - base.position), base.matrix.T @ other.matrix)


def compose(base: spaces.Pose, local: spaces.Pose) -> spaces.Pose:
    """Pose in the base frame of ``local``, given in the frame ``base``."""
    return spaces.Pose(base.position + base.matrix @ local.position, base.matrix @ local.matrix)


def raised(pose: spaces.Pose, height_m: float) -> spaces.Pose:
    """The pose lifted vertically."""
    return spaces.Pose(pose.position + np.array([0.0, 0.0, height_m]), pose.matrix)


def backed_off(pose: spaces.Pose, distance_m: float) -> spaces.Pose:
    """The pose drawn back along its own approach axis (the gripper's z)."""
    return spaces.Pose(pose.position - distance_m * pose.matrix[:, 2], pose.matrix)


def turned(pose: spaces.Pose, center_m: Array, angle_rad: float) -> spaces.Pose:
    """The pose turned about the vertical through ``center_m``."""
    turn = rotation.matrix_from_rotvec([0.0, 0.0, angle_rad])
    return spaces.Pose(center_m + turn @ (pose.position - center_m), turn @ pose.matrix)


def gripper_frame(approach: Array, opening: Array) -> Array:
    """Gripper orientation: z along ``approach``, fingers opening along ``opening`` made square to it."""
    z = rotation.normalize(approach)
    y = rotation.normalize(opening - np.dot(opening, z) * z)
    return np.stack([np.cross(y, z), y, z], axis=-1)


def yaw(matrix: Array) -> float:
    """Heading (rad) of the x axis in the horizontal plane."""
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def wrapped(angle_rad: float) -> float:
    """The angle in [-pi, pi)."""
    return float((angle_rad + np.pi) % (2 * np.pi) - np.pi)


def funnel(scene: Scene, grasp: spaces.Pose, clearance_m: float, turn_inside: bool = False) -> spaces.Pose:
    """The grasp drawn back along its approach axis, by up to ``clearance_m``: the farther, the worse the aim.

    Args:
      scene: where the fingertip is.
      grasp: where it is to come.
      clearance_m: greatest distance that it is drawn back.
      turn_inside: whether the hand may turn about the approach axis while it comes down.
    """
    offset = grasp.matrix.T @ (scene.ee.position - grasp.position)
    aside_m = float(np.hypot(offset[0], offset[1]))
    aslant_rad = float(np.arccos(np.clip(scene.ee.matrix[:, 2] @ grasp.matrix[:, 2], -1.0, 1.0)))
    turned_rad = aslant_rad if turn_inside else float(rotation.angle_between(scene.ee.matrix, grasp.matrix))
    error_m = 3.0 * max(0.0, aside_m - 0.004) + 0.2 * max(0.0, turned_rad - 0.08)
    return backed_off(grasp, min(clearance_m, error_m))


def nearest_grip(scene: Scene, approach: Array, opening: Array) -> Array:
    """Of the two ways to close on a part along ``opening``, the one nearer to the present orientation."""
    frames = [gripper_frame(approach, side * opening) for side in (1.0, -1.0)]
    return min(frames, key=lambda frame: float(rotation.angle_between(scene.ee.matrix, frame)))


def grasp(scene: Scene, pose: spaces.Pose, clearance_m: float, open_width_m: float, turn_inside: bool = False) -> Array:
    """Come down to ``pose`` along its approach axis through a funnel, and close when there.

    Fingers narrower than ``open_width_m`` are on their way, closing: the tolerance is then wider.
    """
    closing = scene.width_m < open_width_m
    if at(scene, pose, 0.010 if closing else 0.005, 0.12 if closing else 0.08):
        return towards(scene, pose, spaces.GRIPPER_CLOSE, CONTACT)
    return towards(scene, funnel(scene, pose, clearance_m, turn_inside), spaces.GRIPPER_OPEN, TRAVEL)
