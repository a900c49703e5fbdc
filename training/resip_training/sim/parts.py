"""A part of a task, and the shapes that its collision geometry is made of.

No cylinders: MuJoCo's GPU port mis-measures their contacts. Everything in metres in the part's own frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np

from resip_training.sim.collision import MATED, Collides

Point = tuple[float, float, float]

_RING_BOXES: Final = 8
_DENSITY_KG_M3: Final = 1000.0  # MuJoCo's default


@dataclass(frozen=True)
class Part:
    """A part: its name (that of its body), mesh, mass and collision geometry."""

    name: str
    mesh: str | None
    """Path of the mesh below the wheel's furniture meshes, without its suffix; None shows the collision boxes."""
    mass_kg: float
    add_collision: Callable[[mujoco.MjsBody], None]


def add_box(body: mujoco.MjsBody, center: Point, half: Point, collides: Collides) -> None:
    """Add a box of half sizes ``half`` along the part's axes."""
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=center, size=half, **collides.geom_fields())


def add_capsule(body: mujoco.MjsBody, start: Point, end: Point, radius_m: float, collides: Collides) -> None:
    """Add a capsule whose half spheres are centred on ``start`` and ``end``."""
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=(*start, *end), size=(radius_m, 0.0, 0.0), **collides.geom_fields()
    )


def add_sphere(
    body: mujoco.MjsBody, center: Point, radius_m: float, collides: Collides, density_kg_m3: float = _DENSITY_KG_M3
) -> None:
    """Add a sphere; only the ratios of a part's densities count, because a part is scaled to its mass."""
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        pos=center,
        size=(radius_m, 0.0, 0.0),
        density=density_kg_m3,
        **collides.geom_fields(),
    )


def add_ring(
    body: mujoco.MjsBody,
    axis_xz_m: tuple[float, float],
    radii_m: tuple[float, float],
    span_y_m: tuple[float, float],
    boxes: int = _RING_BOXES,
) -> None:
    """Add a boss around a hole along y: boxes whose inner faces touch the inner circle.

    Args:
      body: what to add it to.
      axis_xz_m: where the axis crosses the plane y = 0.
      radii_m: inner and outer radius.
      span_y_m: lowest and highest y.
      boxes: how many.
    """
    (inner, outer), (low, high), (x, z) = radii_m, span_y_m, axis_xz_m
    middle, half_width = (outer + inner) / 2, outer * np.tan(np.pi / boxes)
    for k in range(boxes):
        angle = 2 * np.pi * k / boxes
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(x + middle * np.cos(angle), (low + high) / 2, z - middle * np.sin(angle)),
            quat=(np.cos(angle / 2), 0.0, np.sin(angle / 2), 0.0),
            size=((outer - inner) / 2, (high - low) / 2, half_width),
            **MATED.geom_fields(),
        )
