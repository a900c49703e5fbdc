"""Kinematics of the Franka Panda up to the fingertip frame: numpy or torch, batched.

The chain is the URDF's (``franka_panda.urdf``): each joint turns about its own z axis after a fixed
transform. The fingertip frame is ``spaces.EE_FRAME``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resip import arrays, rotation, spaces

Array = NDArray[np.float64]

DOF: Final = 7
JOINT_NAMES: Final = tuple(f"panda_joint{i}" for i in range(1, DOF + 1))
FINGER_NAMES: Final = ("panda_finger_joint1", "panda_finger_joint2")

# URDF limits (rad, rad/s, Nm).
LOWER_RAD: Final = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
UPPER_RAD: Final = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
VELOCITY_RAD_S: Final = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
EFFORT_NM: Final = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])

# What the robot client (Polymetis' ``franka_panda_client``) lets pass: beyond it the motion is stopped.
HARD_LOWER_RAD: Final = np.array([-2.80, -1.66, -2.80, -2.97, -2.80, 0.08, -2.80])
HARD_UPPER_RAD: Final = np.array([2.80, 1.66, 2.80, -0.17, 2.80, 3.65, 2.80])
HARD_VELOCITY_RAD_S: Final = np.array([2.075, 2.075, 2.075, 2.075, 2.51, 2.51, 2.51])
#: Within this distance of a hard limit the robot client pushes back; commands stay out of it.
SOFT_MARGIN_RAD: Final = 0.2
#: Fastest that joints are commanded: below where the robot client begins to brake (0.5 rad/s before its limit).
COMMAND_VELOCITY_RAD_S: Final = np.array([1.5, 1.5, 1.5, 1.5, 2.0, 2.0, 2.0])

#: The reference's reset pose: fingertip at about (0.567, 0.055, 0.124) m, gripper pointing down.
RESET_RAD: Final = np.array([-0.02630888, 0.3758795, 0.12485036, -2.1383357, -0.09431414, 2.49649072, 0.01921718])

GRIPPER_MAX_WIDTH_M: Final = 0.08
#: How fast the hand opens and closes, on the robot and in training: its maximum (m/s of the width).
GRIPPER_SPEED_M_S: Final = 0.1

# Fixed transform before each joint: roll about x (rad), translation (m). From the URDF.
_HALF_PI = np.pi / 2
_ROLL_RAD = (0.0, -_HALF_PI, _HALF_PI, _HALF_PI, -_HALF_PI, _HALF_PI, _HALF_PI)
_OFFSET_M = (
    (0.0, 0.0, 0.333),
    (0.0, 0.0, 0.0),
    (0.0, -0.316, 0.0),
    (0.0825, 0.0, 0.0),
    (-0.0825, 0.384, 0.0),
    (0.0, 0.0, 0.0),
    (0.088, 0.0, 0.0),
)
FLANGE_OFFSET_M: Final = 0.107  # panda_joint8


def _transform(matrix: Array, offset: ArrayLike) -> Array:
    out = np.eye(4)
    out[:3, :3] = matrix
    out[:3, 3] = offset
    return out


#: ``(7, 4, 4)``
FIXED_TRANSFORMS: Final = np.stack(
    [
        _transform(rotation.matrix_from_rotvec([roll, 0.0, 0.0]), offset)
        for roll, offset in zip(_ROLL_RAD, _OFFSET_M, strict=True)
    ]
)
_FLANGE: Final = _transform(np.eye(3), (0.0, 0.0, FLANGE_OFFSET_M))
FLANGE_TO_EE: Final = _transform(
    rotation.matrix_from_rotvec([0.0, 0.0, spaces.EE_YAW_FROM_FLANGE_RAD]), (0.0, 0.0, spaces.EE_OFFSET_FROM_FLANGE_M)
)


def _joint_frames(q: Array) -> list[Array]:
    """Frames ``(..., 4, 4)`` in the base: after each joint's rotation, for the seven joints."""
    xp = arrays.namespace(q)
    cos, sin = xp.cos(q)[..., None], xp.sin(q)[..., None]
    fixed = arrays.constant(FIXED_TRANSFORMS, q)
    steps = arrays.copy(xp.broadcast_to(fixed, (*q.shape, 4, 4)))  # of each joint, from the one before
    steps[..., :, 0] = cos * fixed[..., :, 0] + sin * fixed[..., :, 1]
    steps[..., :, 1] = cos * fixed[..., :, 1] - sin * fixed[..., :, 0]
    frames = [steps[..., 0, :, :]]
    for joint in range(1, DOF):
        frames.append(frames[-1] @ steps[..., joint, :, :])
    return frames


