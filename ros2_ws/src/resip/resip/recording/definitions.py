"""Definitions of the standard messages: what a bag embeds, and what decodes it without ROS."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from resip import cdr
from resip.errors import ResipError

_HEADER_TYPE: Final = "std_msgs/msg/Header"
_TIME_TYPE: Final = "builtin_interfaces/msg/Time"


class UnknownMessageError(ResipError):
    """A message type that is not among the standard ones."""


class DamagedMessageError(ResipError):
    """Bytes that are no message of their type."""


@cache
def typestore() -> Typestore:
    """The standard message types of ROS 2 (the ones used here are the same from Humble to Kilted)."""
    return get_typestore(Stores.ROS2_KILTED)


def _require(type_name: str) -> None:
    if type_name not in typestore().fielddefs:
        raise UnknownMessageError(
            f"message type {type_name!r} is not among ROS 2's standard ones, so it is not recorded"
        )


@cache
def definition(type_name: str) -> str:
    """Text of a message definition with those it refers to, as MCAP's ``ros2msg`` encoding wants it.

    Raises:
      UnknownMessageError: no standard type.
    """
    _require(type_name)
    return typestore().generate_msgdef(type_name, ros_version=2)[0]


@cache
def type_hash(type_name: str) -> str:
    """REP-2016 hash of a type (``RIHS01_...``)."""
    _require(type_name)
    return typestore().hash_rihs01(type_name)


def decode(type_name: str, data: bytes) -> Any:
    """Deserialise CDR bytes into a message object with the fields of its type.

    Raises:
      UnknownMessageError: no standard type.
      DamagedMessageError: the bytes are no message of it.
    """
    _require(type_name)
    try:
        return typestore().deserialize_cdr(data, type_name)
    except SerdeError as error:
        raise DamagedMessageError(f"{len(data)} bytes are no {type_name}: {error}") from error


def stamp_ns(type_name: str, data: bytes) -> int | None:
    """Read the stamp of a serialised message without decoding the rest; None where the type has none."""
    return cdr.stamp_ns(data) if _begins_with_time(type_name) else None


@cache
def _begins_with_time(type_name: str) -> bool:
    fields = typestore().fielddefs.get(type_name, ((), ()))[1]
    if not fields:
        return False
    _kind, detail = fields[0][1]
    return detail in (_HEADER_TYPE, _TIME_TYPE)
