"""Screw threads as chains of capsules along a helix: native contacts, no force callback.

FurnitureBench's threads are plain helical tubes, the same in every task: pitch 9.375 mm, two turns,
right-handed, tube radius 2.19 mm (1.94 mm in the lamp's base), on a helix of 10.0 mm (outer thread) or
13.1 mm (inner). They overlap by 1.3 mm radially, with about 3 mm of axial play: a leg pushed in without
turning stops 6 mm high.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from resip_training.sim.collision import Collides
from resip_training.sim.parts import Axis, stood_along

PITCH_M: Final = 0.009375
TURNS: Final = 2.0
TUBE_RADIUS_M: Final = 0.00219
CAPSULES_PER_TURN: Final = 12
#: Cut off both ends, where a capsule's round cap would reach beyond the real tube's flat end.
_TRIM_RAD: Final = np.deg2rad(14.0)


@dataclass(frozen=True)
class Helix:
    """A right-handed helix about a part's y or z axis.

    Angles are counted about that axis from +x.
    """

    radius_m: float
    start_m: float
    """Lowest place along the axis."""
    phase_rad: float
    """Angle there."""
    axis: Axis = "y"
    tube_radius_m: float = TUBE_RADIUS_M

    def points(self, phi_rad: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points ``(n, 3)`` at angles ``phi_rad`` ``(n,)`` past the start, axis at the origin."""
        angle = self.phase_rad + phi_rad
        along = self.start_m + PITCH_M * phi_rad / (2 * np.pi)
        around_y = np.stack([self.radius_m * np.cos(angle), along, -self.radius_m * np.sin(angle)], axis=-1)
        return stood_along(self.axis, around_y)


def add_thread(
    body: mujoco.MjsBody, helix: Helix, collides: Collides, axis_x_m: float = 0.0, axis_z_m: float = 0.0
) -> None:
    """Add a thread to ``body``, its axis moved to ``x = axis_x_m, z = axis_z_m``; it carries no mass."""
    count = round(CAPSULES_PER_TURN * TURNS)
    phi = np.linspace(_TRIM_RAD, 2 * np.pi * TURNS - _TRIM_RAD, count + 1)
    points = helix.points(phi) + np.array([axis_x_m, 0.0, axis_z_m])
    for start, end in itertools.pairwise(points):
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=np.concatenate([start, end]),
            size=(helix.tube_radius_m, 0.0, 0.0),
            density=0.0,
            **collides.geom_fields(),
        )
