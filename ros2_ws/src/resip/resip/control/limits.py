"""The limits of a cell, and the checks that every target and command passes before it may move the arm.

Three places, for three purposes. ``check_action``, at the policy's output, refuses what no sound policy says (not a
number, no rotation, a jump through the cell): the policy then stops. ``clip_pose`` and the servo, at the inverse
kinematics, bound what a sound policy may ask for: the box, the step, speed and acceleration. ``check_joint_command``,
``SpeedCheck`` and ``TorqueCheck``, at the bridge, refuse what should not have got through. The bounds that are clipped
to lie inside those that are refused: the margins between them are in the file as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from resip import rotation, spaces
from resip.control import panda
from resip.errors import ResipError, UnknownNameError, check_name

Array = NDArray[np.float64]

#: How long external torques may exceed their limit: a knock of the fingers on a part is shorter, a jam is not.
TORQUE_PATIENCE_S: Final = 0.1

#: How far beyond the box the fingertip may be commanded: a path between two targets in it is straight in the joints,
#: not in space, and a target that the joints cannot reach ends beside it.
BOX_TOLERANCE_M: Final = 0.01


#: Words of faults that are a policy's doing: nodes pass faults on as text, and ``blames_policy`` finds these in it.
_UNSOUND: Final = "unsound action"
_PRESSES: Final = "contact presses"


class UnsoundActionError(ResipError):
    """A policy asks for what must not be done."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{_UNSOUND}: {problem}")


class LimitsError(ResipError):
    """A limits file that cannot be used; the message lists everything that is wrong with it."""


@dataclass(frozen=True)
class Limits:
    """Bounds on fingertip targets (base frame), joint commands and contact; a limits file holds every field."""

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
    joint_velocity_rad_s: tuple[float, ...] = tuple(float(v) for v in panda.COMMAND_VELOCITY_RAD_S)
    """Fastest that joints are commanded (7); slower ones stretch the motion."""
    velocity_margin: float = 0.3
    """Share by which a command may be faster than that before it is refused: of a command that comes 30 ms late."""
    joint_acceleration_rad_s2: tuple[float, ...] = (20.0,) * panda.DOF
    """How fast commanded joints may gain speed (7), from one control period to the next: full speed at once by default,
    as in training. Lower it for first motions."""
    external_torque_nm: tuple[float, ...] = (60.0,) * 4 + (20.0,) * 3
    """Torques of contact (7) that end the motion when they last longer than ``TORQUE_PATIENCE_S``. Assembly in
    simulation presses with up to 43 and 13 Nm for as long."""


#: Lowest and highest value of each field, inclusive: the robot's own limits, less the margin in which it pushes back.
_BOUNDS: Final[Mapping[str, tuple[Any, Any]]] = {
    "lower_m": ((0.15, -0.35, -0.01), (0.95, 0.35, 0.95)),
    "upper_m": ((0.15, -0.35, -0.01), (0.95, 0.35, 0.95)),
    "max_step_m": (0.001, 0.2),
    "max_step_rad": (0.01, 1.0),
    "max_jump_m": (0.001, 0.5),
    "max_jump_rad": (0.01, np.pi),
    "joint_margin_rad": (panda.SOFT_MARGIN_RAD, 1.0),
    "max_joint_lead_rad": (0.05, 1.0),
    "joint_velocity_rad_s": ((0.05,) * panda.DOF, tuple(panda.COMMAND_VELOCITY_RAD_S)),
    "velocity_margin": (0.05, 0.3),
    "joint_acceleration_rad_s2": ((0.5,) * panda.DOF, (20.0,) * panda.DOF),
    "external_torque_nm": ((1.0,) * panda.DOF, (100.0,) * panda.DOF),
}


def load_limits(path: str | Path) -> Limits:
    """Read the limits file of a cell; an empty path stands for the limits of the simulated cell.

    Raises:
      LimitsError: it cannot be read, or is wrong; the one message lists all that is.
    """
    if not str(path):
        return Limits()
    try:
        with Path(path).open() as file:
            values = YAML(typ="safe", pure=True).load(file)
    except OSError as error:
        raise LimitsError(f"limits file {path}: {error.strerror}") from error
    except YAMLError as error:
        raise LimitsError(f"limits file {path} is no YAML: {error}") from error
    problems = check_limits(values)
    if problems:
        raise LimitsError(f"limits file {path}: {'; '.join(problems)}")
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, Sequence) else v for name, v in values.items()}
    return Limits(**given)


def check_limits(values: Any) -> list[str]:
    """Everything that is wrong with the values of a limits file; nothing for sound ones."""
    if not isinstance(values, Mapping):
        return ["it holds no names with values"]
    problems = [_unknown(str(name)) for name in values if name not in _BOUNDS]
    problems += [f"{name} is missing" for name in _BOUNDS if name not in values]
    known = {name: value for name, value in values.items() if name in _BOUNDS}
    wrong = [problem for name, value in known.items() if (problem := _out_of_bounds(name, value))]
    return problems + (wrong or _contradictions(known))


def _unknown(name: str) -> str:
    try:
        check_name("limit", name, _BOUNDS)
    except UnknownNameError as error:
        return str(error)
    return ""


