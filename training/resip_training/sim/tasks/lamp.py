"""lamp: screw the bulb into the base, and put the hood over it.

The parts' y axes are their axes of symmetry. The base and the hood stand with theirs pointing down, the bulb
is turned over against them.
"""

from __future__ import annotations

import itertools
from types import MappingProxyType
from typing import Final

import mujoco
import numpy as np
from resip import rotation
from resip.tasks import GRIPPER_OPEN_M

from resip_training.sim import threads
from resip_training.sim.collision import GRIPPED, PART, ROUND, THREAD, Collides
from resip_training.sim.frames import from_april_euler
from resip_training.sim.parts import Part, add_box, add_capsule, add_ring, add_sphere
from resip_training.sim.task import PlacedPart, Randomness, Relation, Task

# Everything below was measured by sectioning the meshes. Both helices start 90 degrees past +x.
_BASE_THREAD: Final = threads.Helix(radius_m=0.0131, start_m=-0.03955, phase_rad=np.pi / 2, tube_radius_m=0.00194)
# The bulb's real radius is 10.0 mm: the middles of its capsules then lie as far inside the helix as their ends lie
# outside. The base's thin tube leaves the threads 1.0 mm of overlap; without this a jolt would strip them.
_BULB_THREAD: Final = threads.Helix(radius_m=0.01017, start_m=-0.04075, phase_rad=np.pi / 2)

_FOOT_HALF_M, _FOOT_Y_M = 0.04235, (0.0072, 0.0172)
_CORE_HALF_M = 0.020  # stands for the pyramid between foot and neck
_SOCKET_FLOOR_Y_M, _SOCKET_RADII_M = -0.0148, (0.0125, 0.01625)
_PLATE_HALF_M, _PLATE_Y_M = 0.0276, (-0.0458, -0.0408)
#: The socket's ring ends this far below the plate, so that a seated bulb stands on the floor and not on eight boxes.
_RING_DROP_M = 0.0004

_GLOBE_RADIUS_M, _GLOBE_INNER_RADIUS_M, _GLOBE_Y_M = 0.030, 0.0285, 0.038
#: Round shoulder between neck and peg, on which the lying bulb rolls: a torus, here a ring of capsules.
_SHOULDER_RADIUS_M, _SHOULDER_TUBE_M, _SHOULDER_Y_M = 0.01435, 0.008, -0.014
_SHOULDER_CAPSULES = 16
_NECK_HALF_M, _NECK_Y_M = 0.0155, (-0.014, 0.015)
_PEG_RADIUS_M, _PEG_Y_M = 0.010, (-0.053, -0.020)

_HOOD_Y_M, _HOOD_RADII_M = (-0.051417, 0.048583), (0.026, 0.040)
_HOOD_WALL_M = 0.004
#: Not a multiple of four: the base's four corners then hold the hood at nearly the same height however it is turned.
_HOOD_BOXES = 14
_HOOD_FEET, _HOOD_FOOT_M = 6, 0.002
_HOOD_GRIP_M = 0.030


def _middle(span_m: tuple[float, float]) -> tuple[float, float]:
    """Centre and half length of a span."""
    low, high = span_m
    return (low + high) / 2, (high - low) / 2


def _add_base(body: mujoco.MjsBody) -> None:
    foot_y, foot_half = _middle(_FOOT_Y_M)
    add_box(body, (0.0, foot_y, 0.0), (_FOOT_HALF_M, foot_half, _FOOT_HALF_M), PART)
    core_y, core_half = _middle((_SOCKET_FLOOR_Y_M, _FOOT_Y_M[0]))
    add_box(body, (0.0, core_y, 0.0), (_CORE_HALF_M, core_half, _CORE_HALF_M), PART)
    add_ring(body, (0.0, 0.0), _SOCKET_RADII_M, (_PLATE_Y_M[0] + _RING_DROP_M, _SOCKET_FLOOR_Y_M))
    threads.add_thread(body, _BASE_THREAD, axis_x_m=0.0, axis_z_m=0.0, collides=THREAD)
    plate_y, plate_half = _middle(_PLATE_Y_M)
    edge, half_edge = _middle((_SOCKET_RADII_M[0], _PLATE_HALF_M))
    for side in (-1, 1):
        add_box(body, (side * edge, plate_y, 0.0), (half_edge, plate_half, _PLATE_HALF_M), PART)
        add_box(body, (0.0, plate_y, side * edge), (_SOCKET_RADII_M[0], plate_half, half_edge), PART)


def _add_bulb(body: mujoco.MjsBody) -> None:
    hollow = 1 - (_GLOBE_INNER_RADIUS_M / _GLOBE_RADIUS_M) ** 3
    add_sphere(body, (0.0, _GLOBE_Y_M, 0.0), _GLOBE_RADIUS_M, ROUND, density_kg_m3=1000.0 * hollow)
    add_sphere(body, (0.0, _GLOBE_Y_M, 0.0), _GLOBE_RADIUS_M, GRIPPED, density_kg_m3=0.0)
    neck_y, neck_half = _middle(_NECK_Y_M)
    add_box(body, (0.0, neck_y, 0.0), (_NECK_HALF_M, neck_half, _NECK_HALF_M), PART)
    _add_shoulder(body)
    tip, root = _PEG_Y_M[0] + _PEG_RADIUS_M, _PEG_Y_M[1]
    add_capsule(body, (0.0, tip, 0.0), (0.0, root, 0.0), _PEG_RADIUS_M, PART | THREAD)
    threads.add_thread(body, _BULB_THREAD, axis_x_m=0.0, axis_z_m=0.0, collides=THREAD)


