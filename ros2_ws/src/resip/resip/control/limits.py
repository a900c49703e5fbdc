"""The limits that every target passes before it may move the arm.

Two thresholds, for two purposes. ``check_action`` refuses what no sound policy says (not a number, no
rotation, a jump through the cell): the policy node then stops and holds. ``clip_pose`` bounds what a
sound policy may ask for: the box, and how far the target may run in one control period.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resip import rotation, spaces
from resip.control import panda

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """Bounds on fingertip targets (base frame) and joint commands."""

    lower_m: tuple[float, float, float] = (0.15, -0.35, -0.01)
    """Corner of the fingertip's box. x and y: the robot client's hard box less its 5 cm soft margin; z: the table."""
    upper_m: tuple[float, float, float] = (0.95, 0.35, 0.80)
    """Opposite corner of the fingertip's box."""
    max_step_m: float = 0.15
    """Farthest that a target may run in one control period (1.5 m/s); farther ones are cut."""
    max_step_rad: float = 0.8
    """Most that a target may turn in one control period; more is cut."""
    max_jump_m: float = 0.35
    """A target farther than this from the one before is an error of the policy."""
    max_jump_rad: float = 2.0
    """A target turned more than this from the one before is an error of the policy."""
    joint_margin_rad: float = panda.SOFT_MARGIN_RAD
    """Distance kept from the joints' hard limits."""
    max_joint_lead_rad: float = 1.0
    """Most that a joint command may be away from where the joint is: twice the arm's lag at full speed."""


def check_action(action: ArrayLike, previous: spaces.Pose, limits: Limits) -> str | None:
    """Say why an action must not be executed.

    Args:
      action: ``(10,)``, see ``spaces``.
      previous: the pose commanded before it, or the measured one if none was.
      limits: the bounds.

    Returns:
      The reason in words, or None for a sound action.
    """
    array = np.asarray(action, dtype=np.float64)
    if array.shape != (spaces.ACTION_DIM,):
        return f"the action has shape {array.shape}, not ({spaces.ACTION_DIM},)"
    if not np.all(np.isfinite(array)):
        return f"the action is not finite at index {int(np.flatnonzero(~np.isfinite(array))[0])}"
    try:
        pose = spaces.action_pose(array)
    except ValueError as error:
        return f"the action's 6D part is no rotation ({error})"
    distance_m = float(np.linalg.norm(pose.position - previous.position))
    if distance_m > limits.max_jump_m:
        return f"the target jumps by {distance_m:.3f} m, more than {limits.max_jump_m} m in one tick"
    angle_rad = float(rotation.angle_between(previous.matrix, pose.matrix))
    if angle_rad > limits.max_jump_rad:
        return f"the target turns by {angle_rad:.2f} rad, more than {limits.max_jump_rad} rad in one tick"
    return None


def clip_pose(target: spaces.Pose, previous: spaces.Pose, limits: Limits) -> spaces.Pose:
    """Move a target into the box and within one step of ``previous``, along the straight line to it.

    Args:
      target: ``position`` (3,), ``matrix`` (3, 3).
      previous: the target before it.
      limits: the bounds.
    """
    boxed = np.clip(target.position, limits.lower_m, limits.upper_m)
    step = boxed - previous.position
    distance_m = float(np.linalg.norm(step))
    position = boxed if distance_m <= limits.max_step_m else previous.position + step * (limits.max_step_m / distance_m)
    angle_rad = float(rotation.angle_between(previous.matrix, target.matrix))
    if angle_rad <= limits.max_step_rad:
        return spaces.Pose(position, target.matrix)
    return spaces.Pose(position, rotation.interpolate(previous.matrix, target.matrix, limits.max_step_rad / angle_rad))


def check_joint_command(q_rad: ArrayLike, measured_rad: ArrayLike, limits: Limits) -> str | None:
    """Say why a joint command ``(7,)`` must not be sent to an arm at ``measured_rad``; None for a sound one."""
    q = np.asarray(q_rad, dtype=np.float64)
    if q.shape != (panda.DOF,):
        return f"the joint command has shape {q.shape}, not ({panda.DOF},)"
    if not np.all(np.isfinite(q)):
        return f"the joint command is not finite at {panda.JOINT_NAMES[int(np.flatnonzero(~np.isfinite(q))[0])]}"
    margin_rad = limits.joint_margin_rad - 1e-9
    outside = np.flatnonzero((q < panda.HARD_LOWER_RAD + margin_rad) | (q > panda.HARD_UPPER_RAD - margin_rad))
    if outside.size:
        joint = int(outside[0])
        return f"{panda.JOINT_NAMES[joint]} is commanded to {q[joint]:.3f} rad, too near its limit"
    lead = np.abs(q - np.asarray(measured_rad, dtype=np.float64))
    joint = int(np.argmax(lead))
    if lead[joint] > limits.max_joint_lead_rad:
        return f"{panda.JOINT_NAMES[joint]} is commanded {lead[joint]:.2f} rad away from where it is"
    return None
