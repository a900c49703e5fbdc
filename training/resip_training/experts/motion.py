"""What a scripted expert sees and how it moves: shared by the experts of all tasks.

Targets are memoryless: a bounded lead ahead of the *measured* fingertip towards the goal. A policy that
clones the expert needs no clock, and nothing waits in mid-air: every phase ends on something in the state.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

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


#: An expert, or a skill of one, is a generator: it yields an action ``(10,)``, is sent the next ``Scene``, and
#: returns the last one.
Plan = Generator[Array, Scene, Scene]
Goal = Callable[[Scene], spaces.Pose]
Condition = Callable[[Scene], bool]


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


TRAVEL = Pace(0.06, 0.40)
APPROACH = Pace(0.03, 0.25)
CONTACT = Pace(0.012, 0.15)


def towards(scene: Scene, goal: spaces.Pose, gripper: float, pace: Pace) -> Array:
    """Action that leads the fingertip towards ``goal`` by at most the pace's lead."""
    step = goal.position - scene.ee.position
    distance = float(np.linalg.norm(step))
    position = goal.position if distance <= pace.lead_m else scene.ee.position + step * (pace.lead_m / distance)
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


def move(
    scene: Scene, goal: Goal, gripper: float, pace: Pace, tolerance_m: float = 0.004, tolerance_rad: float = 0.06
) -> Plan:
    """Skill: follow ``goal`` until the fingertip is there."""
    while not at(scene, goal(scene), tolerance_m, tolerance_rad):
        scene = yield towards(scene, goal(scene), gripper, pace)
    return scene


def hold(scene: Scene, gripper: float, until: Condition) -> Plan:
    """Skill: open or close the gripper where it is, until the condition holds."""
    pose = scene.ee
    while not until(scene):
        scene = yield towards(scene, pose, gripper, APPROACH)
    return scene
