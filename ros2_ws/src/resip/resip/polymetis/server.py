"""The arm server's state machine: status, log, episode markers, and the real server's codes and texts.

Time is whatever ``clock`` says (the cell's time in simulation), so nothing depends on how fast the machine
is. Where the real server crashes, or blocks until somebody restarts it, this one refuses with
FAILED_PRECONDITION and counts a protocol violation: a client that causes one would have stopped a robot.
"""

from __future__ import annotations

import copy
import enum
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc
import numpy as np
import torch
from numpy.typing import NDArray

from resip.errors import ResipError
from resip.polymetis import archives
from resip.polymetis.messages import NONE, Interval, RobotMetadata, RobotState
from resip.polymetis.statelog import StateLog

STALE_AFTER_S: Final = 1.0  # a longer gap between control updates ends the controller
WARM_UP_STEPS: Final = 5
_CONTROLLER_INPUTS: Final = (
    "joint_positions",
    "joint_velocities",
    "motor_torques_measured",
    "motor_torques_external",
)
_CANCELLED: Final = grpc.StatusCode.CANCELLED


class ServerError(ResipError):
    """A refused call: the gRPC status code and the text that the client gets."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(f"{code.name}: {text}")


class Status(enum.Enum):
    """Life of an uploaded controller."""

    UNINITIALIZED = enum.auto()
    READY = enum.auto()
    RUNNING = enum.auto()
    TERMINATING = enum.auto()
    TERMINATED = enum.auto()


class ControllerServer:
    """Runs the default controller, or the uploaded one, at every control update.

    Threads: ``control_update`` belongs to the robot client's loop; every other method may be called from any
    thread. ``set_controller`` and ``terminate_controller`` wait for the next control update.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, log_capacity: int = 300_000) -> None:
        self._clock = clock
        self._changed = threading.Condition()  # guards everything below
        self._calls = threading.Lock()  # set, update and terminate come one at a time
        self._status = Status.UNINITIALIZED
        self._episode = Interval()
        self._log = StateLog(log_capacity)
        self._metadata: RobotMetadata | None = None
        self._default: Any = None
        self._custom: Any = None
        self._is_terminated: Callable[[], bool] | None = None
        self._stamp = np.zeros(2, np.int32)
        self._inputs: dict[str, NDArray[np.float32]] = {}
        self._state_tensors: dict[str, torch.Tensor] = {}  # over the memory of the two above
        self._last_update_s: float | None = None
        self._violations = 0

    @property
    def protocol_violations(self) -> int:
        """Number of calls that would have crashed or wedged the real server."""
        return self._violations

    @property
    def status(self) -> Status:
        """Where the uploaded controller is in its life."""
        return self._status

    def _violation(self, text: str) -> ServerError:
        with self._changed:
            self._violations += 1
        return ServerError(grpc.StatusCode.FAILED_PRECONDITION, f"protocol violation: {text}")

    # Robot client

    def init_robot_client(self, metadata: RobotMetadata) -> None:
        """Take a robot client's metadata and its default controller."""
        try:
            default = archives.load(metadata.default_controller)
        except RuntimeError as error:
            raise ServerError(_CANCELLED, f"Failed to load default controller: {error}") from error
        arrays = {name: np.zeros(metadata.dof, np.float32) for name in _CONTROLLER_INPUTS}
        with self._changed:
            self._metadata, self._default = metadata, default
            self._stamp, self._inputs = np.zeros(2, np.int32), arrays
            self._state_tensors = {"timestamp": torch.from_numpy(self._stamp)}
            self._state_tensors |= {name: torch.from_numpy(array) for name, array in arrays.items()}
            self._last_update_s = self._clock()

    def control_update(self, state: RobotState) -> NDArray[np.float64]:
        """Step the controller in charge and log the state.

        Returns:
          Torques ``(dof,)`` in Nm, without gravity.

        Raises:
          ServerError: the controller failed; the state is not logged and the stale rule's clock runs on.
        """
        with self._changed:
            if self._metadata is None:
                raise self._violation("ControlUpdate before InitRobotClient")
            now_s = self._clock()
            if self._last_update_s is not None and now_s - self._last_update_s > STALE_AFTER_S:
                self._end_episode()
            self._begin_step()
            torques = self._step(state)
            self._note_end()
            self._log.append(state, torques)
            self._last_update_s = now_s
            self._changed.notify_all()
            return torques

    def _begin_step(self) -> None:
        if self._status is Status.READY:
            self._status, self._episode = Status.RUNNING, Interval(start=self._log.end)
            self._changed.notify_all()
        elif self._status is Status.TERMINATING:
            self._end_episode()

    def _end_episode(self) -> None:
        """The default controller takes over where the arm is."""
        if self._status in (Status.READY, Status.RUNNING, Status.TERMINATING):
            if self._episode.running:
                self._episode = Interval(self._episode.start, self._log.end - 1)
            self._status = Status.TERMINATED
            self._default.reset()
            self._changed.notify_all()

    def _step(self, state: RobotState) -> NDArray[np.float64]:
        """Run the controller in charge on ``state``."""
        self._stamp[:] = divmod(state.timestamp_ns, 1_000_000_000)
        for name, array in self._inputs.items():
            values = getattr(state, name)
            if len(values):
                array[:] = values
        controller = self._custom if self._status is Status.RUNNING else self._default
        try:
            with torch.no_grad():
                torques = controller.forward(self._state_tensors)["joint_torques"]
        except (torch.jit.Error, RuntimeError, KeyError) as error:
            raise ServerError(_CANCELLED, f"Failed to run controller forward function: {error}") from error
        return torques.numpy().astype(np.float64)

    def _note_end(self) -> None:
        if self._status is not Status.RUNNING:
            return
        if self._is_terminated is None:
            raise ServerError(grpc.StatusCode.UNKNOWN, "Unexpected error in RPC handling")
        if self._is_terminated():
            self._status = Status.TERMINATING

    def interrupt(self) -> None:
        """End the running controller as a stop of the robot does; the default controller holds the arm where it is now.

        The arm may have been put elsewhere since the last control update.
        """
        with self._changed:
            self._end_episode()
            if self._default is not None:
                self._default.reset()

    # User client

    def set_controller(self, archive: bytes, given_up: threading.Event | None = None) -> Interval:
        """Swap in a controller and wait until the next control update has started it.

        Args:
          archive: the TorchScript module.
          given_up: set by ``release`` when the caller no longer waits.

        Returns:
          The new episode; ``(-1, -1)`` if the stale rule discarded the controller before it ran.
        """
        with self._calls:
            self._require_live_robot("SetController")
            controller = self._load_controller(archive)
            with self._changed:
                self._custom = controller
                self._is_terminated = getattr(controller, "is_terminated", None)  # slow to look up at every step
                self._status, self._episode = Status.READY, Interval()
                started = self._wait_until(lambda: self._status is not Status.READY, given_up)
                if not started:
                    raise self._violation("SetController while no ControlUpdate arrives")
                return Interval(self._episode.start, NONE)

    def _require_live_robot(self, method: str) -> None:
        if self._metadata is None:
            raise self._violation(f"{method} before InitRobotClient")
        if not self._robot_is_live():
            raise self._violation(f"{method} while no ControlUpdate arrives")

    def _robot_is_live(self) -> bool:
        return self._last_update_s is not None and self._clock() - self._last_update_s <= STALE_AFTER_S

    def _load_controller(self, archive: bytes) -> Any:
        """Load a controller and try it on the present state, with a copy so that it does not notice."""
        try:
            controller = archives.load(archive)
            rehearsal = copy.deepcopy(controller)
            with self._changed:
                state = {name: tensor.clone() for name, tensor in self._state_tensors.items()}
            with torch.no_grad():
                counts = [rehearsal(state)["joint_torques"].numel() for _ in range(WARM_UP_STEPS)]
            dof = len(state["joint_positions"])
            if min(counts) < dof:
                raise ValueError(f"joint_torques has {min(counts)} elements, the robot has {dof} joints")
        except (torch.jit.Error, RuntimeError, KeyError, ValueError) as error:
            raise ServerError(_CANCELLED, f"Failed to load new controller: {error}") from error
        return controller

    def _wait_until(self, done: Callable[[], bool], given_up: threading.Event | None) -> bool:
        """Wait (holding ``_changed``) until ``done``; false if the caller gave up before."""
        self._changed.wait_for(lambda: done() or (given_up is not None and given_up.is_set()))
        return done()

    def release(self, given_up: threading.Event) -> None:
        """Set ``given_up`` and wake whoever waits on its behalf."""
        given_up.set()
        with self._changed:
            self._changed.notify_all()

    def update_controller(self, archive: bytes) -> Interval:
        """Hand new parameters to the running controller; the interval starts at the next log index."""
        with self._calls:
            try:
                parameters = archives.parameters(archive)
            except (torch.jit.Error, RuntimeError) as error:
                raise ServerError(_CANCELLED, "Failed to load new controller params.") from error
            with self._changed:
                if self._custom is None:
                    raise self._violation("UpdateController before any SetController")
                if self._status is not Status.RUNNING:
                    raise ServerError(_CANCELLED, "Tried to perform a controller update with no controller running.")
                try:
                    self._custom.update(parameters)
                except (torch.jit.Error, RuntimeError, AttributeError) as error:
                    raise ServerError(_CANCELLED, f"Failed to update controller: {error}") from error
                return Interval(self._log.end, NONE)

    def terminate_controller(self, given_up: threading.Event | None = None) -> Interval:
        """End the running controller and wait until the next control update has ended it."""
        with self._calls, self._changed:
            if self._status is not Status.RUNNING:
                raise ServerError(_CANCELLED, "Tried to terminate controller with no controller running.")
            self._status = Status.TERMINATING
            self._wait_until(lambda: self._status is Status.TERMINATED, given_up)
            return self._episode

    def state(self) -> RobotState:
        """The newest logged state, however old."""
        with self._changed:
            if not self._log.end:
                text = "Cannot retrieve robot state from empty buffer!"
                raise ServerError(grpc.StatusCode.FAILED_PRECONDITION, text)
            return self._log[self._log.end - 1]

    def state_log(self, interval: Interval) -> list[RobotState]:
        """Logged states of an interval, both ends inclusive; states no longer or not yet logged are skipped."""
        with self._changed:
            if interval.start == NONE:
                return []
            end = self._log.end - 1 if interval.end == NONE else interval.end
            return self._log.between(interval.start, end)

    def state_stream(self, given_up: threading.Event) -> Iterator[RobotState]:
        """Every state from now on, until ``given_up``."""
        cursor = self._log.end
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._log.end > cursor or given_up.is_set())  # noqa: B023
                backlog = self._log.between(cursor, self._log.end - 1)
                cursor = self._log.end
            if given_up.is_set():
                return
            yield from backlog

    def episode(self) -> Interval:
        """Interval of the present or last controller."""
        with self._changed:
            return self._episode

    def metadata(self) -> RobotMetadata:
        """The robot client's metadata, while control updates come."""
        with self._changed:
            if self._metadata is None or not self._robot_is_live():
                raise ServerError(_CANCELLED, "Robot context not valid when calling GetRobotClientMetadata!")
            return self._metadata
