"""What a bridge drives: the arm and the gripper behind explicit states that follow the servers' rules.

The rules, each there because breaking it crashes, wedges or surprises a real server:

- A controller is set only while the metadata answers and the state's timestamp advances.
- An update is sent only to a controller of ours that was seen running a moment ago.
- A controller that ended (robot stopped, robot client gone, another client) is a fault, never re-armed by itself.
- Every gripper command has a fresh timestamp and waits until the last motion has ended.

No method raises. Each answers with a status whose ``reason`` says what is wrong.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from resip.control import panda
from resip.polymetis import archives, hardware
from resip.polymetis.archives import ImpedanceSettings
from resip.polymetis.client import ArmClient, GripperClient, PolymetisError
from resip.polymetis.messages import NONE, GripperState, Interval, RobotState

_EPISODE_CHECK_PERIOD_S: Final = 0.1
_FRESH_POLL_S: Final = 0.005
#: Arming is tried so often, so far apart: a robot that has stopped takes a second to recover by itself.
_ARM_ATTEMPTS: Final = 3
_ARM_RETRY_S: Final = 0.5
#: A server that has refused so many updates, one after the other, is not asked any more: 0.1 s at 100 Hz.
_MOST_REFUSALS: Final = 10
_OPEN_TOLERANCE_M: Final = 0.005
_GRIPPER_SETTLE_NS: Final = 200_000_000  # a motion shows within this time of the robot's clock, or there is none


class Mode(enum.Enum):
    """Where an arm session stands."""

    DISCONNECTED = "disconnected"
    """No server, or one whose state does not advance."""
    IDLE = "idle"
    """Connected; the server's own default controller holds the arm."""
    ARMED = "armed"
    """Our controller runs and takes commands."""
    FAULTED = "faulted"
    """Our controller was lost, or arming failed. Latched until ``arm`` succeeds or ``disarm`` acknowledges it."""


@dataclass(frozen=True)
class SessionSettings:
    """How an arm session behaves."""

    impedance: ImpedanceSettings = field(default_factory=ImpedanceSettings)
    """The controller that ``arm`` uploads."""
    stale_after_s: float = 1.0
    """Longest wall time for which the robot's timestamp may stand still."""


@dataclass(frozen=True)
class ArmStatus:
    """Answer of every call of an arm session."""

    mode: Mode
    reason: str = ""
    """What is wrong, or why the call did nothing; empty if all is well."""
    state: RobotState | None = None
    """Newest state that was read."""


