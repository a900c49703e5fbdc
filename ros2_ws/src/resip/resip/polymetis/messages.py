"""Typed values of the protocol's messages: numpy arrays inside, SI units, integer nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from resip.polymetis import wire

Array = NDArray[np.float64]

NONE: Final = -1  # index that means "none" in an interval

_TORQUE_FIELDS: Final = (
    "joint_torques_computed",
    "prev_joint_torques_computed",
    "prev_joint_torques_computed_safened",
    "motor_torques_measured",
    "motor_torques_external",
    "motor_torques_desired",
)
#: Fields of ``RobotState`` that are one number a joint, in the order of their wire numbers.
JOINT_FIELDS: Final = ("joint_positions", "joint_velocities", *_TORQUE_FIELDS)


def _empty() -> Array:
    return np.zeros(0)


@dataclass(frozen=True)
class RobotState:
    """One sample of the arm: arrays ``(dof,)``, empty where the sender left a field out.

    Positions in rad, velocities in rad/s, torques in Nm. ``timestamp_ns`` is on the sender's clock: the
    control PC's on the robot, the cell's in simulation.
    """

    timestamp_ns: int
    joint_positions: Array
    joint_velocities: Array
    joint_torques_computed: Array = field(default_factory=_empty)
    prev_joint_torques_computed: Array = field(default_factory=_empty)
    prev_joint_torques_computed_safened: Array = field(default_factory=_empty)
    motor_torques_measured: Array = field(default_factory=_empty)
    motor_torques_external: Array = field(default_factory=_empty)
    motor_torques_desired: Array = field(default_factory=_empty)
    prev_controller_latency_ms: float = 0.0
    prev_command_successful: bool = True
    error_code: int = 0

    @property
    def time_s(self) -> float:
        """The timestamp in seconds."""
        return self.timestamp_ns * 1e-9


@dataclass(frozen=True)
class Interval:
    """Log indices of an episode, both ends inclusive; ``-1`` is none yet."""

    start: int = NONE
    end: int = NONE

    @property
    def running(self) -> bool:
        """Whether a controller has started and not ended."""
        return self.start != NONE and self.end == NONE


@dataclass(frozen=True)
class RobotMetadata:
    """What a robot client tells about itself; gains are the diagonals in Nm/rad, N/m and their rates."""

    urdf: str
    hz: int
    default_controller: bytes
    dof: int
    ee_link_name: str
    ee_link_idx: int
    rest_pose: tuple[float, ...]
    default_kq: tuple[float, ...]
    default_kqd: tuple[float, ...]
    default_kx: tuple[float, ...]
    default_kxd: tuple[float, ...]
    polymetis_version: str


@dataclass(frozen=True)
class GripperMetadata:
    """What a gripper client tells about itself."""

    hz: int
    max_width_m: float
    polymetis_version: str = ""


@dataclass(frozen=True)
class GripperCommand:
    """Move to a width, or grasp with a force. ``timestamp_ns`` must differ from the last command's."""

    timestamp_ns: int
    width_m: float = 0.0
    speed_m_s: float = 0.0
    force_n: float = 0.0
    grasp: bool = False
    epsilon_inner_m: float = -1.0
    epsilon_outer_m: float = -1.0


@dataclass(frozen=True)
class GripperState:
    """One sample of the gripper. A server that has none yet answers all zeros, with ``timestamp_ns`` 0."""

    timestamp_ns: int = 0
    width_m: float = 0.0
    is_grasped: bool = False
    is_moving: bool = False
    prev_command_successful: bool = False
    error_code: int = 0


def robot_state_to_wire(state: RobotState) -> Any:
    """Encode a robot state."""
    arrays = {name: getattr(state, name).tolist() for name in JOINT_FIELDS}
    return wire.RobotState(
        timestamp=wire.timestamp(state.timestamp_ns),
        prev_controller_latency_ms=state.prev_controller_latency_ms,
        prev_command_successful=state.prev_command_successful,
        error_code=state.error_code,
        **arrays,
    )


