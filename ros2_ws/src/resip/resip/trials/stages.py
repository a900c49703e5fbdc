"""Stages of a task: what a trial is doing, and how far it got (Table 2 of the paper).

Read off the part poses in simulation; on the robot the operator marks them. They do not judge the trial: that it is
complete is the cell's word, or the operator's. Lengths are those of FurnitureBench's parts.
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

#: The last mark of every task: the task is done.
COMPLETE: Final = "complete"
#: How far a trial of a task can get, in order.
MARKS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "one_leg": ("corner", "grasp", "insert", "screw", COMPLETE),
        "round_table": ("corner", "insert leg", "screw leg", "insert base", "screw base", COMPLETE),
        "lamp": ("corner", "insert bulb", "screw bulb", "hood", COMPLETE),
        "peg_hole": ("grasp", "insert", COMPLETE),
    }
)

_SHORTEST_S: Final = 0.5
_TOP, _LEG, _OBSTACLE = 0, 4, -1  # rows of one_leg's part poses

# The top (162.5 mm wide) touches the obstacle's front wall and one side wall when it is in a corner.
_CORNER_FROM_OBSTACLE_M: Final = np.array([-0.09125, 0.08375])
_CORNER_TOLERANCE_M: Final = 0.012
_LIFTED_M: Final = 0.03  # a lying leg's centre is at 0.015
_HOLE_M: Final = 0.05625
_HOLE_TOLERANCE_M: Final = 0.008
_SEATED_Y_M: Final = 0.046875  # a seated leg's height over the top's origin
_PEG_GRIP_M: Final = 0.015
_SCREWED_M: Final = 0.003  # above the seat; a leg that is only put in stands 6.5 mm above it


def _in_corner(part_poses: Array) -> bool:
    from_obstacle = part_poses[_TOP, :2] - part_poses[_OBSTACLE, :2]
    from_corner = np.array([from_obstacle[0], abs(from_obstacle[1])]) - _CORNER_FROM_OBSTACLE_M
    return bool(np.all(np.abs(from_corner) < _CORNER_TOLERANCE_M))


def _lifted(part_poses: Array) -> bool:
    return bool(part_poses[_LEG, 2] > _LIFTED_M)


def _in_hole(part_poses: Array, above_seat_m: float = _PEG_GRIP_M) -> bool:
    top, leg = part_poses[_TOP], part_poses[_LEG]
    offset = rotation.matrix_from_quat(top[3:]).T @ (leg[:3] - top[:3])
    beside_hole = np.abs(np.abs(offset[[0, 2]]) - _HOLE_M)
    return bool(np.all(beside_hole < _HOLE_TOLERANCE_M) and 0.0 < offset[1] < _SEATED_Y_M + above_seat_m)


def _screwed(part_poses: Array) -> bool:
    return _in_hole(part_poses, _SCREWED_M)


def one_leg_stage(part_poses: Array) -> str:
    """Name what is being done in one_leg, from the poses ``(6, 7)`` of top, four legs and obstacle (m, xyzw, base)."""
    if _in_hole(part_poses):
        return "screw the leg"
    if _lifted(part_poses):
        return "carry the leg"
    return "pick the leg" if _in_corner(part_poses) else "place the top"


STAGES: Final[Mapping[str, Callable[[Array], str]]] = MappingProxyType({"one_leg": one_leg_stage})
_RULES: Final[Mapping[str, Mapping[str, Callable[[Array], bool]]]] = MappingProxyType(
    {"one_leg": {"corner": _in_corner, "grasp": _lifted, "insert": _in_hole, "screw": _screwed}}
)


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


def reached(task: str, times_s: Array, part_poses: Array) -> dict[str, float]:
    """When each mark of a trial was first reached, and held for half a second: seconds since the policy started.

    Arguments as in ``stages``; marks without a rule, such as ``complete``, are not there.
    """
    found: dict[str, float] = {}
    for name, rule in _RULES.get(task, {}).items():
        holds = np.array([rule(poses) for poses in part_poses])
        for i in np.flatnonzero(holds):
            if np.all(holds[i : _until(times_s, int(i))]):
                found[name] = float(times_s[i])
                break
    return found


def _until(times_s: Array, i: int) -> int:
    """Index of the first sample that is half a second after sample ``i``, or the length."""
    return int(np.searchsorted(times_s, times_s[i] + _SHORTEST_S))


def _steady(names: list[str], times_s: Array) -> list[str]:
    """Let a name that holds for less than half a second be the one before it: thresholds flicker."""
    steady = names[:1]
    for i in range(1, len(names)):
        lasts = all(name == names[i] for name in names[i : _until(times_s, i)])
        steady.append(names[i] if lasts else steady[-1])
    return steady