def _add_shoulder(body: mujoco.MjsBody) -> None:
    angles = 2 * np.pi * np.arange(_SHOULDER_CAPSULES + 1) / _SHOULDER_CAPSULES
    corners = [(_SHOULDER_RADIUS_M * np.cos(a), _SHOULDER_Y_M, _SHOULDER_RADIUS_M * np.sin(a)) for a in angles]
    for start, end in itertools.pairwise(corners):
        add_capsule(body, start, end, _SHOULDER_TUBE_M, ROUND)


def _add_hood(body: mujoco.MjsBody) -> None:
    """A truncated cone, open at both ends, on feet that spare the table the contacts of all its boxes."""
    (top, bottom), (_, wide) = _HOOD_Y_M, _HOOD_RADII_M
    _add_cone(body, (top, bottom - _HOOD_FOOT_M), PART, density_kg_m3=1000.0)
    _add_cone(body, (top, top + _HOOD_GRIP_M), GRIPPED, density_kg_m3=0.0)
    for angle in 2 * np.pi * np.arange(_HOOD_FEET) / _HOOD_FEET:
        x, y, z = rotation.matrix_from_rotvec([0.0, angle, 0.0]) @ [wide + _HOOD_WALL_M / 2, bottom, 0.0]
        add_sphere(body, (x, y - _HOOD_FOOT_M, z), _HOOD_FOOT_M, PART)


def _add_cone(body: mujoco.MjsBody, span_y_m: tuple[float, float], collides: Collides, density_kg_m3: float) -> None:
    """The hood's wall between two heights: leaning boxes whose inner faces touch the inner cone."""
    (top, bottom), (narrow, wide) = _HOOD_Y_M, _HOOD_RADII_M
    slope_rad = np.arctan2(wide - narrow, bottom - top)
    lean = rotation.matrix_from_rotvec([0.0, 0.0, -slope_rad])
    middle, half_height = _middle(span_y_m)
    radius = narrow + (middle - top) * np.tan(slope_rad) + _HOOD_WALL_M / 2
    half = (_HOOD_WALL_M / 2, half_height / np.cos(slope_rad), wide * np.tan(np.pi / _HOOD_BOXES))
    for angle in 2 * np.pi * np.arange(_HOOD_BOXES) / _HOOD_BOXES:
        around = rotation.matrix_from_rotvec([0.0, angle, 0.0])
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=around @ [radius, middle, 0.0],
            quat=rotation.quat_from_matrix(around @ lean)[[3, 0, 1, 2]],
            size=half,
            density=density_kg_m3,
            **collides.geom_fields(),
        )


LAMP_BASE: Final = Part("lamp_base", "lamp/lamp_base", 0.05965, _add_base)
LAMP_BULB: Final = Part("lamp_bulb", "lamp/lamp_bulb", 0.03847, _add_bulb)
LAMP_HOOD: Final = Part("lamp_hood", "lamp/lamp_hood", 0.05999, _add_hood)

_HALF_PI: Final = np.pi / 2
#: The reference starts the bulb 8.3 mm inside the table; here it lies on it.
_BULB_AXIS_HEIGHT_M: Final = 0.0243

LAMP: Final = Task(
    name="lamp",
    parts=(
        PlacedPart(LAMP_BASE, from_april_euler(0.05, 0.14, -0.02, _HALF_PI, 0.0, 0.0)),
        PlacedPart(LAMP_BULB, from_april_euler(-0.05, 0.235, -_BULB_AXIS_HEIGHT_M, -np.arctan2(7.6, 52.0), 0.0, 0.0)),
        PlacedPart(LAMP_HOOD, from_april_euler(-0.08, 0.13, -0.048583, _HALF_PI, 0.0, 0.0)),
    ),
    relations=(
        Relation(
            base="lamp_base",
            other="lamp_bulb",
            target_positions_m=np.array([[0.0, -0.0678, 0.0]]),
            target_matrix=np.diag([-1.0, -1.0, 1.0]),
        ),
        Relation(
            base="lamp_base",
            other="lamp_hood",
            target_positions_m=np.array([[0.0, -0.088324, 0.0]]),
            target_matrix=np.eye(3),
            min_cosine=-1.0,
        ),
    ),
    max_steps=1000,
    gripper_open_m=GRIPPER_OPEN_M["lamp"],
    timestep_s=0.002,  # at 4 ms, stiff fingers on round surfaces chatter, up to 11 mm deep
    held_part="lamp_bulb",
    randomness=MappingProxyType(
        {
            "low": Randomness(
                impulse_speed_m_s=(0.188, 0.142, 0.183),
                impulse_spin_rad_s=(6.1, 5.5, 4.1),
                obstacle_m=0.02,
                arm_rad=np.deg2rad(5.0),
            ),
            "med": Randomness(
                impulse_speed_m_s=(0.345, 0.267, 0.346),
                impulse_spin_rad_s=(10.8, 9.8, 6.9),
                obstacle_m=0.04,
                arm_rad=np.deg2rad(10.0),
            ),
            "high": Randomness(
                impulse_speed_m_s=(0.427, 0.349, 0.431),
                impulse_spin_rad_s=(12.9, 11.8, 8.2),
                obstacle_m=0.06,
                arm_rad=np.deg2rad(13.0),
            ),
        }
    ),
)
