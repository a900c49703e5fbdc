"""How commanded joints and gripper widths become forces: the arm's drive and the hand's fingers.

Three drives: ``impedance`` answers as the controller that the bridge uploads to the robot; ``reference`` is
the joint position drive of the paper's simulator; ``torque`` leaves the arm to a controller outside (the
simulated Polymetis server).

The impedance law ``(J' Kx J + Kq)(q_d - q) - (J' Kxd J + Kqd) qd`` couples the joints. Its Cartesian part is
six fixed tendons whose coefficients are the rows of ``J``: a spring of stiffness Kx on the tendon
``J_i q`` is exactly the joint torque ``J_i' Kx_i J_i (q_d - q)``, integrated implicitly by the simulator.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip import arrays
from resip.control import impedance, panda

Array = NDArray[np.float64]
Drive = Literal["impedance", "reference", "torque"]

REFERENCE_STIFFNESS_NM_RAD: Final = 1000.0
REFERENCE_DAMPING_NM_S_RAD: Final = 200.0

#: Torque that the robot's own client lets through (N m).
TORQUE_LIMIT_NM: Final = np.array([86.0, 86.0, 86.0, 86.0, 11.5, 11.5, 11.5])

FINGER_FORCE_N: Final = 13.0  # reference: effort-driven, 13 N a finger
_FINGER_STIFFNESS: Final = 2000.0  # N/m: full force 6.5 mm past the contact
_FINGER_DAMPING: Final = 60.0

_TWIST_AXES: Final = ("x", "y", "z", "rx", "ry", "rz")
#: Places of the impedance drive's tendons among the actuators.
TENDON_DRIVES: Final = slice(panda.DOF, panda.DOF + len(_TWIST_AXES))


def _add_servo(spec: mujoco.MjSpec, target: str, kind: mujoco.mjtTrn, stiffness: float, damping: float) -> None:
    actuator = spec.add_actuator(name=f"{target}_drive", target=target, trntype=kind)
    actuator.set_to_position(kp=stiffness, kv=damping)


def add_drive(spec: mujoco.MjSpec, drive: Drive, gains: impedance.ImpedanceGains | None = None) -> None:
    """Add the actuators of arm and fingers to ``spec``, arm first."""
    gains = gains or impedance.ImpedanceGains()
    joint = mujoco.mjtTrn.mjTRN_JOINT
    for name, limit, kq, kqd in zip(
        panda.JOINT_NAMES, TORQUE_LIMIT_NM, gains.joint_stiffness, gains.joint_damping, strict=True
    ):
        spec.joint(name).actfrclimited = True
        spec.joint(name).actfrcrange = (-limit, limit)
        if drive == "impedance":
            _add_servo(spec, name, joint, kq, kqd)
        elif drive == "reference":
            _add_servo(spec, name, joint, REFERENCE_STIFFNESS_NM_RAD, REFERENCE_DAMPING_NM_S_RAD)
        else:
            spec.add_actuator(name=f"{name}_drive", target=name, trntype=joint).set_to_motor()
    if drive == "impedance":
        _add_cartesian_springs(spec, gains)
    for name in panda.FINGER_NAMES:
        actuator = spec.add_actuator(
            name=f"{name}_drive", target=name, trntype=joint, forcerange=(-FINGER_FORCE_N, FINGER_FORCE_N)
        )
        actuator.set_to_position(kp=_FINGER_STIFFNESS, kv=_FINGER_DAMPING)
        actuator.forcelimited = True


def _add_cartesian_springs(spec: mujoco.MjSpec, gains: impedance.ImpedanceGains) -> None:
    rows = panda.flange_jacobian(panda.RESET_RAD)
    for axis, row, kx, kxd in zip(_TWIST_AXES, rows, gains.cartesian_stiffness, gains.cartesian_damping, strict=True):
        tendon = spec.add_tendon(name=f"flange_{axis}")
        for name, coefficient in zip(panda.JOINT_NAMES, row, strict=True):
            tendon.wrap_joint(name, coefficient)
        _add_servo(spec, tendon.name, mujoco.mjtTrn.mjTRN_TENDON, kx, kxd)


class ArmDrive:
    """Writes commanded joints into the controls of many worlds; the tendons follow each arm's present Jacobian.

    Args:
      ctrl: what the physics reads, ``(n, nu)``; numpy, or torch on a device.
      tendon_rows: its tendons' coefficients ``(n, 42)``; None for a drive without tendons.
    """

    def __init__(self, ctrl: Any, tendon_rows: Any) -> None:
        self._ctrl, self._rows = ctrl, tendon_rows

    def command(self, q_desired_rad: Any, q_rad: Any) -> None:
        """Drive all arms, at joints ``q_rad`` ``(n, 7)``, towards ``q_desired_rad`` ``(n, 7)``."""
        self._ctrl[:, : panda.DOF] = q_desired_rad
        if self._rows is not None:
            jacobian = panda.flange_jacobian(q_rad)
            self._rows[:] = jacobian.reshape(len(jacobian), -1)
            lengths = arrays.namespace(jacobian).einsum("nij,nj->ni", jacobian, q_desired_rad)
            self._ctrl[:, TENDON_DRIVES] = lengths


class FingerRamp:
    """The hand's motion: finger targets that move at a set speed towards a goal, batched.

    Shapes: ``(n,)``, in metres of one finger's travel (half the width).

    Args:
      batch_size: n.
      open_width_m: to which the hand opens.
      kind: a tensor, for targets that are tensors on its device.
    """

    def __init__(self, batch_size: int, open_width_m: float, kind: Any = None) -> None:
        self._open_m = open_width_m / 2
        self._xp = arrays.namespace(kind)
        self.target_m = arrays.like(np.full(batch_size, self._open_m), kind)
        self.goal_m = arrays.copy(self.target_m)
        self._speed_m_s = panda.GRIPPER_SPEED_M_S / 2

    def reset(self, ids: NDArray[np.int64] | slice = slice(None)) -> None:
        """Open, at once, for the entries ``ids``."""
        self.target_m[ids] = self.goal_m[ids] = self._open_m

    def move(self, goal_m: Any, finger_m: Any, speed_m_s: float = panda.GRIPPER_SPEED_M_S / 2) -> None:
        """Head for ``goal_m``; where that is a new goal, start from the fingers' measured place ``finger_m``."""
        goal_m = self._xp.zeros_like(self.goal_m) + arrays.like(goal_m, self.goal_m)
        self.target_m = self._xp.where(goal_m != self.goal_m, finger_m, self.target_m)
        self.goal_m = goal_m
        self._speed_m_s = speed_m_s

    def command(self, close: Any, finger_m: Any) -> None:
        """Close where ``close`` holds, open elsewhere."""
        self.move(self._xp.where(close, 0.0, self._xp.full_like(self.goal_m, self._open_m)), finger_m)

    def advance(self, duration_s: float) -> Any:
        """Move the targets on by ``duration_s`` and return them."""
        travel = self._speed_m_s * duration_s
        self.target_m = self.target_m + self._xp.clip(self.goal_m - self.target_m, -travel, travel)
        return self.target_m
