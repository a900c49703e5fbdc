"""one_leg: push the square table's top into the corner of the obstacle, and screw one leg into it."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

import mujoco
import numpy as np
from resip.tasks import GRIPPER_OPEN_M

from resip_training.sim import threads
from resip_training.sim.collision import PART, THREAD, Collides
from resip_training.sim.frames import from_april_euler
from resip_training.sim.parts import Part, add_box, add_capsule, add_ring
from resip_training.sim.task import PlacedPart, Randomness, Relation, Task

# Helices of the square table, measured by sectioning the meshes: both start 90 degrees before +x.
_LEG_THREAD: Final = threads.Helix(radius_m=0.0100, start_m=-0.0500, phase_rad=-np.pi / 2)
_HOLE_THREAD: Final = threads.Helix(radius_m=0.0131, start_m=-0.0094375, phase_rad=-np.pi / 2)

_HALF_SIDE_M = 0.08125
_FLOOR_TOP_M, _RIM_TOP_M = -0.009375, 0.015625
_RIM_M = 0.00625
_HOLE_M = 0.05625
_RING_INNER_M, _RING_OUTER_M = 0.0125, 0.01625
#: The rings end this far below the rim, so that a seated leg stands on the floor and not on eight boxes.
_RING_DROP_M = 0.0004

_LEG_HALF_WIDTH_M, _LEG_HALF_LENGTH_M = 0.015, 0.03125
_PEG_RADIUS_M, _PEG_TIP_M = 0.010, -0.05625
#: The peg's axis lies off the leg's by this, in z.
PEG_OFFSET_M: Final = 0.0006175


def _add_table_top(body: mujoco.MjsBody) -> None:
    floor_half = (_RIM_TOP_M + _FLOOR_TOP_M) / 2  # the part's origin is half way up
    add_box(body, (0.0, _FLOOR_TOP_M - floor_half, 0.0), (_HALF_SIDE_M, floor_half, _HALF_SIDE_M), PART)
    wall_center, wall_half = (_RIM_TOP_M + _FLOOR_TOP_M) / 2, (_RIM_TOP_M - _FLOOR_TOP_M) / 2
    edge = _HALF_SIDE_M - _RIM_M / 2
    inner = _HALF_SIDE_M - _RIM_M
    for side in (-1, 1):
        add_box(body, (side * edge, wall_center, 0.0), (_RIM_M / 2, wall_half, _HALF_SIDE_M), PART)
        add_box(body, (0.0, wall_center, side * edge), (inner, wall_half, _RIM_M / 2), PART)
    for x in (-_HOLE_M, _HOLE_M):
        for z in (-_HOLE_M, _HOLE_M):
            add_ring(body, (x, z), (_RING_INNER_M, _RING_OUTER_M), (_FLOOR_TOP_M, _RIM_TOP_M - _RING_DROP_M))
            threads.add_thread(body, _HOLE_THREAD, THREAD, axis_x_m=x, axis_z_m=z)


def _add_leg(body: mujoco.MjsBody, peg_z_m: float, collides: Collides) -> None:
    half = (_LEG_HALF_WIDTH_M, _LEG_HALF_LENGTH_M, _LEG_HALF_WIDTH_M)
    add_box(body, (0.0, 0.0, 0.0), half, collides)
    tip, root = _PEG_TIP_M + _PEG_RADIUS_M, -_LEG_HALF_LENGTH_M
    add_capsule(body, (0.0, tip, peg_z_m), (0.0, root, peg_z_m), _PEG_RADIUS_M, collides)


def _add_plain_leg(body: mujoco.MjsBody) -> None:
    _add_leg(body, peg_z_m=PEG_OFFSET_M, collides=PART)


def _add_threaded_leg(body: mujoco.MjsBody) -> None:
    _add_leg(body, peg_z_m=-PEG_OFFSET_M, collides=PART | THREAD)
    threads.add_thread(body, _LEG_THREAD, THREAD, axis_z_m=-PEG_OFFSET_M)


def _leg(number: int, add_collision: Callable[[mujoco.MjsBody], None]) -> Part:
    name = f"square_table_leg{number}"
    return Part(name, f"square_table/{name}", 0.0231, add_collision)


SQUARE_TABLE_TOP: Final = Part("square_table_top", "square_table/square_table_top", 0.151, _add_table_top)
SQUARE_TABLE_LEG1: Final = _leg(1, _add_plain_leg)
SQUARE_TABLE_LEG2: Final = _leg(2, _add_plain_leg)
SQUARE_TABLE_LEG3: Final = _leg(3, _add_plain_leg)
#: The one leg of ``one_leg``: the only one whose thread is modelled, as in the reference.
SQUARE_TABLE_LEG4: Final = _leg(4, _add_threaded_leg)

_HALF_PI: Final = np.pi / 2
_SEATED_Y_M: Final = 0.046875


def _level(
    speed_m_s: tuple[float, float], spin_rad_s: tuple[float, float], obstacle_m: float, arm_deg: float
) -> Randomness:
    """A level from the impulses of the top and of each leg."""
    (top_speed, leg_speed), (top_spin, leg_spin) = speed_m_s, spin_rad_s
    return Randomness(
        impulse_speed_m_s=(top_speed, *[leg_speed] * 4),
        impulse_spin_rad_s=(top_spin, *[leg_spin] * 4),
        obstacle_m=obstacle_m,
        arm_rad=np.deg2rad(arm_deg),
    )


ONE_LEG: Final = Task(
    name="one_leg",
    parts=(
        PlacedPart(SQUARE_TABLE_TOP, from_april_euler(0.0, 0.24, -0.015625, -_HALF_PI, 0.0, np.pi)),
        PlacedPart(SQUARE_TABLE_LEG1, from_april_euler(-0.20, 0.07, -0.015, 0.0, -_HALF_PI, 0.0)),
        PlacedPart(SQUARE_TABLE_LEG2, from_april_euler(-0.12, 0.07, -0.015, 0.0, -_HALF_PI, 0.0)),
        PlacedPart(SQUARE_TABLE_LEG3, from_april_euler(0.12, 0.07, -0.015, 0.0, -_HALF_PI, 0.0)),
        PlacedPart(SQUARE_TABLE_LEG4, from_april_euler(0.20, 0.07, -0.015, 0.0, -_HALF_PI, 0.0)),
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
    gripper_open_m=GRIPPER_OPEN_M["one_leg"],
    randomness=MappingProxyType(
        {
            "low": _level((0.172, 0.19), (3.5, 5.4), obstacle_m=0.02, arm_deg=5.0),
            "med": _level((0.335, 0.35), (6.5, 8.2), obstacle_m=0.04, arm_deg=10.0),
            "high": _level((0.35, 0.445), (7.9, 9.9), obstacle_m=0.06, arm_deg=13.0),
        }
    ),
)
