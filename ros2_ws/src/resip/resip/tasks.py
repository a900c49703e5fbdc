"""What the robot and the simulation both have to know of a task."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: Each task's own time limit: the reference's number of 10 Hz steps (s of ROS time).
TIME_LIMITS_S: Final[Mapping[str, float]] = MappingProxyType(
    {"one_leg": 70.0, "round_table": 100.0, "lamp": 100.0, "peg_hole": 20.0}
)

#: Width to which the gripper opens (m): a bulb and a peg want more room than a leg.
GRIPPER_OPEN_M: Final[Mapping[str, float]] = MappingProxyType(
    {"one_leg": 0.065, "round_table": 0.065, "lamp": 0.07, "peg_hole": 0.07}
)

TASKS: Final = tuple(TIME_LIMITS_S)
