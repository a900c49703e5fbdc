"""Coarse stages of a task, read off the part poses: for people who watch a trial or read its report.

They judge nothing: success is the cell's word. Lengths are those of FurnitureBench's parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from resip import rotation

Array = NDArray[np.float64]

_SHORTEST_S: Final = 0.5
_TOP, _LEG, _OBSTACLE = 0, 4, -1  # rows of one_leg's part poses

# The top (162.5 mm wide) touches the obstacle's front wall and one side wall when it is in a corner.
_CORNER_FROM_OBSTACLE_M: Final = np.array([-0.09125, 0.08375])
_CORNER_TOLERANCE_M: Final = 0.012
_LIFTED_M: Final = 0.03  # a lying leg's centre is at 0.015
_HOLE_M: Final = 0.05625
_HOLE_TOLERANCE_M: Final = 0.008
_IN_HOLE_Y_M: Final = 0.046875 + 0.015  # a seated leg's height over the top's origin, and the length of its peg's grip


def one_leg_stage(part_poses: Array) -> str:
    """Name the stage of one_leg from the poses ``(6, 7)`` of top, four legs and obstacle (m, xyzw, base frame)."""
    top, leg, obstacle = part_poses[_TOP], part_poses[_LEG], part_poses[_OBSTACLE]
    offset = rotation.matrix_from_quat(top[3:]).T @ (leg[:3] - top[:3])
    beside_hole = np.abs(np.abs(offset[[0, 2]]) - _HOLE_M)
    if np.all(beside_hole < _HOLE_TOLERANCE_M) and 0.0 < offset[1] < _IN_HOLE_Y_M:
        return "screw the leg"
    if leg[2] > _LIFTED_M:
        return "carry the leg"
    from_obstacle = top[:2] - obstacle[:2]
    from_corner = np.array([from_obstacle[0], abs(from_obstacle[1])]) - _CORNER_FROM_OBSTACLE_M
    return "pick the leg" if np.all(np.abs(from_corner) < _CORNER_TOLERANCE_M) else "place the top"


STAGES: Final[Mapping[str, Callable[[Array], str]]] = MappingProxyType({"one_leg": one_leg_stage})


@dataclass(frozen=True)
class Stage:
    """A stretch of a trial; seconds since the policy started."""

    name: str
    start_s: float
    end_s: float


def stages(task: str, times_s: Array, part_poses: Array) -> list[Stage]:
    """Cut a trial into stages.

    Args:
      task: without a rule for it the list is empty.
      times_s: ``(n,)`` seconds since the policy started.
      part_poses: ``(n, n_parts + 1, 7)``.
    """
    if task not in STAGES or len(times_s) == 0:
        return []
    names = _steady([STAGES[task](poses) for poses in part_poses], times_s)
    starts = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    ends = [*starts[1:], len(names) - 1]
    return [Stage(names[i], float(times_s[i]), float(times_s[j])) for i, j in zip(starts, ends, strict=True)]


def _steady(names: list[str], times_s: Array) -> list[str]:
    """Let a name that holds for less than half a second be the one before it: thresholds flicker."""
    steady = names[:1]
    for i in range(1, len(names)):
        until = int(np.searchsorted(times_s, times_s[i] + _SHORTEST_S))
        lasts = all(name == names[i] for name in names[i:until])
        steady.append(names[i] if lasts else steady[-1])
    return steady
