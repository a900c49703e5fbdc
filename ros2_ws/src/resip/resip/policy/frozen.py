"""A camera that shows one and the same picture while the hand moves."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: The hand moves so far in no camera's view without a pixel changing; sensors' noise changes pixels at any time.
MOVED_M: Final = 0.005


class FrozenCheck:
    """Compares each picture of a camera with the one before.

    Args:
      camera: its name, for people.
    """

    def __init__(self, camera: str) -> None:
        self._camera = camera
        self._pixels: Any = None
        self._position_m: NDArray[np.float64] | None = None

    def see(self, pixels: Any, position_m: NDArray[np.float64]) -> str:
        """Take the next picture and where the fingertip ``(3,)`` is; why the picture cannot be true, or nothing.

        Args:
          pixels: anything whose equality is that of its bytes.
          position_m: base frame.
        """
        if self._position_m is None or pixels != self._pixels:
            self._pixels, self._position_m = pixels, position_m
            return ""
        moved_m = float(np.linalg.norm(position_m - self._position_m))
        if moved_m <= MOVED_M:
            return ""
        return f"the {self._camera} camera is frozen: its picture stands still while the hand has moved {moved_m:.3f} m"
