"""Holding a part that would roll away until the gripper comes near, as the reference does with the lamp's bulb.

The reference rewrites the part's pose before every physics step. Here its joint is made so heavy and so strongly
damped that it stays: nothing jumps when it is let go, and a hand that runs into it feels a wall. Damping alone would
not do: contacts are solved with the part's own inertia, and throw a light part that is slowed down abruptly.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: N s/m and N m s/rad: 10 N move a held part by 0.1 mm in a second.
HELD_DAMPING: Final = 1.0e5
#: kg and kg m2, added to the part's own.
HELD_ARMATURE: Final = 100.0
_NEAR_M: Final = 0.03


def is_near(ee_m: Array, part_m: Array) -> NDArray[np.bool_]:
    """Whether the fingertip ``(..., 3)`` is within 3 cm of the part ``(..., 3)`` on every axis: it is let go then."""
    return np.all(np.abs(ee_m - part_m) <= _NEAR_M, axis=-1)