def _out_of_bounds(name: str, value: Any) -> str:
    low, high = (np.asarray(bound, dtype=np.float64) for bound in _BOUNDS[name])
    wanted = f"{low.size} numbers" if low.ndim else "a number"
    entries = value if isinstance(value, list) else [value]
    if isinstance(value, list) != bool(low.ndim) or len(entries) != low.size:
        return f"{name} is {value!r}, not {wanted}"
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in entries):
        return f"{name} is {value!r}, not {wanted}"
    if np.any(np.asarray(value) < low - 1e-9) or np.any(np.asarray(value) > high + 1e-9):
        return f"{name} is {value}, outside {low.tolist()} to {high.tolist()}"
    return ""


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Pairs of sound values that do not fit each other."""
    pairs = (("lower_m", "upper_m"), ("max_step_m", "max_jump_m"), ("max_step_rad", "max_jump_rad"))
    return [
        f"{low} is not below {high}"
        for low, high in pairs
        if {low, high} <= values.keys() and np.any(np.asarray(values[low]) >= np.asarray(values[high]))
    ]


def digest(limits: Limits) -> str:
    """Short name of these very values: nodes that were given the same limits say the same."""
    return hashlib.sha256(repr(dataclasses.astuple(limits)).encode()).hexdigest()[:12]


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


def describe_clip(target: spaces.Pose, clipped: spaces.Pose, limits: Limits) -> str:
    """Say what ``clip_pose`` cut off a target, and nothing where it left it alone."""
    causes = []
    if np.any(target.position < limits.lower_m) or np.any(target.position > limits.upper_m):
        causes.append("it lies outside the box")
    if float(np.linalg.norm(np.clip(target.position, limits.lower_m, limits.upper_m) - clipped.position)) > 1e-9:
        causes.append(f"it runs farther than {limits.max_step_m:g} m in a period")
    if float(rotation.angle_between(target.matrix, clipped.matrix)) > 1e-6:
        causes.append(f"it turns more than {limits.max_step_rad:g} rad in a period")
    return " and ".join(causes)


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
    beyond_m = _beyond_box_m(q, limits)
    axis = int(np.argmax(beyond_m))
    # an arm that is outside may come back
    if beyond_m[axis] > BOX_TOLERANCE_M and beyond_m[axis] > _beyond_box_m(measured_rad, limits)[axis]:
        return f"the fingertip is commanded {beyond_m[axis]:.3f} m out of the box along {'xyz'[axis]}"
    return None


def _beyond_box_m(q_rad: ArrayLike, limits: Limits) -> Array:
    """How far the fingertip ``(3,)`` of joints ``(7,)`` is outside the box along each axis; 0 inside."""
    tip_m = panda.ee_pose(q_rad).position
    return np.maximum(np.maximum(limits.lower_m - tip_m, tip_m - limits.upper_m), 0.0)


class SpeedCheck:
    """Refuses joint commands that run faster than the limit and its margin, over a control period."""

    def __init__(self, limits: Limits) -> None:
        self._fastest_rad_s = np.array(limits.joint_velocity_rad_s) * (1.0 + limits.velocity_margin)
        self._past: deque[tuple[float, Array]] = deque()

    def reset(self) -> None:
        """Forget the past: the next command is the first one."""
        self._past.clear()

    def check(self, q_rad: ArrayLike, time_s: float) -> str | None:
        """Say why the command ``(7,)`` for ``time_s`` is too fast after the earlier ones; None for a sound one."""
        q = np.asarray(q_rad, dtype=np.float64)
        while self._past and time_s - self._past[0][0] > spaces.CONTROL_PERIOD_S + 1e-6:
            self._past.popleft()
        self._past.append((time_s, q))
        moved_rad = np.abs(q - self._past[0][1])
        fastest_rad = self._fastest_rad_s * spaces.CONTROL_PERIOD_S
        joint = int(np.argmax(moved_rad - fastest_rad))
        if moved_rad[joint] <= fastest_rad[joint] + 1e-9:
            return None
        speed_rad_s = moved_rad[joint] / spaces.CONTROL_PERIOD_S
        return f"{panda.JOINT_NAMES[joint]} is commanded at {speed_rad_s:.2f} rad/s, faster than its limit"


class TorqueCheck:
    """Tells when contact has pressed harder on the arm than it may, for longer than it may."""

    def __init__(self, limits: Limits) -> None:
        self._most_nm = np.array(limits.external_torque_nm)
        self._since_s: float | None = None

    def check(self, torques_nm: ArrayLike, time_s: float) -> str | None:
        """Say which of the external torques ``(7,)`` at ``time_s`` is too much; None while all is well."""
        torques = np.abs(np.asarray(torques_nm, dtype=np.float64))
        if not np.any(torques > self._most_nm):
            self._since_s = None
            return None
        self._since_s = time_s if self._since_s is None else self._since_s
        if time_s - self._since_s < TORQUE_PATIENCE_S:
            return None
        joint = int(np.argmax(torques / self._most_nm))
        return f"{_PRESSES} on {panda.JOINT_NAMES[joint]} with {torques[joint]:.0f} Nm, too hard and too long"


def blames_policy(fault: str) -> bool:
    """Whether a fault is the policy's doing, not the graph's or the robot's: an unsound action, or too hard a contact.

    Args:
      fault: in the words of any node that passes it on.
    """
    return _UNSOUND in fault or _PRESSES in fault
