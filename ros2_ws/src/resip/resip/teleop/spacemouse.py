"""3Dconnexion SpaceMice: their HID reports, and when silence is rest and when it is a fault.

Report layouts (one report a read, its number first, then little-endian numbers):

====== ======================================== ==================================================
number models                                   content
====== ======================================== ==================================================
1      wired (SpaceNavigator, Compact, Pro ...) int16 x, y, z
1      wireless, by receiver or cable           int16 x, y, z, rx, ry, rz
2      wired                                    int16 rx, ry, rz
3      all                                      a bit a button
others battery, keys of keyboards               not used
====== ======================================== ==================================================

The cap's axes are x right, y towards the operator, z down, and turns about them are right-handed. A deflected
cap reports every 8 to 16 ms; a released one reports zeros and falls silent. Hence the rule of ``SpaceMouse``.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from resip.teleop.profile import Profile
from resip.teleop.source import Button, Motion, RawInput, SourceLostError

_TRANSLATION: Final = 1
_ROTATION: Final = 2
_BUTTONS: Final = 3
_THREE_AXES: Final = struct.Struct("<3h")
_SIX_AXES: Final = struct.Struct("<6h")

#: Silence of a deflected cap that is a fault: a dozen reports, unless told otherwise.
SILENCE_S: Final = 0.2

#: The cap's axes along those of the base, for an operator who faces the robot (reference: paper's code).
_BASE_FROM_CAP: Final = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])

#: Bits of report 3. Every model has the first two; the others are the keys 1 to 4 and Esc of the Pro models.
BUTTON_BITS: Final[Mapping[Button, int]] = {
    Button.GRIPPER: 0,
    Button.MARK: 1,
    Button.BEGIN: 12,
    Button.PAUSE: 13,
    Button.KEEP: 14,
    Button.DISCARD: 15,
    Button.UNDO: 22,
}
#: With a deadman's button, the second button is that; marks are left to the other keys and the services.
DEADMAN_BITS: Final = {**{k: v for k, v in BUTTON_BITS.items() if k is not Button.MARK}, Button.DEADMAN: 1}


class HidDevice(Protocol):
    """An open HID device: ``name`` for people, reports as they come off the wire."""

    name: str

    def read(self, timeout_s: float) -> bytes | None:
        """Wait for the next report, its number first; None if none came in time.

        Raises:
          SourceLostError: the device is gone.
        """
        ...

    def close(self) -> None:
        """Let the device go."""
        ...


@dataclass(frozen=True)
class Report:
    """What one report says: counts along and about the cap's axes, a bit a button; None for what it does not say."""

    translation: tuple[int, ...] | None = None
    rotation: tuple[int, ...] | None = None
    buttons: int | None = None


def decode(data: bytes) -> Report:
    """Decode a raw report; one that says nothing of motion or buttons gives an empty ``Report``.

    Raises:
      SourceLostError: a report of motion that is cut short.
    """
    number, body = data[0] if data else 0, data[1:]
    if number == _BUTTONS:
        return Report(buttons=int.from_bytes(body, "little"))
    if number not in (_TRANSLATION, _ROTATION):
        return Report()
    if len(body) < _THREE_AXES.size:
        raise SourceLostError(f"the SpaceMouse's report {data.hex(' ')} is cut short")
    if number == _ROTATION:
        return Report(rotation=_THREE_AXES.unpack_from(body))
    if len(body) < _SIX_AXES.size:
        return Report(translation=_THREE_AXES.unpack_from(body))
    axes = _SIX_AXES.unpack_from(body)
    return Report(translation=axes[:3], rotation=axes[3:])


class SpaceMouse:
    """A SpaceMouse as a ``Source``.

    Input counts only while it is *engaged*. It engages when the cap is known to be at rest: it reported so, or it
    has reported no deflection for ``silence_s`` since the device was opened, as a deflected cap would. It disengages
    when a deflected cap falls silent for ``silence_s`` (receiver out of reach, flat battery) and when the device is
    lost; the last deflection is then neither repeated nor taken for zero. So after any loss the cap must be let go
    before it moves the robot again.

    Args:
      find: opens the device, or raises ``SourceError``.
      profile: gives full scale and dead zone.
      button_bits: bit of report 3 for each button.
      silence_s: of a deflected cap, after which it is lost.
      steady_s: the clock of the samples.
    """

    def __init__(
        self,
        find: Callable[[], HidDevice],
        profile: Profile,
        button_bits: Mapping[Button, int] = BUTTON_BITS,
        silence_s: float = SILENCE_S,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._silence_s = silence_s
        self._profile = profile
        self._bits = button_bits
        self._steady_s = steady_s
        self._device: HidDevice | None = None
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._counts = np.full(6, np.nan)  # not known before they are reported
        self._down = 0
        self._pressed = 0
        self._engaged = False
        self._opened_s = self._heard_s = self._steady_s()

    def open(self) -> str:
        """Reach the device; its name.

        Raises:
          SourceError: there is none, or it must not be read.
        """
        device = self._find()
        with self._lock:
            self._reset()
            self._device = device
        return device.name

    def read(self, timeout_s: float) -> RawInput | None:
        """Take in one report; None if none came, or none of motion or buttons.

        Raises:
          SourceLostError: the device is gone, or sends what cannot be understood.
        """
        assert self._device is not None
        data = self._device.read(timeout_s)
        report = decode(data) if data else Report()
        if report == Report():
            return None
        with self._lock:
            self._take(report)
            n_buttons = max(self._bits.values()) + 1
            return RawInput(
                (np.nan_to_num(self._counts) / self._profile.full_scale).tolist(),
                [self._down >> i & 1 for i in range(n_buttons)],
            )

    def _take(self, report: Report) -> None:
        if report.translation is not None:
            self._counts[:3] = report.translation
        if report.rotation is not None:
            self._counts[3:] = report.rotation
        if report.translation is not None or report.rotation is not None:
            self._heard_s = self._steady_s()
        if report.buttons is not None:
            self._pressed |= report.buttons & ~self._down
            self._down = report.buttons

    def sample(self, now_s: float) -> Motion | str:
        """Motion along the base's axes, or why there is none to be taken."""
        with self._lock:
            pressed, self._pressed = self._pressed, 0
            deflection = self._profile.deflection(np.nan_to_num(self._counts))
            problem = self._why_not(bool(np.any(deflection)), now_s)
            if problem:
                return problem
            return Motion(
                _BASE_FROM_CAP @ deflection[:3],
                _BASE_FROM_CAP @ deflection[3:],
                self._named(pressed),
                self._named(self._down),
                self._heard_s,
            )

    def _why_not(self, deflected: bool, now_s: float) -> str:
        if self._device is None:
            return "no SpaceMouse"
        silence_s = now_s - self._heard_s
        if deflected and silence_s > self._silence_s:
            self._engaged = False
            return f"the deflected SpaceMouse has said nothing for {silence_s:.1f} s: mend that, then let go of the cap"
        reported = bool(np.all(np.isfinite(self._counts)))
        if not deflected and (reported or now_s - self._opened_s >= self._silence_s):
            self._engaged = True
        if self._engaged:
            return ""
        return "let go of the SpaceMouse's cap once" if deflected else "the SpaceMouse was found just now"

    def _named(self, bits: int) -> frozenset[Button]:
        return frozenset(button for button, bit in self._bits.items() if bits >> bit & 1)

    def close(self) -> None:
        """Let the device go; harmless when not open."""
        with self._lock:
            device, self._device = self._device, None
            self._engaged = False
        if device is not None:
            device.close()