def robot_state_from_wire(message: Any) -> RobotState:
    """Decode a robot state."""
    arrays = {name: np.array(getattr(message, name), dtype=np.float64) for name in JOINT_FIELDS}
    return RobotState(
        timestamp_ns=wire.timestamp_ns(message.timestamp),
        prev_controller_latency_ms=message.prev_controller_latency_ms,
        prev_command_successful=message.prev_command_successful,
        error_code=message.error_code,
        **arrays,
    )


def interval_to_wire(interval: Interval) -> Any:
    """Encode an interval."""
    return wire.LogInterval(start=interval.start, end=interval.end)


def interval_from_wire(message: Any) -> Interval:
    """Decode an interval."""
    return Interval(message.start, message.end)


def metadata_to_wire(metadata: RobotMetadata) -> Any:
    """Encode a robot client's metadata."""
    return wire.RobotClientMetadata(
        urdf_file=metadata.urdf,
        hz=metadata.hz,
        default_controller=metadata.default_controller,
        dof=metadata.dof,
        ee_link_name=metadata.ee_link_name,
        ee_link_idx=metadata.ee_link_idx,
        rest_pose=metadata.rest_pose,
        default_Kq=metadata.default_kq,
        default_Kqd=metadata.default_kqd,
        default_Kx=metadata.default_kx,
        default_Kxd=metadata.default_kxd,
        polymetis_version=metadata.polymetis_version,
    )


def metadata_from_wire(message: Any) -> RobotMetadata:
    """Decode a robot client's metadata."""
    return RobotMetadata(
        urdf=message.urdf_file,
        hz=message.hz,
        default_controller=message.default_controller,
        dof=message.dof,
        ee_link_name=message.ee_link_name,
        ee_link_idx=message.ee_link_idx,
        rest_pose=tuple(message.rest_pose),
        default_kq=tuple(message.default_Kq),
        default_kqd=tuple(message.default_Kqd),
        default_kx=tuple(message.default_Kx),
        default_kxd=tuple(message.default_Kxd),
        polymetis_version=message.polymetis_version,
    )


def gripper_metadata_to_wire(metadata: GripperMetadata) -> Any:
    """Encode a gripper client's metadata."""
    return wire.GripperMetadata(
        polymetis_version=metadata.polymetis_version, hz=metadata.hz, max_width=metadata.max_width_m
    )


def gripper_metadata_from_wire(message: Any) -> GripperMetadata:
    """Decode a gripper client's metadata."""
    return GripperMetadata(message.hz, message.max_width, message.polymetis_version)


def gripper_command_to_wire(command: GripperCommand) -> Any:
    """Encode a gripper command."""
    return wire.GripperCommand(
        timestamp=wire.timestamp(command.timestamp_ns),
        width=command.width_m,
        speed=command.speed_m_s,
        force=command.force_n,
        grasp=command.grasp,
        epsilon_inner=command.epsilon_inner_m,
        epsilon_outer=command.epsilon_outer_m,
    )


def gripper_command_from_wire(message: Any) -> GripperCommand:
    """Decode a gripper command."""
    return GripperCommand(
        timestamp_ns=wire.timestamp_ns(message.timestamp),
        width_m=message.width,
        speed_m_s=message.speed,
        force_n=message.force,
        grasp=message.grasp,
        epsilon_inner_m=message.epsilon_inner,
        epsilon_outer_m=message.epsilon_outer,
    )


def gripper_state_to_wire(state: GripperState) -> Any:
    """Encode a gripper state."""
    return wire.GripperState(
        timestamp=wire.timestamp(state.timestamp_ns),
        width=state.width_m,
        is_grasped=state.is_grasped,
        is_moving=state.is_moving,
        prev_command_successful=state.prev_command_successful,
        error_code=state.error_code,
    )


def gripper_state_from_wire(message: Any) -> GripperState:
    """Decode a gripper state."""
    return GripperState(
        timestamp_ns=wire.timestamp_ns(message.timestamp),
        width_m=message.width,
        is_grasped=message.is_grasped,
        is_moving=message.is_moving,
        prev_command_successful=message.prev_command_successful,
        error_code=message.error_code,
    )
