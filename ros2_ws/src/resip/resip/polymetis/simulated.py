"""A simulated robot behind the protocol: arm, hand, limits, faults and recovery, in the simulation's time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from resip.control import panda
from resip.control.impedance import ImpedanceGains
from resip.polymetis import archives, hardware
from resip.polymetis.endpoint import Endpoint
from resip.polymetis.gripper import HAND_HZ, GripperServer, Hand, HandClient
from resip.polymetis.messages import GripperMetadata, RobotMetadata, RobotState
from resip.polymetis.server import STALE_AFTER_S, ControllerServer, ServerError
from resip.polymetis.urdf import kinematic_urdf

Array = NDArray[np.float64]

_YIELD_S: Final = 0.0002
_BOX_CHECK_PERIOD_S: Final = 0.02  # the fingertip moves 3 cm at most in between
# A stop lasts a little longer than the server's patience, so that it always ends the controller.
_FAULT_S: Final = max(hardware.RECOVERY_S, STALE_AFTER_S) + 0.1
# While no torques are commanded, the arm's own joint controller holds it.
_BRAKE_STIFFNESS: Final = np.array([400.0, 400.0, 400.0, 400.0, 100.0, 100.0, 50.0])
_BRAKE_DAMPING: Final = np.array([40.0, 40.0, 40.0, 40.0, 10.0, 10.0, 5.0])


class SimulatedCell(Hand, Protocol):
    """A simulated arm with a hand. Gravity is compensated inside; torques are those beyond it."""

    @property
    def time_s(self) -> float:
        """Simulated time; never goes back."""
        ...

    @property
    def joint_positions(self) -> Array:
        """Joints ``(7,)`` in rad."""
        ...

    @property
    def joint_velocities(self) -> Array:
        """Joint speeds ``(7,)`` in rad/s."""
        ...

    @property
    def external_torques(self) -> Array:
        """Torques ``(7,)`` in Nm that contacts put on the joints."""
        ...

    def apply(self, torques_nm: Array) -> None:
        """Command torques ``(7,)`` for the next steps."""
        ...

    def step(self) -> None:
        """Advance the simulation by its time step."""
        ...


class LimitMonitor:
    """Watches the robot client's hard limits.

    One that is still exceeded after a recovery is not reported again until it was left once.
    """

    def __init__(self) -> None:
        self._forgiven: set[str] = set()
        self._outside_box: set[str] = set()
        self._next_box_check_s = -np.inf

    def check(self, q_rad: Array, qd_rad_s: Array, time_s: float) -> str | None:
        """Say which limit is exceeded, or None."""
        exceeded = self._exceeded(q_rad, qd_rad_s, time_s)
        self._forgiven &= exceeded
        news = exceeded - self._forgiven
        return ", ".join(sorted(news)) if news else None

    def forgive(self, q_rad: Array, qd_rad_s: Array, time_s: float) -> None:
        """Overlook what is exceeded now, as the robot client does after a recovery."""
        self._next_box_check_s = -np.inf
        self._forgiven = self._exceeded(q_rad, qd_rad_s, time_s)

    def _exceeded(self, q_rad: Array, qd_rad_s: Array, time_s: float) -> set[str]:
        outside = (q_rad < hardware.JOINT_LOWER_RAD) | (q_rad > hardware.JOINT_UPPER_RAD)
        fast = np.abs(qd_rad_s) > hardware.JOINT_VELOCITY_RAD_S
        if time_s >= self._next_box_check_s:
            self._next_box_check_s = time_s + _BOX_CHECK_PERIOD_S
            position = panda.ee_pose(q_rad).position
            beyond = (position < hardware.EE_LOWER_M) | (position > hardware.EE_UPPER_M)
            self._outside_box = {f"end effector's {'xyz'[axis]} limit" for axis in np.flatnonzero(beyond)}
        names = {f"{panda.JOINT_NAMES[joint]}'s position limit" for joint in np.flatnonzero(outside)}
        names |= {f"{panda.JOINT_NAMES[joint]}'s velocity limit" for joint in np.flatnonzero(fast)}
        return names | self._outside_box


def soft_limit_torques(q_rad: Array, qd_rad_s: Array) -> Array:
    """Torques ``(7,)`` in Nm with which the robot client pushes back near the joint limits."""
    below = hardware.JOINT_LOWER_RAD + hardware.JOINT_MARGIN_RAD - q_rad
    above = q_rad - hardware.JOINT_UPPER_RAD + hardware.JOINT_MARGIN_RAD
    spring = hardware.JOINT_SPRING_NM_RAD * (np.maximum(below, 0.0) - np.maximum(above, 0.0))
    free = hardware.JOINT_VELOCITY_RAD_S - hardware.VELOCITY_MARGIN_RAD_S
    excess = np.maximum(np.abs(qd_rad_s) - free, 0.0)
    return spring - hardware.VELOCITY_DAMPING_NMS_RAD * np.sign(qd_rad_s) * excess


@dataclass(frozen=True)
class _Pause:
    """Control updates do not come until ``until_s``; the arm holds ``q_rad``."""

    until_s: float
    q_rad: Array


def simulated_metadata(control_hz: int, polymetis_version: str = "") -> RobotMetadata:
    """What the simulated robot tells clients about itself."""
    gains = ImpedanceGains()
    return RobotMetadata(
        urdf=kinematic_urdf(),
        hz=control_hz,
        default_controller=archives.hold_archive(),
        dof=panda.DOF,
        ee_link_name=hardware.EE_LINK_NAME,
        ee_link_idx=hardware.EE_LINK_INDEX,
        rest_pose=hardware.REST_POSE_RAD,
        default_kq=archives.HOLD_KQ,
        default_kqd=archives.HOLD_KQD,
        default_kx=gains.cartesian_stiffness,
        default_kxd=gains.cartesian_damping,
        polymetis_version=polymetis_version,
    )


class SimulatedRobot:
    """Ties a simulated cell to both servers: the control PC, the Franka and its hand in one.

    One thread calls ``tick`` (and ``relocated``); the rest may be called from any. While a fault or a stall
    lasts, no control update reaches the server, so clients see frozen timestamps, and the arm brakes.

    Args:
      cell: the arm and the hand.
      port: of the arm's server; 0 picks a free one, see ``arm_port``.
      gripper_port: of the gripper's server; 0 picks a free one, see ``gripper_port``.
      control_hz: nominal rate of ``tick``, told to clients.
      polymetis_version: told to clients; the original client insists on its own version.
    """

    def __init__(
        self,
        cell: SimulatedCell,
        port: int = 0,
        gripper_port: int = 0,
        control_hz: int = 500,
        polymetis_version: str = "",
    ) -> None:
        self._cell = cell
        self._metadata = simulated_metadata(control_hz, polymetis_version)
        self._boot(port, gripper_port)
        self._limits = LimitMonitor()
        self._pause: _Pause | None = None
        self._requested_fault: str | None = None
        self._requested_stall_s = 0.0
        self._next_hand_poll_s = cell.time_s
        self._commanded = np.zeros(panda.DOF)
        self._applied = np.zeros(panda.DOF)
        self._latency_ms = 0.0
        self._successful = True
        self.faults: list[str] = []
        """What stopped the robot so far, oldest first."""
        self.failed_updates = 0
        """Number of control updates that the server refused: a controller that fails."""

    def _boot(self, port: int, gripper_port: int) -> None:
        """New servers, which know of nothing before."""
        self.server = ControllerServer(clock=lambda: self._cell.time_s)
        self.gripper_server = GripperServer()
        self.server.init_robot_client(self._metadata)
        self.gripper_server.init_robot_client(GripperMetadata(HAND_HZ, panda.GRIPPER_MAX_WIDTH_M))
        self.hand = HandClient(self._cell, self.gripper_server.control_update)
        self._endpoints = [Endpoint(self.server, port), Endpoint(self.gripper_server, gripper_port)]

    @property
    def arm_port(self) -> int:
        """Port of the arm's server."""
        return self._endpoints[0].port

    @property
    def gripper_port(self) -> int:
        """Port of the gripper's server."""
        return self._endpoints[1].port

    @property
    def protocol_violations(self) -> int:
        """Number of calls that would have crashed or wedged the real server."""
        return self.server.protocol_violations

    @property
    def faulted(self) -> bool:
        """Whether control updates are held back at present."""
        return self._pause is not None

    def start(self) -> None:
        """Answer clients from now on."""
        for endpoint in self._endpoints:
            endpoint.start()

    def stop(self) -> None:
        """Cut clients off, as when the control PC dies."""
        for endpoint in self._endpoints:
            endpoint.stop()

    def die(self) -> None:
        """End the servers in mid-motion; the arm, which gets no torques any more, brakes."""
        self.stop()
        self._requested_stall_s = np.inf

    def restart(self) -> None:
        """Start the servers again after ``die``, on the same ports."""
        self._pause, self._requested_stall_s = None, 0.0
        self._limits = LimitMonitor()
        self._boot(self.arm_port, self.gripper_port)
        self.start()

    def inject_fault(self, reason: str) -> None:
        """Stop the robot at the next tick, as a reflex or a hard limit does; it recovers by itself."""
        self._requested_fault = reason

    def stall(self, duration_s: float) -> None:
        """Hold the control updates back for a time, as a robot client that hangs does."""
        self._requested_stall_s = duration_s

    def relocated(self) -> None:
        """Tell that the arm was put elsewhere (the cell was reset): whatever controller ran has ended."""
        self._pause = None
        self._limits = LimitMonitor()
        self.server.interrupt()

    def tick(self) -> None:
        """One control update, one step of the simulation."""
        time_s = self._cell.time_s
        q = np.array(self._cell.joint_positions, dtype=np.float64)
        qd = np.array(self._cell.joint_velocities, dtype=np.float64)
        self._begin_pause(q, qd, time_s)
        if self._pause is not None and time_s >= self._pause.until_s:
            self._pause = None
            self._limits.forgive(q, qd, time_s)
        if self._pause is None:
            torques = self._control(q, qd, time_s) + soft_limit_torques(q, qd)
        else:
            torques = _BRAKE_STIFFNESS * (self._pause.q_rad - q) - _BRAKE_DAMPING * qd
        self._applied = np.clip(torques, -hardware.TORQUE_NM, hardware.TORQUE_NM)
        self._cell.apply(self._applied)
        self._cell.step()
        self._poll_hand()

    @contextlib.contextmanager
    def ticking(self) -> Iterator[None]:
        """Tick in a thread until the block ends, for calls that wait for control updates.

        Somewhat slower than it could, so that the servers' threads get their turn.
        """
        stop = threading.Event()

        def run() -> None:
            """Tick until the block ends."""
            while not stop.wait(_YIELD_S):
                self.tick()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _begin_pause(self, q: Array, qd: Array, time_s: float) -> None:
        if self._pause is not None:
            return
        exceeded = self._limits.check(q, qd, time_s)
        reason, self._requested_fault = self._requested_fault or exceeded, None
        if reason:
            self.faults.append(reason)
        duration_s = _FAULT_S if reason else self._requested_stall_s
        self._requested_stall_s = 0.0
        if duration_s > 0.0:
            self._pause = _Pause(time_s + duration_s, q)

    def _control(self, q: Array, qd: Array, time_s: float) -> Array:
        """Torques that the server commands; none from a controller that fails."""
        state = RobotState(
            timestamp_ns=round(time_s * 1e9),
            joint_positions=q,
            joint_velocities=qd,
            prev_joint_torques_computed=self._commanded,
            prev_joint_torques_computed_safened=self._applied,
            motor_torques_measured=self._applied,
            motor_torques_external=np.array(self._cell.external_torques, dtype=np.float64),
            motor_torques_desired=self._applied,
            prev_controller_latency_ms=self._latency_ms,
            prev_command_successful=self._successful,
        )
        started_s = time.perf_counter()
        try:
            self._commanded = self.server.control_update(state)[: panda.DOF]
            self._successful = True
        except ServerError:
            self.failed_updates += 1
            self._commanded = np.zeros(panda.DOF)
            self._successful = False
        self._latency_ms = (time.perf_counter() - started_s) * 1e3
        return self._commanded

    def _poll_hand(self) -> None:
        time_s = self._cell.time_s
        if time_s >= self._next_hand_poll_s:
            self._next_hand_poll_s += 1.0 / HAND_HZ
            self.hand.poll(round(time_s * 1e9))
