"""Where the reference's tasks put things, in the robot base frame.

FurnitureBench states layouts in its AprilTag frame; ``from_april`` converts once, here, so that nothing
else in this project ever sees that frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from resip import rotation, spaces

Array = NDArray[np.float64]

_APRIL_ORIGIN_M = np.array([0.3015, 0.0, 0.0])
_APRIL_AXES = rotation.matrix_from_rotvec([0.0, 0.0, np.pi / 2]) @ rotation.matrix_from_rotvec([np.pi, 0.0, 0.0])


def euler_xyz(roll_rad: float, pitch_rad: float, yaw_rad: float) -> Array:
    """Matrix ``Rz(yaw) Ry(pitch) Rx(roll)``, the reference's Euler convention."""
    return (
        rotation.matrix_from_rotvec([0.0, 0.0, yaw_rad])
        @ rotation.matrix_from_rotvec([0.0, pitch_rad, 0.0])
        @ rotation.matrix_from_rotvec([roll_rad, 0.0, 0.0])
    )


def from_april(position_m: ArrayLike, matrix: ArrayLike) -> spaces.Pose:
    """Pose in the base frame of a pose given in the reference's AprilTag frame."""
    return spaces.Pose(
        _APRIL_ORIGIN_M + _APRIL_AXES @ np.asarray(position_m, dtype=np.float64),
        _APRIL_AXES @ np.asarray(matrix, dtype=np.float64),
    )


def from_april_euler(
    x_m: float, y_m: float, z_m: float, roll_rad: float, pitch_rad: float, yaw_rad: float
) -> spaces.Pose:
    """Pose in the base frame of a layout's entry: position and Euler angles in the AprilTag frame."""
    return from_april((x_m, y_m, z_m), euler_xyz(roll_rad, pitch_rad, yaw_rad))
