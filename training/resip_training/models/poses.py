"""How poses are told to a network."""

from __future__ import annotations

from typing import Literal

#: In the robot's base frame, as in the paper; those and the poses relative to each other; all these and the errors that
#: are left to the task's assembled poses.
Poses = Literal["absolute", "relative", "goals"]
