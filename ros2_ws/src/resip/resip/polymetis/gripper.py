"""The gripper's server, which only remembers, and what the hand on the robot's side does with its commands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

import grpc

from resip.polymetis.messages import GripperCommand, GripperMetadata, GripperState
from resip.polymetis.server import ServerError

HAND_HZ: Final = 30
_WIDTH_TOLERANCE_M: Final = 0.005  # a move that stopped farther from its width was blocked


class GripperServer:
    """A cache of the last command and the last state, as the real one; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metadata: GripperMetadata | None = None
        self._state = GripperState()
        self._command = GripperCommand(0)

    def init_robot_client(self, metadata: GripperMetadata) -> None:
        """Take a gripper client's metadata."""
        with self._lock:
            self._metadata = metadata

    def metadata(self) -> GripperMetadata:
        """The gripper client's metadata."""
        with self._lock:
            if self._metadata is None:
                raise ServerError(grpc.StatusCode.INTERNAL, "Failed to serialize response!")
            return self._metadata

    def state(self) -> GripperState:
        """The last state; all zeros before the first."""
        with self._lock:
            return self._state

    def goto(self, command: GripperCommand) -> None:
        """Remember a command. Never fails: the real client's worker would die of it."""
        with self._lock:
            self._command = command

    def control_update(self, state: GripperState) -> GripperCommand:
        """Remember the state, and give the gripper client the last command."""
        with self._lock:
            self._state = state
            return self._command


class Hand(Protocol):
    """A gripper that moves on its own once told to."""

    @property
    def gripper_width_m(self) -> float:
        """Present opening."""
        ...

    @property
    def gripper_moving(self) -> bool:
        """Whether the last command is still being carried out."""
        ...

    @property
    def gripper_grasped(self) -> bool:
        """Whether something is held."""
        ...

    def gripper_move(self, width_m: float, speed_m_s: float) -> None:
        """Start moving to a width."""
        ...

    def gripper_grasp(self, speed_m_s: float) -> None:
        """Start closing until something is held, with the hand's own force."""
        ...


class HandClient:
    """The robot-side client of a hand: polls the server, and carries one command out at a time.

    A command is new when its nanoseconds differ from those of the last one executed and are not zero. One that
    comes during a motion waits, and the latest wins.
    """

    def __init__(self, hand: Hand, exchange: Callable[[GripperState], GripperCommand]) -> None:
        self._hand = hand
        self._exchange = exchange
        self._executed = GripperCommand(0)
        self._busy = False
        self._is_stuck = False
        self._successful = True

    def stick(self, stuck: bool = True) -> None:
        """Let no motion end any more, as a jammed hand does, and one be under way; or free the hand."""
        self._is_stuck = stuck
        self._busy = self._busy or stuck

    def poll(self, time_ns: int) -> None:
        """Report the hand's state at ``time_ns`` and start the latest command if the hand is free."""
        if self._busy and not self._hand.gripper_moving and not self._is_stuck:
            self._busy = False
            self._successful = self._succeeded()
        command = self._exchange(self._state(time_ns))
        nanos = command.timestamp_ns % 1_000_000_000
        is_new = nanos not in (0, self._executed.timestamp_ns % 1_000_000_000)
        if is_new and not self._busy:
            self._start(command)

    def _start(self, command: GripperCommand) -> None:
        self._executed, self._busy = command, True
        if command.grasp:
            self._hand.gripper_grasp(command.speed_m_s)
        else:
            self._hand.gripper_move(command.width_m, command.speed_m_s)

    def _succeeded(self) -> bool:
        if self._executed.grasp:
            return self._hand.gripper_grasped
        return abs(self._hand.gripper_width_m - self._executed.width_m) < _WIDTH_TOLERANCE_M

    def _state(self, time_ns: int) -> GripperState:
        return GripperState(
            timestamp_ns=time_ns,
            width_m=self._hand.gripper_width_m,
            is_grasped=self._hand.gripper_grasped,
            is_moving=self._busy,
            prev_command_successful=self._successful,
        )
