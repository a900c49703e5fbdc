"""Names of the graph's topics and services: their only home."""

from __future__ import annotations

from typing import Final

CLOCK: Final = "/clock"

JOINT_STATES: Final = "/robot/joint_states"
EE_POSE: Final = "/robot/ee_pose"
EE_TWIST: Final = "/robot/ee_twist"
ROBOT_STATUS: Final = "/robot/status"

TARGET_POSE: Final = "/policy/target_pose"
TARGET_GRIPPER: Final = "/policy/target_gripper"
POLICY_STATUS: Final = "/policy/status"
POLICY_PLAN: Final = "/policy/plan"

JOY: Final = "/teleop/joy"

JOINT_COMMAND: Final = "/command/joints"
IK_STATUS: Final = "/command/status"

#: Permission to move: a header whose ``frame_id`` is ``GO``, signed (see ``safety.process``), or says why not;
#: ``DISARMED`` is in good order.
PERMIT: Final = "/safety/permit"
GO: Final = "go"
DISARMED: Final = "disarmed"
SAFETY_STATUS: Final = "/safety/status"
#: What each node is: its version and its limits.
ABOUT: Final = "/safety/about"
#: A header whose ``frame_id`` is ``RECORDING``, signed, while a bag is open, ``CLOSED`` after it, or says what failed.
RECORDER: Final = "/trial/recorder"
RECORDING: Final = "recording"
CLOSED: Final = "closed"

DIAGNOSTICS: Final = "/diagnostics"
CELL_STATUS: Final = "/cell/status"
CELL_PART_POSES: Final = "/cell/part_poses"
TRIAL_STATUS: Final = "/trial/status"

ARM: Final = "/safety/arm"
DISARM: Final = "/safety/disarm"
STOP: Final = "/safety/stop"
#: Asked by the supervisor alone: without its permission the bridge moves nothing.
BRIDGE_ARM: Final = "/robot/arm"
BRIDGE_DISARM: Final = "/robot/disarm"
POLICY_START: Final = "/policy/start"
POLICY_STOP: Final = "/policy/stop"
CELL_RESET: Final = "/cell/reset"
TRIAL_BEGIN: Final = "/trial/begin"
TRIAL_SUCCESS: Final = "/trial/success"
TRIAL_FAILURE: Final = "/trial/failure"
TRIAL_MARK: Final = "/trial/mark"
TRIAL_DISCARD: Final = "/trial/discard"


def image(camera: str) -> str:
    """Raw rgb8 stream of a camera, named as realsense-ros 4 names it."""
    return f"/{camera}/color/image_raw"


def compressed(camera: str) -> str:
    """JPEG stream of a camera, stamped as the raw one."""
    return f"/{camera}/color/image_raw/compressed"


def camera_info(camera: str) -> str:
    """Calibration of a camera, stamped as its images."""
    return f"/{camera}/color/camera_info"
