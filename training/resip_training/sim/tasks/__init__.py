"""The assembly tasks, one module each: a description that scene, success test, resets and rendering read.

Numbers from the reference implementation (FurnitureBench and its RL fork); lengths from the paper's table 6.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from resip.errors import UnknownNameError

from resip_training.sim.task import Randomness, Task
from resip_training.sim.tasks.lamp import LAMP
from resip_training.sim.tasks.one_leg import ONE_LEG
from resip_training.sim.tasks.peg_hole import PEG_HOLE
from resip_training.sim.tasks.round_table import ROUND_TABLE

TASKS: Final = MappingProxyType({task.name: task for task in (ONE_LEG, ROUND_TABLE, LAMP, PEG_HOLE)})


def get(name: str) -> Task:
    """Return the task ``name``.

    Raises:
      UnknownNameError: listing the tasks there are.
    """
    if name not in TASKS:
        raise UnknownNameError("task", name, tuple(TASKS))
    return TASKS[name]


def randomness(task: Task, level: str) -> Randomness:
    """Return a task's randomness level.

    Raises:
      UnknownNameError: listing the levels that the task has.
    """
    if level not in task.randomness:
        raise UnknownNameError(f"randomness of {task.name}", level, tuple(task.randomness))
    return task.randomness[level]
