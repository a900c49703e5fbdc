"""The contract that training and deployment share: its only home.

Robot state (16), action (10), part poses (7 each), image streams, rates and frames. Every exported
model carries a copy of ``contract()`` in its manifest, and loading refuses a mismatch by field name.

Frames: everything is in the robot base frame (``panda_link0``; the table's surface is z = 0). EE is
the *fingertip* frame: ``panda_link8 * Rz(-45 deg) * translate(z, 0.1034 m)``, in simulation and on
the robot alike; velocities are of that frame, along the base axes. Quaternions are xyzw.
Source: paper tables 3 and 4 and appendix 7.2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resip import arrays, rotation

CONTROL_HZ: Final = 10.0
CONTROL_PERIOD_S: Final = 1.0 / CONTROL_HZ
BASE_FRAME: Final = "panda_link0"
EE_FRAME: Final = "panda_fingertip"
EE_OFFSET_FROM_FLANGE_M: Final = 0.1034
EE_YAW_FROM_FLANGE_RAD: Final = -np.pi / 4

STATE_DIM: Final = 16
STATE_POSITION: Final = slice(0, 3)
STATE_ROT6D: Final = slice(3, 9)
STATE_LINEAR_VELOCITY: Final = slice(9, 12)
STATE_ANGULAR_VELOCITY: Final = slice(12, 15)
STATE_GRIPPER_WIDTH: Final = slice(15, 16)

ACTION_DIM: Final = 10
ACTION_POSITION: Final = slice(0, 3)
ACTION_ROT6D: Final = slice(3, 9)
ACTION_GRIPPER: Final = slice(9, 10)
GRIPPER_CLOSE: Final = 1.0
GRIPPER_OPEN: Final = -1.0

PART_POSE_DIM: Final = 7

CAMERAS: Final = ("front", "wrist")
IMAGE_WIDTH: Final = 320
IMAGE_HEIGHT: Final = 240

Array = NDArray[np.float64]
Observation = Literal["state", "image"]


@dataclass(frozen=True)
class Pose:
    """A pose in the robot base frame: ``position`` (..., 3) in metres, ``matrix`` (..., 3, 3)."""

    position: Array
    matrix: Array


def pack_state(
    position: ArrayLike,
    matrix: ArrayLike,
    linear_velocity: ArrayLike,
    angular_velocity: ArrayLike,
    gripper_width: ArrayLike,
) -> Array:
    """Assemble robot states ``(..., 16)``: m, rotation rows, m/s, rad/s, m; base frame, fingertip."""
    return arrays.namespace(position).concatenate(
        [
            arrays.floats(position),
            rotation.rot6d_from_matrix(matrix),
            arrays.floats(linear_velocity),
            arrays.floats(angular_velocity),
            arrays.floats(gripper_width)[..., None],
        ],
        axis=-1,
    )


def pack_action(position: ArrayLike, matrix: ArrayLike, gripper: ArrayLike) -> Array:
    """Assemble actions ``(..., 10)``: desired fingertip pose in the base frame, gripper +1 close, -1 open."""
    return arrays.namespace(position).concatenate(
        [arrays.floats(position), rotation.rot6d_from_matrix(matrix), arrays.floats(gripper)[..., None]],
        axis=-1,
    )


def action_pose(action: ArrayLike) -> Pose:
    """Decode the desired fingertip pose of actions ``(..., 10)``.

    Raises:
      ValueError: the shape is wrong or the 6D part is no rotation (a tensor's gives NaN, see ``rotation.normalize``).
    """
    action = arrays.floats(action)
    if action.shape[-1:] != (ACTION_DIM,):
        raise ValueError(f"an action has {ACTION_DIM} numbers, got shape {tuple(action.shape)}")
    return Pose(action[..., ACTION_POSITION], rotation.matrix_from_rot6d(action[..., ACTION_ROT6D]))


def gripper_command(action: ArrayLike) -> Array:
    """Quantise the gripper entry of actions ``(..., 10)`` to +1 (close) or -1 (open); zero opens."""
    entry = arrays.floats(action)[..., ACTION_GRIPPER.start]
    xp = arrays.namespace(entry)
    return xp.where(entry > 0, xp.full_like(entry, GRIPPER_CLOSE), GRIPPER_OPEN)


def contract(observation: Observation) -> dict[str, Any]:
    """Describe the interface of a policy, for its manifest: plain JSON values, compared field by field."""
    fields: dict[str, Any] = {
        "observation": observation,
        "control_hz": CONTROL_HZ,
        "base_frame": BASE_FRAME,
        "ee_frame": EE_FRAME,
        "ee_offset_from_flange_m": EE_OFFSET_FROM_FLANGE_M,
        "ee_yaw_from_flange_rad": EE_YAW_FROM_FLANGE_RAD,
        "rotation": "6d-rows",
        "quaternion": "xyzw",
        "state": ["position_m:3", "rot6d:6", "linear_velocity_m_s:3", "angular_velocity_rad_s:3", "gripper_width_m:1"],
        "action": ["position_m:3", "rot6d:6", "gripper:1 (+1 close, -1 open)"],
        "action_mode": "absolute",
    }
    if observation == "image":
        fields["cameras"] = list(CAMERAS)
        fields["image"] = {"width": IMAGE_WIDTH, "height": IMAGE_HEIGHT, "encoding": "rgb8"}
    else:
        fields["part_pose"] = ["position_m:3", "quaternion_xyzw:4 (fixed hemisphere)"]
    return fields
