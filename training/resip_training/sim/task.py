"""What a task is, as data: parts, layout, relations, randomness, length. The tasks themselves are in ``tasks``."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces

from resip_training.sim.parts import Part

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlacedPart:
    """A part and where an episode starts with it, before randomisation."""

    part: Part
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
    placement_m: float = 0.0
    """Half side of the square in which each part is placed, before the impulse."""
    placement_yaw_rad: float = 0.0
    """Largest turn about the vertical with which it is placed."""


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
    timestep_s: float = 0.004
    """Physics step: shorter where parts fit closely."""
    held_part: str | None = None
    """A part that would roll away, held where it came to rest until the gripper is near (see ``hold``)."""
    obstacle_position_m: tuple[float, float, float] = (0.6815, 0.0, 0.015)
    """Centre of the obstacle's front wall."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts, in the order of the observation."""
        return tuple(part.name for part in self.parts)


def nominal_poses(task: Task) -> Array:
    """Nominal part poses and the obstacle's, ``(n_parts + 1, 7)``: m, xyzw, base frame.

    Their quaternions are also the reference hemisphere in which part poses are observed.
    """
    rows = [np.concatenate([p.nominal.position, rotation.quat_from_matrix(p.nominal.matrix)]) for p in task.parts]
    rows.append(np.concatenate([task.obstacle_position_m, [0.0, 0.0, 0.0, 1.0]]))
    return np.array(rows)
