"""Collision geometry of the furniture parts: boxes and capsules measured from the meshes.

No cylinders: MuJoCo's GPU port mis-measures their contacts. A part's local y axis is the axis along which
it is screwed. Everything in metres in the part's own frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np

from resip_training.sim import threads
from resip_training.sim.collision import MATED, PART, THREAD, Collides

# Helices of the square table, measured by sectioning the meshes: both start 90 degrees before +x.
_LEG_THREAD: Final = threads.Helix(radius_m=0.0100, start_y_m=-0.0500, phase_rad=-np.pi / 2)
_HOLE_THREAD: Final = threads.Helix(radius_m=0.0131, start_y_m=-0.0094375, phase_rad=-np.pi / 2)

_HALF_SIDE_M = 0.08125
_FLOOR_TOP_M, _RIM_TOP_M = -0.009375, 0.015625
_RIM_M = 0.00625
_HOLE_M = 0.05625
_RING_INNER_M, _RING_OUTER_M = 0.0125, 0.01625
_RING_BOXES = 8
#: The rings end this far below the rim, so that a seated leg stands on the floor and not on eight boxes.
_RING_DROP_M = 0.0004

_LEG_HALF_WIDTH_M, _LEG_HALF_LENGTH_M = 0.015, 0.03125
_PEG_RADIUS_M, _PEG_TIP_M = 0.010, -0.05625
_PEG_OFFSET_M = 0.0006175  # the peg's axis lies off the leg's, in z


@dataclass(frozen=True)
class Part:
    """A furniture part: its name (mesh and body), mass and collision geometry."""

    name: str
    mesh: str
    """Path of the mesh below the wheel's furniture meshes, without its suffix."""
    mass_kg: float
    add_collision: Callable[[mujoco.MjsBody], None]


def _add_box(body: mujoco.MjsBody, center: tuple[float, ...], half: tuple[float, ...], collides: Collides) -> None:
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=center, size=half, **collides.geom_fields())


def _add_ring(body: mujoco.MjsBody, x: float, z: float) -> None:
    """A boss around a hole: boxes whose inner faces touch the inner circle."""
    low, high = _FLOOR_TOP_M, _RIM_TOP_M - _RING_DROP_M
    thickness = (_RING_OUTER_M - _RING_INNER_M) / 2
    middle = (_RING_OUTER_M + _RING_INNER_M) / 2
    half_width = _RING_OUTER_M * np.tan(np.pi / _RING_BOXES)
    for k in range(_RING_BOXES):
        angle = 2 * np.pi * k / _RING_BOXES
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(x + middle * np.cos(angle), (low + high) / 2, z - middle * np.sin(angle)),
            quat=(np.cos(angle / 2), 0.0, np.sin(angle / 2), 0.0),
            size=(thickness, (high - low) / 2, half_width),
            **MATED.geom_fields(),
        )


def _add_table_top(body: mujoco.MjsBody) -> None:
    floor_half = (_RIM_TOP_M + _FLOOR_TOP_M) / 2  # the part's origin is half way up
    _add_box(body, (0.0, _FLOOR_TOP_M - floor_half, 0.0), (_HALF_SIDE_M, floor_half, _HALF_SIDE_M), PART)
    wall_center, wall_half = (_RIM_TOP_M + _FLOOR_TOP_M) / 2, (_RIM_TOP_M - _FLOOR_TOP_M) / 2
    edge = _HALF_SIDE_M - _RIM_M / 2
    inner = _HALF_SIDE_M - _RIM_M
    for side in (-1, 1):
        _add_box(body, (side * edge, wall_center, 0.0), (_RIM_M / 2, wall_half, _HALF_SIDE_M), PART)
        _add_box(body, (0.0, wall_center, side * edge), (inner, wall_half, _RIM_M / 2), PART)
    for x in (-_HOLE_M, _HOLE_M):
        for z in (-_HOLE_M, _HOLE_M):
            _add_ring(body, x, z)
            threads.add_thread(body, _HOLE_THREAD, axis_x_m=x, axis_z_m=z, collides=THREAD)


def _add_leg(body: mujoco.MjsBody, peg_z_m: float, collides: Collides) -> None:
    half = (_LEG_HALF_WIDTH_M, _LEG_HALF_LENGTH_M, _LEG_HALF_WIDTH_M)
    _add_box(body, (0.0, 0.0, 0.0), half, collides)
    tip, root = _PEG_TIP_M + _PEG_RADIUS_M, -_LEG_HALF_LENGTH_M
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=(0.0, tip, peg_z_m, 0.0, root, peg_z_m),
        size=(_PEG_RADIUS_M, 0.0, 0.0),
        **collides.geom_fields(),
    )


def _add_plain_leg(body: mujoco.MjsBody) -> None:
    _add_leg(body, peg_z_m=_PEG_OFFSET_M, collides=PART)


def _add_threaded_leg(body: mujoco.MjsBody) -> None:
    _add_leg(body, peg_z_m=-_PEG_OFFSET_M, collides=PART | THREAD)
    threads.add_thread(body, _LEG_THREAD, axis_x_m=0.0, axis_z_m=-_PEG_OFFSET_M, collides=THREAD)


def _leg(number: int, add_collision: Callable[[mujoco.MjsBody], None]) -> Part:
    name = f"square_table_leg{number}"
    return Part(name, f"square_table/{name}", 0.0231, add_collision)


SQUARE_TABLE_TOP: Final = Part("square_table_top", "square_table/square_table_top", 0.151, _add_table_top)
SQUARE_TABLE_LEG1: Final = _leg(1, _add_plain_leg)
SQUARE_TABLE_LEG2: Final = _leg(2, _add_plain_leg)
SQUARE_TABLE_LEG3: Final = _leg(3, _add_plain_leg)
#: The one leg of ``one_leg``: the only one whose thread is modelled, as in the reference.
SQUARE_TABLE_LEG4: Final = _leg(4, _add_threaded_leg)
