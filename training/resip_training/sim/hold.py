"""Holding a part that would roll away until the gripper comes near, as the reference does with the lamp's bulb.

The reference rewrites the part's pose before every physics step. Here its joint is made so heavy and so strongly
damped that it stays: nothing jumps when it is let go, and a hand that runs into it feels a wall. Damping alone would
not do: contacts are solved with the part's own inertia, and throw a light part that is slowed down abruptly.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from resip import arrays

#: Fields of the model, and what they are for the degrees of freedom of a held part: N s/m and N m s/rad, so that 10 N
#: move it by 0.1 mm in a second; kg and kg m2, added to the part's own.
HELD: Final = MappingProxyType({"dof_damping": 1.0e5, "dof_armature": 100.0})
#: Any motion wakes a sleeping part: one that is let go of must find out by itself whether it rolls.
WAKING_M_S: Final = 1e-9
_NEAR_M: Final = 0.03


def is_near(ee_m: Any, part_m: Any) -> Any:
    """Whether the fingertip ``(..., 3)`` is within 3 cm of the part ``(..., 3)`` on every axis: it is let go then."""
    offset_m = ee_m - part_m
    return arrays.namespace(offset_m).all(abs(offset_m) <= _NEAR_M, axis=-1)
