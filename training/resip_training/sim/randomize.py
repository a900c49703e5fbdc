"""Random starts: parts kicked from their nominal places, obstacle and arm offset.

As in the paper, parts are not sampled into place but set moving and left to slide to rest, so that the
physics keeps them out of each other. The kicks are velocities, calibrated on displacements (see the task's
``Randomness``), because the reference's forces mean something else in another simulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from resip.control import panda

from resip_training.sim.task import Randomness

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Kick:
    """One random start, before the parts have come to rest."""

    joints_rad: Array
    """``(7,)``."""
    obstacle_offset_m: Array
    """``(3,)``, z zero."""
    part_velocity_m_s: Array
    """``(n_parts, 3)``, base frame, horizontal."""
    part_spin_rad_s: Array
    """``(n_parts,)`` about the vertical."""
    part_offset_m: Array
    """``(n_parts, 3)`` from the nominal place, z zero."""
    part_yaw_rad: Array
    """``(n_parts,)`` about the vertical, from the nominal orientation."""


def sample(level: Randomness, rng: np.random.Generator) -> Kick:
    """Draw a start. Directions and spins are uniform, speeds uniform up to the level's largest."""
    count = len(level.impulse_speed_m_s)
    velocity, spin = impulses(level, rng)
    offset = np.append(rng.uniform(-level.obstacle_m, level.obstacle_m, 2), 0.0)
    joints = arm(level, rng)
    placement = rng.uniform(-level.placement_m, level.placement_m, (count, 2))
    yaw = rng.uniform(-level.placement_yaw_rad, level.placement_yaw_rad, count)
    return Kick(joints, offset, velocity, spin, np.pad(placement, ((0, 0), (0, 1))), yaw)


def impulses(level: Randomness, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw one kick for each part: changes of its velocity ``(n_parts, 3)`` and of its spin ``(n_parts,)``."""
    count = len(level.impulse_speed_m_s)
    direction = rng.uniform(-np.pi, np.pi, count)
    speed = rng.uniform(0.0, 1.0, count) * level.impulse_speed_m_s
    velocity = np.stack([speed * np.cos(direction), speed * np.sin(direction), np.zeros(count)], axis=-1)
    return velocity, rng.uniform(-1.0, 1.0, count) * level.impulse_spin_rad_s


def push_draws(seed: int) -> np.random.Generator:
    """Return the source of an episode's pushes: apart from its start's, which may take several tries."""
    return np.random.default_rng([seed, 2])


def push(level: Randomness, chance: float, rng: np.random.Generator) -> tuple[Array, Array] | None:
    """Draw one control step's kicks, as ``impulses`` does, zero for parts that are not hit; None if none is.

    Args:
      level: how hard.
      chance: that a part is hit.
      rng: the episode's ``push_draws``.
    """
    hit = rng.random(len(level.impulse_speed_m_s)) < chance
    if not hit.any():
        return None
    velocity, spin = impulses(level, rng)
    return velocity * hit[:, None], spin * hit


def arm(level: Randomness, rng: np.random.Generator) -> Array:
    """Draw the arm's joints ``(7,)``, rad."""
    return panda.RESET_RAD + rng.uniform(-level.arm_rad, level.arm_rad, panda.DOF)
