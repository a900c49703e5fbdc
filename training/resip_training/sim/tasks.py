"""The assembly tasks, each one declarative description: parts, layout, relations, randomness, length.

Numbers from the reference implementation (FurnitureBench and its RL fork); lengths from the paper's table 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces
from resip.errors import UnknownNameError

from resip_training.sim import frames, parts

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlacedPart:
    """A part and where an episode starts with it, before randomisation."""

    part: parts.Part
    nominal: spaces.Pose
    """Pose in the robot base frame."""

    @property
    def name(self) -> str:
        """Name of the part, which is its body's name in the scene."""
        return self.part.name


@dataclass(frozen=True)
class Relation:
    """Two parts are assembled when the second stands at one of ``targets`` in the first one's frame.

    Position within ``tolerance_m`` on every axis of the first part's frame; the cosine between each row of
    the two rotation matrices at least ``min_cosine`` (19.9 degrees about one axis).
    """

    base: str
    other: str
    target_positions_m: Array
    """``(k, 3)``."""
    target_matrix: Array
    """``(3, 3)``, one for all positions."""
    tolerance_m: float = 0.005
    min_cosine: float = 0.94


@dataclass(frozen=True)
class Randomness:
    """How far an episode's start may lie from the nominal layout (see ``randomize``)."""

    impulse_speed_m_s: tuple[float, ...]
    """Per part: largest speed that the starting impulse gives it."""
    impulse_spin_rad_s: tuple[float, ...]
    """Per part: largest spin about the vertical that the impulse gives it."""
    obstacle_m: float
    """Half side of the square of obstacle offsets."""
    arm_rad: float
    """Largest offset of each joint."""


@dataclass(frozen=True)
class Task:
    """An assembly task."""

    name: str
    parts: tuple[PlacedPart, ...]
    relations: tuple[Relation, ...]
    max_steps: int
    """Control steps at 10 Hz."""
    gripper_open_m: float
    """Width to which the gripper opens in this task."""
    randomness: MappingProxyType[str, Randomness]
    """Levels by name."""
    obstacle_position_m: tuple[float, float, float] = (0.6815, 0.0, 0.015)
    """Centre of the obstacle's front wall."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts, in the order of the observation."""
        return tuple(part.name for part in self.parts)


def _april(x: float, y: float, z: float, roll: float, pitch: float, yaw: float) -> spaces.Pose:
    return frames.from_april((x, y, z), frames.euler_xyz(roll, pitch, yaw))


_HALF_PI = np.pi / 2
_HOLE_M = 0.05625
_SEATED_Y_M = 0.046875

ONE_LEG: Final = Task(
    name="one_leg",
    parts=(
        PlacedPart(parts.SQUARE_TABLE_TOP, _april(0.0, 0.24, -0.015625, -_HALF_PI, 0.0, np.pi)),
        PlacedPart(parts.SQUARE_TABLE_LEG1, _april(-0.20, 0.07, -0.015, 0.0, -_HALF_PI, 0.0)),
        PlacedPart(parts.SQUARE_TABLE_LEG2, _april(-0.12, 0.07, -0.015, 0.0, -_HALF_PI, 0.0)),
        PlacedPart(parts.SQUARE_TABLE_LEG3, _april(0.12, 0.07, -0.015, 0.0, -_HALF_PI, 0.0)),
        PlacedPart(parts.SQUARE_TABLE_LEG4, _april(0.20, 0.07, -0.015, 0.0, -_HALF_PI, 0.0)),
    ),
    relations=(
        Relation(
            base="square_table_top",
            other="square_table_leg4",
            target_positions_m=np.array([[x * _HOLE_M, _SEATED_Y_M, z * _HOLE_M] for x in (-1, 1) for z in (-1, 1)]),
            target_matrix=np.eye(3),
        ),
    ),
    max_steps=700,
    gripper_open_m=0.065,
    randomness=MappingProxyType(
        {
            "low": Randomness(
                impulse_speed_m_s=(0.172, 0.19, 0.19, 0.19, 0.19),
                impulse_spin_rad_s=(3.5, 5.4, 5.4, 5.4, 5.4),
                obstacle_m=0.02,
                arm_rad=np.deg2rad(5.0),
            ),
        }
    ),
)

TASKS: Final = MappingProxyType({task.name: task for task in (ONE_LEG,)})


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


def nominal_poses(task: Task) -> Array:
    """Nominal part poses and the obstacle's, ``(n_parts + 1, 7)``: m, xyzw, base frame.

    Their quaternions are also the reference hemisphere in which part poses are observed.
    """
    rows = [np.concatenate([p.nominal.position, rotation.quat_from_matrix(p.nominal.matrix)]) for p in task.parts]
    rows.append(np.concatenate([task.obstacle_position_m, [0.0, 0.0, 0.0, 1.0]]))
    return np.array(rows)
