"""Holding a part that would roll away until the gripper comes near, as the reference does with the lamp's bulb.

The reference rewrites the part's pose before every physics step. Here its joint is damped so strongly that it
stays: nothing jumps when it is let go, and a hand that runs into it feels a wall.
"""

from __future__ import annotations

from typing import Any, Final

from resip import arrays

#: N s/m and N m s/rad: 10 N move a held part by 0.1 mm in a second.
HELD_DAMPING: Final = 1.0e5
_NEAR_M: Final = 0.03


def is_near(ee_m: Any, part_m: Any) -> Any:
    """Whether the fingertip ``(..., 3)`` is within 3 cm of the part ``(..., 3)`` on every axis: it is let go then."""
    offset_m = ee_m - part_m
    return arrays.namespace(offset_m).all(abs(offset_m) <= _NEAR_M, axis=-1)
