"""What an input device is to the rest of the system."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resip.errors import ResipError

Array = NDArray[np.float64]


class SourceError(ResipError):
    """An input device that cannot be used: its message names the device and the remedy."""


class SourceLostError(SourceError):
    """An input device that was there and is gone: worth trying again."""


class Button(enum.Enum):
    """What an operator can ask for besides motion; the values are for people."""

    GRIPPER = "toggle the gripper"
    DEADMAN = "hold to move"
    BEGIN = "begin the demonstration"
    PAUSE = "pause, or go on"
    MARK = "mark a stage"
    KEEP = "keep the demonstration"
    DISCARD = "discard the demonstration"
    UNDO = "undo the last seconds"
    STOP = "stop the robot"


@dataclass(frozen=True)
class Motion:
    """What the operator asked for in one control step, along the axes of the robot's base (or tool, for turning).

    An operator who faces the robot pulls towards himself for +x, pushes right for +y and lifts for +z.
    """

    translation: Array
    """``(3,)``: -1 to 1, the share of the full deflection."""
    rotation: Array
    """``(3,)``: rotation vector, -1 to 1 along each axis."""
    pressed: frozenset[Button]
    """Pressed since the sample before this one."""
    down: frozenset[Button]
    """Held down now."""
    stamp_s: float
    """Steady time of the newest report in it."""

    @property
    def moves(self) -> bool:
        """Whether any motion is asked for."""
        return bool(np.any(self.translation) or np.any(self.rotation))


@dataclass(frozen=True)
class RawInput:
    """The device's own numbers, for the recording: deflection of each axis, and each button as 0 or 1."""

    axes: Sequence[float]
    buttons: Sequence[int]


class Source(Protocol):
    """An input device.

    Life cycle: ``open``, any number of ``read``, ``close``; after a ``SourceLostError`` a ``close`` and an ``open``
    may bring it back. One thread does these; another one takes samples at any time, also of a closed device.
    """

    def open(self) -> str:
        """Reach the device; its name.

        Raises:
          SourceError: it is not there or must not be read.
        """
        ...

    def read(self, timeout_s: float) -> RawInput | None:
        """Wait for input and take it in; None if none came.

        Raises:
          SourceLostError: the device is gone.
        """
        ...

    def sample(self, now_s: float) -> Motion | str:
        """What was asked for since the last sample, or why nothing may be taken for input; ``now_s`` is steady time."""
        ...

    def close(self) -> None:
        """Let the device go; harmless when not open."""
        ...
