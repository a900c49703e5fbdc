"""Limits of the Franka Panda as Polymetis' robot client enforces them, beneath every server and client."""

from __future__ import annotations

from typing import Final

import numpy as np

from resip.control import panda

# Exceeding one of these stops the motion; the robot client recovers after a second.
JOINT_LOWER_RAD: Final = panda.HARD_LOWER_RAD
JOINT_UPPER_RAD: Final = panda.HARD_UPPER_RAD
JOINT_VELOCITY_RAD_S: Final = panda.HARD_VELOCITY_RAD_S
EE_LOWER_M: Final = np.array([0.1, -0.4, -0.05])
EE_UPPER_M: Final = np.array([1.0, 0.4, 1.0])

# Torques beyond these are cut.
TORQUE_NM: Final = np.array([86.0, 86.0, 86.0, 86.0, 11.5, 11.5, 11.5])

# Within these distances of a limit the robot client pushes back, so a target there is not reached exactly.
JOINT_MARGIN_RAD: Final = panda.SOFT_MARGIN_RAD
VELOCITY_MARGIN_RAD_S: Final = 0.5
JOINT_SPRING_NM_RAD: Final = 50.0
VELOCITY_DAMPING_NMS_RAD: Final = 20.0

RECOVERY_S: Final = 1.0
"""The robot client waits this long after a stop before it recovers."""
EE_LINK_NAME: Final = "panda_link8"
EE_LINK_INDEX: Final = 8
REST_POSE_RAD: Final = (-0.13935, -0.02048, -0.05201, -2.06913, 0.05059, 2.00287, -0.91679)
"""Home pose in the robot client's configuration."""
