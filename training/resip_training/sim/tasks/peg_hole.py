"""peg_hole: put a rectangular peg into a block with 0.2 mm of clearance."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import mujoco
import numpy as np
from resip import spaces
from resip.tasks import GRIPPER_OPEN_M

from resip_training.sim.collision import LIGHT
from resip_training.sim.parts import Part, add_box
from resip_training.sim.task import PlacedPart, Randomness, Relation, Task

# The factory peg and hole: 0.22 mm of clearance along x, 0.16 mm along y. Origins at the lower ends.
_PEG_HALF_M: Final = (0.008, 0.005, 0.025)
_OPENING_HALF_M: Final = (0.00811, 0.00508)
_BLOCK_HALF_M: Final = (0.0125, 0.0125, 0.0045)


def _add_peg(body: mujoco.MjsBody) -> None:
    add_box(body, (0.0, 0.0, _PEG_HALF_M[2]), _PEG_HALF_M, LIGHT)


def _add_hole(body: mujoco.MjsBody) -> None:
    """A block with a rectangular opening: four walls."""
    (open_x, open_y), (half_x, half_y, half_z) = _OPENING_HALF_M, _BLOCK_HALF_M
    for side in (-1, 1):
        add_box(body, (side * (half_x + open_x) / 2, 0.0, half_z), ((half_x - open_x) / 2, half_y, half_z), LIGHT)
        add_box(body, (0.0, side * (half_y + open_y) / 2, half_z), (open_x, (half_y - open_y) / 2, half_z), LIGHT)


#: Density 500 kg/m3 in the reference.
PEG: Final = Part("peg", None, 0.0040, _add_peg)
HOLE: Final = Part("hole", None, 0.0021, _add_hole)


def _level(obstacle_m: float, arm_deg: float) -> Randomness:
    """The reference places both parts at random, alike on every level, and hardly pushes them."""
    return Randomness(
        impulse_speed_m_s=(0.0, 0.0),
        impulse_spin_rad_s=(0.0, 0.0),
        obstacle_m=obstacle_m,
        arm_rad=np.deg2rad(arm_deg),
        placement_m=0.01,
        placement_yaw_rad=np.deg2rad(45.0),
    )


PEG_HOLE: Final = Task(
    name="peg_hole",
    parts=(
        PlacedPart(PEG, spaces.Pose(np.array([0.4, 0.05, 0.0]), np.eye(3))),
        PlacedPart(HOLE, spaces.Pose(np.array([0.4, -0.05, 0.0]), np.eye(3))),
    ),
    relations=(Relation(base="peg", other="hole", target_positions_m=np.zeros((1, 3)), target_matrix=np.eye(3)),),
    max_steps=200,
    gripper_open_m=GRIPPER_OPEN_M["peg_hole"],
    timestep_s=0.002,
    randomness=MappingProxyType({"low": _level(0.02, 5.0), "med": _level(0.04, 10.0), "high": _level(0.06, 13.0)}),
)
