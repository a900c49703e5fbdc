"""The wire format, against bytes encoded by hand from the protocol's field numbers."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from google.protobuf import descriptor_pool
from resip.polymetis import messages, wire


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = b""
    while True:
        out += bytes([(number & 0x7F) | (0x80 if number > 0x7F else 0)])
        number >>= 7
        if not number:
            return out


def field(number: int, payload: bytes | int) -> bytes:
    """A length-delimited field for bytes, a varint field for an int."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def float_field(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def packed(number: int, values) -> bytes:
    return field(number, struct.pack(f"<{len(values)}f", *values))


ARRAYS = {name: np.arange(7) + 10.0 * i for i, name in enumerate(messages.JOINT_FIELDS)}
STATE = messages.RobotState(
    timestamp_ns=12_000_000_345,
    prev_controller_latency_ms=0.5,
    prev_command_successful=True,
    error_code=3,
    **ARRAYS,
)
STATE_BYTES = (
    field(1, field(1, 12) + field(2, 345))
    + b"".join(packed(number, ARRAYS[name]) for number, name in enumerate(messages.JOINT_FIELDS, start=2))
    + float_field(10, 0.5)
    + field(11, 1)
    + field(12, 3)
)


def test_a_robot_state_has_the_protocols_bytes():
    assert messages.robot_state_to_wire(STATE).SerializeToString(deterministic=True) == STATE_BYTES


def test_a_robot_state_survives_the_round_trip():
    decoded = messages.robot_state_from_wire(wire.RobotState.FromString(STATE_BYTES))
    assert decoded.timestamp_ns == STATE.timestamp_ns
    assert (decoded.prev_controller_latency_ms, decoded.prev_command_successful, decoded.error_code) == (0.5, True, 3)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(getattr(decoded, name), values)


def test_unknown_fields_of_a_newer_server_are_ignored():
    newer = STATE_BYTES + packed(13, [1.0] * 49) + field(99, b"text")
    assert messages.robot_state_from_wire(wire.RobotState.FromString(newer)).timestamp_ns == STATE.timestamp_ns


@pytest.mark.parametrize(
    ("interval", "encoded"),
    [
        (messages.Interval(), field(1, -1) + field(2, -1)),
        (messages.Interval(0, -1), field(2, -1)),  # zero is proto3's default, so it does not travel
        (messages.Interval(5, 9), field(1, 5) + field(2, 9)),
    ],
)
def test_none_is_minus_one_and_travels_explicitly(interval, encoded):
    assert messages.interval_to_wire(interval).SerializeToString() == encoded
    assert messages.interval_from_wire(wire.LogInterval.FromString(encoded)) == interval


def test_metadata_keeps_the_cartesian_gains_last():
    metadata = messages.RobotMetadata(
        urdf="<robot/>",
        hz=1000,
        default_controller=b"zip",
        dof=7,
        ee_link_name="panda_link8",
        ee_link_idx=8,
        rest_pose=(0.5,) * 7,
        default_kq=(1.0,) * 7,
        default_kqd=(2.0,) * 7,
        default_kx=(3.0,) * 6,
        default_kxd=(4.0,) * 6,
        polymetis_version="9_gabc",
    )
    encoded = messages.metadata_to_wire(metadata).SerializeToString(deterministic=True)
    assert encoded == (
        field(1, b"<robot/>")
        + field(2, 1000)
        + packed(3, [1.0] * 7)
        + packed(4, [2.0] * 7)
        + field(5, b"zip")
        + field(6, 7)
        + field(7, b"panda_link8")
        + field(8, 8)
        + packed(9, [0.5] * 7)
        + field(10, b"9_gabc")
        + packed(11, [3.0] * 6)
        + packed(12, [4.0] * 6)
    )
    assert messages.metadata_from_wire(wire.RobotClientMetadata.FromString(encoded)) == metadata


def test_gripper_messages_have_the_protocols_bytes():
    command = messages.GripperCommand(1_000_000_002, 0.5, 0.25, 70.0, True, -1.0, -1.0)
    encoded = messages.gripper_command_to_wire(command).SerializeToString(deterministic=True)
    assert encoded == (
        field(1, field(1, 1) + field(2, 2))
        + float_field(2, 0.5)
        + float_field(3, 0.25)
        + float_field(4, 70.0)
        + field(5, 1)
        + float_field(6, -1.0)
        + float_field(7, -1.0)
    )
    assert messages.gripper_command_from_wire(wire.GripperCommand.FromString(encoded)) == command

    state = messages.GripperState(1_000_000_002, 0.5, True, True, True, 4)
    encoded = messages.gripper_state_to_wire(state).SerializeToString(deterministic=True)
    assert encoded == (
        field(1, field(1, 1) + field(2, 2))
        + float_field(2, 0.5)
        + field(3, 1)
        + field(4, 1)
        + field(5, 4)
        + field(6, 1)  # the success flag is number 6, the error code 5
    )
    assert messages.gripper_state_from_wire(wire.GripperState.FromString(encoded)) == state

    metadata = messages.GripperMetadata(30, 0.5, "v")
    encoded = messages.gripper_metadata_to_wire(metadata).SerializeToString()
    assert encoded == field(1, b"v") + field(2, 30) + float_field(3, 0.5)
    assert messages.gripper_metadata_from_wire(wire.GripperMetadata.FromString(encoded)) == metadata


def test_an_archive_is_put_together_whatever_its_chunks():
    archive = bytes(range(256)) * 9
    for size in (1, 1024, 10_000):
        parts = [archive[start : start + size] for start in range(0, len(archive), size)]
        encoded = [wire.ControllerChunk.FromString(field(1, part)) for part in parts]
        assert wire.join_chunks(encoded) == archive
    assert wire.archive_message(archive).SerializeToString() == field(1, archive)


def test_the_protocols_package_name_is_empty_in_paths():
    assert wire.method_path(wire.ARM_SERVICE, "GetRobotState") == "/PolymetisControllerServer/GetRobotState"
    assert wire.method_path(wire.GRIPPER_SERVICE, "Goto") == "/GripperServer/Goto"


def test_the_messages_do_not_clash_with_others_in_the_default_pool():
    assert wire.RobotState.DESCRIPTOR.full_name == "resip.polymetis.wire.RobotState"
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("resip.polymetis.wire.RobotState")
