"""What a camera is to the rest of the system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resip.errors import ResipError


class CameraError(ResipError):
    """A camera that cannot be used: its message names the camera and the remedy."""


class CameraLostError(CameraError):
    """A camera that was delivering frames and stopped: worth trying again."""


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole calibration in pixels, with ROS's ``plumb_bob`` distortion (k1, k2, p1, p2, k3)."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Frame:
    """One picture: ``rgb`` ``(h, w, 3)`` uint8, taken at ``stamp_ns`` (nanoseconds of the system clock)."""

    rgb: NDArray[np.uint8]
    stamp_ns: int
    intrinsics: Intrinsics


class Camera(Protocol):
    """A source of frames.

    Life cycle: ``start``, any number of ``read``, ``stop``; after a ``CameraLostError`` a ``stop`` and a
    ``start`` may bring it back.
    """

    def start(self) -> None:
        """Open the device and begin streaming.

        Raises:
          CameraError: it is not there or cannot stream as asked.
        """
        ...

    def read(self) -> Frame:
        """Wait for the next frame.

        Raises:
          CameraLostError: none came in time.
        """
        ...

    def stop(self) -> None:
        """End streaming and let the device go; harmless when not started."""
        ...