class ArmSession:
    """The arm: ``poll`` regularly, ``arm``, ``command``, ``disarm``. Calls from several threads take turns.

    Args:
      client: the arm's server.
      settings: see ``SessionSettings``.
      clock: steady time in seconds.
    """

    def __init__(
        self,
        client: ArmClient,
        settings: SessionSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._settings = settings or SessionSettings()
        self._clock = clock
        self._turn = threading.RLock()
        self._mode = Mode.DISCONNECTED
        self._reason = f"not connected to {client.address} yet"
        self._state: RobotState | None = None
        self._advanced_at_s: float | None = None
        self._episode_start = NONE
        self._checked_at_s = -np.inf
        self._refusals = 0
        self._begun: Future[Interval] | None = None  # a command that the server has not answered yet
        self._refused = ""  # why the last one that it answered was not obeyed
        self._update = archives.UpdateArchive()
        self._controller = archives.controller_archive(self._settings.impedance)

    def _status(self, remark: str = "") -> ArmStatus:
        return ArmStatus(self._mode, self._reason or remark, self._state)

    def _enter(self, mode: Mode, reason: str = "") -> None:
        self._mode, self._reason = mode, reason

    def close(self) -> None:
        """Close the connection; the controller's own watchdog holds the arm."""
        self._client.close()

    def poll(self) -> ArmStatus:
        """Read the state and find out whether all is still well."""
        with self._turn:
            if self._begun is not None and self._begun.done():
                self._end_command()
            try:
                self._observe(self._client.state())
            except PolymetisError as error:
                self._lose(error)
            self._judge_age()
            if self._mode is Mode.ARMED:
                self._check_episode()
            return self._status()

    def _observe(self, state: RobotState) -> None:
        previous = self._state
        self._state = state
        if previous is None or state.timestamp_ns == previous.timestamp_ns:
            return
        self._advanced_at_s = self._clock()
        if state.timestamp_ns < previous.timestamp_ns and self._mode is Mode.ARMED:
            self._enter(Mode.FAULTED, f"the robot's clock at {self._client.address} went back: it was restarted")
        elif self._mode is Mode.DISCONNECTED:
            self._enter(Mode.IDLE)

    def _lose(self, error: PolymetisError) -> None:
        """A call failed. A late answer alone is left to the state's age to judge."""
        if self._mode is Mode.ARMED:
            if error.code is not grpc.StatusCode.DEADLINE_EXCEEDED:
                self._enter(Mode.FAULTED, f"the robot's server was lost: {error}")
        elif self._mode is not Mode.FAULTED:
            self._enter(Mode.DISCONNECTED, str(error))
            self._advanced_at_s = None

    def _judge_age(self) -> None:
        if self._mode not in (Mode.IDLE, Mode.ARMED) or self._advanced_at_s is None:
            return
        age_s = self._clock() - self._advanced_at_s
        if age_s > self._settings.stale_after_s:
            reason = f"the robot's state at {self._client.address} has not advanced for {age_s:.1f} s"
            self._enter(Mode.FAULTED if self._mode is Mode.ARMED else Mode.DISCONNECTED, reason)

    def _check_episode(self) -> None:
        """Make sure that the controller which runs is the one that this session set."""
        if self._clock() - self._checked_at_s < _EPISODE_CHECK_PERIOD_S:
            return
        try:
            episode = self._client.episode()
        except PolymetisError as error:
            self._lose(error)
            return
        self._checked_at_s = self._clock()
        if episode == Interval(self._episode_start, NONE):
            return
        if episode.running:
            reason = f"another client has set its own controller at {self._client.address}"
        else:
            reason = f"the server at {self._client.address} ended the controller: the robot stopped, or was taken over"
        self._enter(Mode.FAULTED, reason)

    def arm(self) -> ArmStatus:
        """Upload the controller, which then holds the arm where it is. Does nothing when armed.

        A robot that is recovering from a stop is tried a few times; a server that is not there once.
        """
        with self._turn:
            if self._mode is Mode.ARMED:
                return self._status()
            problem, may_pass = self._try_arming()
            for _ in range(_ARM_ATTEMPTS - 1):
                if not may_pass:
                    break
                time.sleep(_ARM_RETRY_S)
                problem, may_pass = self._try_arming()
            if problem:
                self._enter(Mode.FAULTED, f"arming failed: {problem}")
            else:
                self._enter(Mode.ARMED)
            return self._status()

    def _try_arming(self) -> tuple[str, bool]:
        """Arm once: what is wrong, or nothing, and whether that may pass by itself."""
        try:
            problem = self._arm()
        except PolymetisError as error:
            return str(error), error.code is grpc.StatusCode.CANCELLED  # no control update for a second
        return problem, bool(problem) and self._episode_start == NONE

    def _arm(self) -> str:
        """Set the controller; what is wrong, or nothing."""
        metadata = self._client.metadata()
        if metadata.dof != panda.DOF:
            return f"the robot at {self._client.address} has {metadata.dof} joints, not {panda.DOF}"
        if not self._advances():
            return f"the robot's state at {self._client.address} does not advance"
        started = self._client.set_controller(self._controller)
        self._episode_start = started.start
        if started.start == NONE or self._client.episode() != Interval(started.start, NONE):
            return f"the controller at {self._client.address} did not stay in charge"
        self._checked_at_s = self._clock()
        self._begun, self._refusals, self._refused = None, 0, ""
        return ""

    def _advances(self) -> bool:
        """Read states until the timestamp advances, or the time for it is over.

        Beyond the newest that was read before: a simulated robot that waits for its clients goes on that far.
        """
        before_ns = (self._state or self._client.state()).timestamp_ns
        deadline_s = self._clock() + self._settings.stale_after_s
        while self._clock() < deadline_s:
            state = self._client.state()
            if state.timestamp_ns != before_ns:
                self._state, self._advanced_at_s = state, self._clock()
                return True
            time.sleep(_FRESH_POLL_S)
        return False

    def command(self, q_rad: ArrayLike) -> ArmStatus:
        """Move the set point to joints ``(7,)`` in rad; needs to be armed.

        Joints are kept out of the margin in which the robot pushes back. A target that is not finite, or whose
        fingertip is outside the robot's box, is refused: the controller then holds. The server's answer is not waited
        for, so that a slow one does not hold up the watch on the state: the next call has it, or ``settle``.
        """
        with self._turn:
            if self._mode is not Mode.ARMED:
                return self._status("not armed: the command was ignored")
            q = np.asarray(q_rad, dtype=np.float64)
            problem = check_target(q)
            if problem:
                return self._status(f"the command was refused: {problem}")
            self._check_episode()
            if self._mode is not Mode.ARMED:
                return self._status()
            self._end_command()
            if self._mode is Mode.ARMED:
                self._begun = self._client.begin_update(self._update.encode(clip_joints(q)))
            return self._status(self._refused)

    def settle(self) -> ArmStatus:
        """Wait until the server has answered the last command."""
        with self._turn:
            self._end_command()
            return self._status(self._refused)

    def _end_command(self) -> None:
        """Take the server's answer to the last command, if one has none yet."""
        begun, self._begun = self._begun, None
        if begun is None:
            return
        try:
            begun.result()
            self._refusals, self._refused = 0, ""
        except PolymetisError as error:
            self._refused = str(error)
            self._understand_refusal(error)

    def hold(self) -> ArmStatus:
        """Brake: move the set point to where the arm comes to rest soonest, not to where it was last told to go.

        When that cannot be told either, the controller's own watchdog ends the motion.
        """
        with self._turn:
            self._end_command()
            if self._mode is Mode.ARMED:
                try:
                    self._observe(self._client.state())
                    if self._state is not None:
                        ahead_rad = self._settings.impedance.brake_s * self._state.joint_velocities
                        self._client.update_controller(self._update.encode(self._state.joint_positions + ahead_rad))
                except PolymetisError as error:
                    self._understand_refusal(error)
            return self._status()

    def _understand_refusal(self, error: PolymetisError) -> None:
        """An update was not taken: because the controller has ended, or the connection, or because of its content."""
        if error.code is grpc.StatusCode.CANCELLED:
            self._refusals += 1
            self._checked_at_s = -np.inf
            self._check_episode()
            if self._refusals >= _MOST_REFUSALS and self._mode is Mode.ARMED:
                self._enter(Mode.FAULTED, f"the server refuses every update: {error}")
        else:
            self._lose(error)

    def disarm(self) -> ArmStatus:
        """End our controller if it still runs, and acknowledge a fault; the default controller holds the arm."""
        with self._turn:
            self._begun = None
            try:
                ours = Interval(self._episode_start, NONE)
                if ours.running and self._client.episode() == ours:
                    self._client.terminate_controller()
                self._enter(Mode.IDLE)
            except PolymetisError as error:
                self._enter(Mode.DISCONNECTED, str(error))
                self._advanced_at_s = None
            self._episode_start = NONE
            return self._status()


def check_target(q_rad: NDArray[np.float64]) -> str:
    """Say why joints must not become a target; empty for sound ones."""
    if q_rad.shape != (panda.DOF,):
        return f"it has shape {q_rad.shape}, not ({panda.DOF},)"
    if not np.all(np.isfinite(q_rad)):
        return f"{panda.JOINT_NAMES[int(np.argmin(np.isfinite(q_rad)))]} is not finite"
    position = panda.ee_pose(q_rad).position
    outside = np.flatnonzero((position < hardware.EE_LOWER_M) | (position > hardware.EE_UPPER_M))
    if outside.size:
        axis = int(outside[0])
        low, high = hardware.EE_LOWER_M[axis], hardware.EE_UPPER_M[axis]
        return f"fingertip {'xyz'[axis]} = {position[axis]:.3f} m is outside the robot's box, {low} to {high} m"
    return ""


def clip_joints(q_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep joints out of the margin before the hard limits, where the robot pushes back."""
    lower = hardware.JOINT_LOWER_RAD + hardware.JOINT_MARGIN_RAD
    return np.clip(q_rad, lower, hardware.JOINT_UPPER_RAD - hardware.JOINT_MARGIN_RAD)


@dataclass(frozen=True)
class GripperSettings:
    """How the gripper opens and closes: width and force of the paper's robot, at the speed that training knows."""

    open_width_m: float = 0.065
    speed_m_s: float = panda.GRIPPER_SPEED_M_S
    close_force_n: float = 70.0
    stale_after_s: float = 1.0
    """Longest wall time for which the gripper's timestamp may stand still."""
    longest_motion_s: float = 2.5
    """Time (of the gripper's clock) after which a motion is stuck: three times that of the whole way."""
    attempts: int = 2
    """How often opening is tried before the gripper is given up."""


@dataclass(frozen=True)
class GripperStatus:
    """Answer of every call of a gripper session."""

    connected: bool
    reason: str = ""
    """What is wrong; empty if all is well."""
    state: GripperState | None = None
    """Newest state that was read."""


class GripperSession:
    """The gripper: ``command`` says what is wanted, ``poll`` sends it as soon as the hand is free.

    The protocol has no stop, so a motion is let end before the next command goes out; the latest wish wins. Opening
    that the hand reports as failed is tried again, a few times; a motion that does not end is stuck.

    Args:
      client: the gripper's server.
      settings: see ``GripperSettings``.
      clock: steady time in seconds.
    """

    def __init__(
        self,
        client: GripperClient,
        settings: GripperSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._settings = settings or GripperSettings()
        self._clock = clock
        self._turn = threading.RLock()
        self._wish: bool | None = None
        self._sent: bool | None = None
        self._sent_at_ns = 0
        self._attempts = 0
        self._moving_since_ns: int | None = None
        self._state: GripperState | None = None
        self._advanced_at_s = clock()
        self._problem = f"not connected to {client.address} yet"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def command(self, close: bool) -> None:
        """Say that the gripper is to be closed (a grasp) or open; nothing is sent before the next ``poll``."""
        with self._turn:
            self._wish = close

    def release(self) -> None:
        """Forget what was wanted and sent: the next command goes out whatever it is."""
        with self._turn:
            self._wish = self._sent = None

    def poll(self) -> GripperStatus:
        """Read the state, and send what is wanted if that is new and the hand is free."""
        with self._turn:
            try:
                self._observe(self._client.state())
                if not self._problem and self._wish is not None and self._free():
                    self._carry_out(self._wish)
            except PolymetisError as error:
                self._problem = str(error)
            return GripperStatus(not self._problem, self._problem or self._stuck(), self._state)

    def _carry_out(self, wish: bool) -> None:
        """Send what is wanted if that is new, or if the hand failed to open; a grasp of nothing is not its fault."""
        if wish != self._sent:
            self._attempts = 0
        elif wish or self._opened or self._attempts >= self._settings.attempts:
            return
        self._attempts += 1
        self._send(wish)

    @property
    def _opened(self) -> bool:
        """Whether the last command succeeded, or the hand is open all the same: a part may press the fingers apart."""
        state, enough_m = self._state, self._settings.open_width_m - _OPEN_TOLERANCE_M
        return state is None or state.prev_command_successful or state.width_m >= enough_m

    def _stuck(self) -> str:
        """Why the hand is of no use although it answers, or nothing."""
        state = self._state
        if state is not None and state.is_moving:
            self._moving_since_ns = self._moving_since_ns or state.timestamp_ns
            moving_s = (state.timestamp_ns - self._moving_since_ns) * 1e-9
            too_long = moving_s > self._settings.longest_motion_s
            return f"stuck: it has been moving for {moving_s:.1f} s" if too_long else ""
        self._moving_since_ns = None
        given_up = self._sent is False and self._attempts >= self._settings.attempts and self._free()
        return "" if self._opened or not given_up else f"stuck: it did not open in {self._attempts} attempts"

    def _observe(self, state: GripperState) -> None:
        if state.timestamp_ns == 0:
            self._problem = f"the gripper's server at {self._client.address} has no gripper yet"
        elif self._state is None or state.timestamp_ns != self._state.timestamp_ns:
            self._advanced_at_s = self._clock()
            self._problem = ""
        elif self._clock() - self._advanced_at_s > self._settings.stale_after_s:
            age_s = self._clock() - self._advanced_at_s
            self._problem = f"the gripper's state at {self._client.address} has not advanced for {age_s:.1f} s"
        self._state = state

    def _free(self) -> bool:
        """Whether the last motion has ended, or never began."""
        state = self._state
        if state is None or state.is_moving:
            return False
        return self._sent is None or abs(state.timestamp_ns - self._sent_at_ns) > _GRIPPER_SETTLE_NS

    def _send(self, close: bool) -> None:
        if close:
            self._client.grasp(self._settings.speed_m_s, self._settings.close_force_n)
        else:
            self._client.goto(self._settings.open_width_m, self._settings.speed_m_s)
        self._sent = close
        self._sent_at_ns = self._state.timestamp_ns if self._state else 0
