"""A part of a task, and the shapes that its collision geometry is made of.

No cylinders: MuJoCo's GPU port mis-measures their contacts. Everything in metres in the part's own frame.
What goes around an axis is described around y, and turned if the part's axis is z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from resip_training.sim.collision import MATED, Collides

Point = tuple[float, float, float]
Quat = tuple[float, float, float, float]
#: A part's own axis that a ring or a thread goes around.
Axis = Literal["y", "z"]

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


def add_box(
    body: mujoco.MjsBody, center: Point, half: Point, collides: Collides, quat_wxyz: Quat = (1.0, 0.0, 0.0, 0.0)
) -> None:
    """Add a box of half sizes ``half`` along the part's axes, turned by ``quat_wxyz``."""
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=center, quat=quat_wxyz, size=half, **collides.geom_fields())


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


def stood_along(axis: Axis, points: ArrayLike) -> NDArray[np.float64]:
    """Points ``(..., 3)`` laid out around y, turned about x so that they go around ``axis``."""
    points = np.asarray(points, dtype=np.float64)
    return points if axis == "y" else points[..., [0, 2, 1]] * np.array([1.0, -1.0, 1.0])


def add_ring(
    body: mujoco.MjsBody,
    center_xz_m: tuple[float, float],
    radii_m: tuple[float, float],
    span_m: tuple[float, float],
    collides: Collides = MATED,
    axis: Axis = "y",
    boxes: int = _RING_BOXES,
) -> None:
    """Add a wall around a hole: boxes whose inner and outer faces touch the two circles.

    Args:
      body: what to add it to.
      center_xz_m: where the axis y crosses the plane y = 0 (before it is turned, if the axis is z).
      radii_m: inner and outer radius.
      span_m: lowest and highest place along the axis.
      collides: with what.
      axis: what it goes around.
      boxes: how many.
    """
    (inner, outer), (low, high), (x, z) = radii_m, span_m, center_xz_m
    middle, half_m = (outer + inner) / 2, [(outer - inner) / 2, (high - low) / 2, outer * np.tan(np.pi / boxes)]
    for k in range(boxes):
        angle = 2 * np.pi * k / boxes
        about_y = (np.cos(angle / 2), 0.0, np.sin(angle / 2), 0.0)
        about_z = (np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2))
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=stood_along(axis, (x + middle * np.cos(angle), (low + high) / 2, z - middle * np.sin(angle))),
            quat=about_y if axis == "y" else about_z,
            size=np.abs(stood_along(axis, half_m)),
            **collides.geom_fields(),
        )
