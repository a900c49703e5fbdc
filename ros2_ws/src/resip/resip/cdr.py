"""Messages as they come off the wire (CDR, the encoding of DDS): what can be read without decoding all of one."""

from __future__ import annotations

import struct

_NS_PER_S = 1_000_000_000
_STAMP_BYTES = 12


def stamp_ns(data: bytes) -> int | None:
    """Stamp of a message that begins with a header or a time, in nanoseconds; None where it is too short for one.

    It is the first thing in the bytes: 4 of encapsulation, then seconds and nanoseconds.
    """
    if len(data) < _STAMP_BYTES:
        return None
    order = "<" if data[1] & 1 else ">"
    sec, nanosec = struct.unpack_from(f"{order}iI", data, 4)
    return sec * _NS_PER_S + nanosec
