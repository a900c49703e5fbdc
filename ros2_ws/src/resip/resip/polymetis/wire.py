"""The protocol's messages and methods, described at run time.

Message names never travel, so the classes live in a private descriptor pool under our own package name:
nothing is generated, nothing clashes with Polymetis' own stubs, and protobuf 3.20 to 7 all serve. Unknown
fields of newer servers are kept and ignored, as proto3 does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE: Final = "resip.polymetis.wire"
ARM_SERVICE: Final = "PolymetisControllerServer"
GRIPPER_SERVICE: Final = "GripperServer"

# Message -> (number, name, type). "float*" is a packed repeated float; a capitalised type is a message.
_FIELDS: Final[dict[str, tuple[tuple[int, str, str], ...]]] = {
    "Timestamp": ((1, "seconds", "int64"), (2, "nanos", "int32")),
    "Empty": (),
    "LogInterval": ((1, "start", "int32"), (2, "end", "int32")),
    "ControllerChunk": ((1, "torchscript_binary_chunk", "bytes"),),
    "RobotState": (
        (1, "timestamp", "Timestamp"),
        (2, "joint_positions", "float*"),
        (3, "joint_velocities", "float*"),
        (4, "joint_torques_computed", "float*"),
        (5, "prev_joint_torques_computed", "float*"),
        (6, "prev_joint_torques_computed_safened", "float*"),
        (7, "motor_torques_measured", "float*"),
        (8, "motor_torques_external", "float*"),
        (9, "motor_torques_desired", "float*"),
        (10, "prev_controller_latency_ms", "float"),
        (11, "prev_command_successful", "bool"),
        (12, "error_code", "int32"),
    ),
    "TorqueCommand": ((1, "timestamp", "Timestamp"), (2, "joint_torques", "float*")),
    "RobotClientMetadata": (
        (1, "urdf_file", "string"),
        (2, "hz", "int32"),
        (3, "default_Kq", "float*"),
        (4, "default_Kqd", "float*"),
        (5, "default_controller", "bytes"),
        (6, "dof", "int32"),
        (7, "ee_link_name", "string"),
        (8, "ee_link_idx", "int32"),
        (9, "rest_pose", "float*"),
        (10, "polymetis_version", "string"),
        (11, "default_Kx", "float*"),
        (12, "default_Kxd", "float*"),
    ),
    "GripperMetadata": ((1, "polymetis_version", "string"), (2, "hz", "int32"), (3, "max_width", "float")),
    "GripperCommand": (
        (1, "timestamp", "Timestamp"),
        (2, "width", "float"),
        (3, "speed", "float"),
        (4, "force", "float"),
        (5, "grasp", "bool"),
        (6, "epsilon_inner", "float"),
        (7, "epsilon_outer", "float"),
    ),
    "GripperState": (
        (1, "timestamp", "Timestamp"),
        (2, "width", "float"),
        (3, "is_grasped", "bool"),
        (4, "is_moving", "bool"),
        (6, "prev_command_successful", "bool"),
        (5, "error_code", "int32"),
    ),
}

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "float": _Field.TYPE_FLOAT,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}


def _add_field(message: Any, number: int, name: str, type_name: str) -> None:
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if type_name.endswith("*"):
        field.label = _Field.LABEL_REPEATED
        type_name = type_name[:-1]
    if type_name in _SCALARS:
        field.type = _SCALARS[type_name]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{type_name}"


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="resip/polymetis/wire.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add_field(message, *field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    make_class = getattr(message_factory, "GetMessageClass", None)  # protobuf 4.22 and later
    if make_class is None:
        make_class = message_factory.MessageFactory(pool).GetPrototype  # pyright: ignore[reportAttributeAccessIssue]
    return {name: make_class(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _FIELDS}


_CLASSES: Final = _message_classes()

Timestamp: Final = _CLASSES["Timestamp"]
Empty: Final = _CLASSES["Empty"]
LogInterval: Final = _CLASSES["LogInterval"]
ControllerChunk: Final = _CLASSES["ControllerChunk"]
RobotState: Final = _CLASSES["RobotState"]
TorqueCommand: Final = _CLASSES["TorqueCommand"]
RobotClientMetadata: Final = _CLASSES["RobotClientMetadata"]
GripperMetadata: Final = _CLASSES["GripperMetadata"]
GripperCommand: Final = _CLASSES["GripperCommand"]
GripperState: Final = _CLASSES["GripperState"]


class Method(NamedTuple):
    """One remote call: its message classes, and which side streams."""

    request: Any
    response: Any
    streams_request: bool = False
    streams_response: bool = False


METHODS: Final[dict[str, dict[str, Method]]] = {
    ARM_SERVICE: {
        "SetController": Method(ControllerChunk, LogInterval, streams_request=True),
        "UpdateController": Method(ControllerChunk, LogInterval, streams_request=True),
        "TerminateController": Method(Empty, LogInterval),
        "GetRobotState": Method(Empty, RobotState),
        "GetRobotStateStream": Method(Empty, RobotState, streams_response=True),
        "GetRobotStateLog": Method(LogInterval, RobotState, streams_response=True),
        "GetEpisodeInterval": Method(Empty, LogInterval),
        "GetRobotClientMetadata": Method(Empty, RobotClientMetadata),
        "InitRobotClient": Method(RobotClientMetadata, Empty),
        "ControlUpdate": Method(RobotState, TorqueCommand),
    },
    GRIPPER_SERVICE: {
        "InitRobotClient": Method(GripperMetadata, Empty),
        "GetRobotClientMetadata": Method(Empty, GripperMetadata),
        "GetState": Method(Empty, GripperState),
        "Goto": Method(GripperCommand, Empty),
        "ControlUpdate": Method(GripperState, GripperCommand),
    },
}


def method_path(service: str, method: str) -> str:
    """Path of a call; the protocol's package name is empty."""
    return f"/{service}/{method}"


def archive_message(archive: bytes) -> Any:
    """Put a whole archive into one ``ControllerChunk``: servers put any number of chunks together."""
    return ControllerChunk(torchscript_binary_chunk=archive)


def join_chunks(messages: Iterable[Any]) -> bytes:
    """Put an archive together again, whatever the sizes of its chunks."""
    return b"".join(message.torchscript_binary_chunk for message in messages)


def timestamp(time_ns: int) -> Any:
    """Make a ``Timestamp`` message of integer nanoseconds."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)


def timestamp_ns(message: Any) -> int:
    """Read a ``Timestamp`` message as integer nanoseconds."""
    return message.seconds * 1_000_000_000 + message.nanos