def _joint_array(q_rad: ArrayLike) -> Array:
    q = arrays.floats(q_rad)
    if q.shape[-1:] != (DOF,):
        raise ValueError(f"the Panda has {DOF} joints, got an array of shape {tuple(q.shape)}")
    return q


def _fingertip(last: Array) -> Array:
    """Fingertip frame ``(..., 4, 4)`` from the last joint's."""
    return last @ arrays.constant(_FLANGE, last) @ arrays.constant(FLANGE_TO_EE, last)


def _cross(a: Array, b: Array) -> Array:
    """Cross products of columns, ``(..., 3, n)``: half the time of a library's for few columns."""
    ax, ay, az = a[..., 0, :], a[..., 1, :], a[..., 2, :]
    bx, by, bz = b[..., 0, :], b[..., 1, :], b[..., 2, :]
    return arrays.namespace(a).stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-2)


def flange_pose(q_rad: ArrayLike) -> spaces.Pose:
    """Pose of ``panda_link8`` in the base frame for joints ``(..., 7)``."""
    last = _joint_frames(_joint_array(q_rad))[-1]
    frame = last @ arrays.constant(_FLANGE, last)
    return spaces.Pose(frame[..., :3, 3], frame[..., :3, :3])


def ee_pose(q_rad: ArrayLike) -> spaces.Pose:
    """Pose of the fingertip frame in the base frame for joints ``(..., 7)``."""
    frame = _fingertip(_joint_frames(_joint_array(q_rad))[-1])
    return spaces.Pose(frame[..., :3, 3], frame[..., :3, :3])


def ee_pose_and_jacobian(q_rad: ArrayLike) -> tuple[spaces.Pose, Array]:
    """Fingertip pose and geometric Jacobian ``(..., 6, 7)``: rows linear (m), angular (rad), base axes."""
    frames = _joint_frames(_joint_array(q_rad))
    xp = arrays.namespace(frames[-1])
    ee = _fingertip(frames[-1])
    position = ee[..., :3, 3]
    axes = xp.stack([frame[..., :3, 2] for frame in frames], axis=-1)
    origins = xp.stack([frame[..., :3, 3] for frame in frames], axis=-1)
    linear = _cross(axes, position[..., :, None] - origins)
    return spaces.Pose(position, ee[..., :3, :3]), xp.concatenate([linear, axes], axis=-2)


def flange_jacobian(q_rad: ArrayLike) -> Array:
    """Geometric Jacobian ``(..., 6, 7)`` of ``panda_link8``: rows linear (m), angular (rad), base axes."""
    pose, jacobian = ee_pose_and_jacobian(q_rad)
    to_flange = -spaces.EE_OFFSET_FROM_FLANGE_M * pose.matrix[..., :, 2]
    flange = arrays.copy(jacobian)
    flange[..., :3, :] += _cross(jacobian[..., 3:, :], to_flange[..., :, None])
    return flange


def robot_state(q_rad: ArrayLike, qd_rad_s: ArrayLike, gripper_width_m: ArrayLike) -> Array:
    """The contract's robot state ``(..., 16)`` from joints ``(..., 7)``, their speeds and the width ``(...)``.

    The one function behind the state in training and on the robot, so that velocities are those of the
    fingertip on both (the reference implementation used the flange's on the robot).
    """
    pose, jacobian = ee_pose_and_jacobian(q_rad)
    twist = arrays.namespace(jacobian).einsum("...ij,...j->...i", jacobian, arrays.floats(qd_rad_s))
    return spaces.pack_state(pose.position, pose.matrix, twist[..., :3], twist[..., 3:], gripper_width_m)


def measured_state(position: ArrayLike, velocity: ArrayLike) -> Array:
    """The contract's robot state ``(16,)`` from a robot's joint message: its seven joints, then its two fingers.

    Args:
      position: ``(9,)`` rad, and m for the fingers.
      velocity: ``(9,)`` rad/s, and m/s for the fingers.
    """
    q, qd = np.asarray(position, dtype=np.float64), np.asarray(velocity, dtype=np.float64)
    return robot_state(q[:DOF], qd[:DOF], float(q[DOF:].sum()))
