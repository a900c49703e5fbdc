"""SpaceMice through the kernel's hidraw files: found in sysfs, read report by report. Needs no library."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from resip.teleop.source import SourceError, SourceLostError

SYSFS: Final = Path("/sys/class/hidraw")
#: Grant whoever sits at the machine the right to read SpaceMice (and not all that Logitech makes: keyboards).
UDEV_RULES: Final = (
    'SUBSYSTEM=="hidraw", ATTRS{idVendor}=="256f", TAG+="uaccess"',
    'SUBSYSTEM=="hidraw", ATTRS{idVendor}=="046d", ATTRS{idProduct}=="c6*", TAG+="uaccess"',
)
UDEV_FILE: Final = "/etc/udev/rules.d/70-spacemouse.rules"
PERMISSION_REMEDY: Final = (
    f"put {UDEV_RULES[0]} into {UDEV_FILE} (old Logitech models: docs/teleop.md), "
    "run `udevadm control --reload`, plug it in again"
)

_VENDORS: Final = (0x046D, 0x256F)  # Logitech (older models), 3Dconnexion
#: How the report descriptor of a SpaceMouse begins: generic desktop page, multi-axis controller. A receiver shows
#: several HID devices, of which one is the cap; and Logitech makes mice and keyboards as well.
_MULTI_AXIS: Final = b"\x05\x01\x09\x08"
_REPORT_BYTES: Final = 64


@dataclass(frozen=True)
class Found:
    """A SpaceMouse that is plugged in."""

    name: str
    node: Path


def spacemice(devices: Path = SYSFS) -> list[Found]:
    """Every SpaceMouse that the kernel knows, readable or not."""
    found = []
    for device in sorted(devices.glob("hidraw*")):
        fields = _fields(device / "device" / "uevent")
        if _vendor(fields) in _VENDORS and _is_multi_axis(device / "device" / "report_descriptor"):
            found.append(Found(fields.get("HID_NAME", "SpaceMouse"), Path("/dev") / device.name))
    return found


def _vendor(fields: Mapping[str, str]) -> int | None:
    """Vendor in the field HID_ID, such as 0003:0000256F:0000C635."""
    numbers = fields.get("HID_ID", "").split(":")
    return int(numbers[1], 16) if len(numbers) == 3 else None


def _is_multi_axis(descriptor: Path) -> bool:
    return descriptor.is_file() and descriptor.read_bytes().startswith(_MULTI_AXIS)


def _fields(uevent: Path) -> dict[str, str]:
    if not uevent.is_file():
        return {}
    pairs = (line.partition("=") for line in uevent.read_text().splitlines())
    return {name: value for name, _, value in pairs}


class HidrawDevice:
    """An open hidraw file; see ``spacemouse.HidDevice``."""

    def __init__(self, name: str, node: Path) -> None:
        """Open the file.

        Raises:
          SourceError: it is not there, or must not be read.
        """
        self.name = name
        try:
            self._file = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise SourceError(f"no permission to read {name} at {node}: {PERMISSION_REMEDY}") from error
        except OSError as error:
            raise SourceError(f"cannot open {name} at {node}: {error.strerror}") from error

    def read(self, timeout_s: float) -> bytes | None:
        """Wait for the next report; None if none came in time.

        Raises:
          SourceLostError: it was unplugged.
        """
        if not select.select([self._file], [], [], timeout_s)[0]:
            return None
        try:
            data = os.read(self._file, _REPORT_BYTES)
        except OSError as error:
            raise SourceLostError(f"{self.name} was unplugged ({error.strerror})") from error
        if not data:
            raise SourceLostError(f"{self.name} was unplugged")
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def open_spacemouse(node: str = "") -> HidrawDevice:
    """Open a hidraw file by name, or the first SpaceMouse.

    Raises:
      SourceError: there is none, or it must not be read.
    """
    if node:
        return HidrawDevice("SpaceMouse", Path(node))
    found = spacemice()
    if not found:
        raise SourceError("no SpaceMouse is plugged in: plug one in, or choose the keyboard")
    return HidrawDevice(found[0].name, found[0].node)
