"""Clients of the arm's and the gripper's server: one method a remote call, a deadline on every one."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import grpc
import numpy as np
from numpy.typing import NDArray

from resip.errors import ResipError
from resip.polymetis import messages, wire

ARM_PORT: Final = 50051
GRIPPER_PORT: Final = 50052
DEFAULT_DEADLINE_S: Final = 1.0
SET_CONTROLLER_DEADLINE_S: Final = 5.0  # the server warms the module up and waits for the next control update

_CHANNEL_OPTIONS: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # the robot is on the local network, whatever the environment says
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),  # a new client never inherits another's broken connection
]


class PolymetisError(ResipError):
    """A remote call failed: ``address``, ``method``, ``code`` and the server's ``text`` say where and why."""

    def __init__(self, address: str, method: str, code: grpc.StatusCode, text: str) -> None:
        self.address, self.method, self.code, self.text = address, method, code, text
        remedy = {
            grpc.StatusCode.UNAVAILABLE: "; is the server running there?",
            grpc.StatusCode.DEADLINE_EXCEEDED: "; is a robot client connected to the server?",
        }.get(code, "")
        super().__init__(f"Polymetis server {address}: {method} failed, {code.name}: {text}{remedy}")


class _Client:
    """A channel to one service, with its methods as callables."""

    def __init__(self, service: str, host: str, port: int, deadline_s: float) -> None:
        self.address = f"{host}:{port}"
        self._deadline_s = deadline_s
        self._channel = grpc.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        self._calls = {name: self._stub(service, name, method) for name, method in wire.METHODS[service].items()}

    def _stub(self, service: str, name: str, method: wire.Method) -> Any:
        # A stream of one message is, on the wire, a plain request, and costs less than half of the client's time:
        # archives are far below the limit of 4 MiB a message, so they are sent as one chunk.
        make = self._channel.unary_stream if method.streams_response else self._channel.unary_unary
        return make(
            wire.method_path(service, name),
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )

    def _call(self, name: str, request: Any, deadline_s: float | None = None) -> Any:
        """Call a method; a streamed answer comes back as a list.

        Raises:
          PolymetisError: the server refused, failed, or did not answer in time.
        """
        try:
            answer = self._calls[name](request, timeout=deadline_s or self._deadline_s)
            return list(answer) if hasattr(answer, "__next__") else answer
        except grpc.RpcError as error:
            raise PolymetisError(self.address, name, error.code(), error.details() or "") from error

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class ArmClient(_Client):
    """The arm's server. Every method raises ``PolymetisError`` when the call fails."""

    def __init__(self, host: str = "127.0.0.1", port: int = ARM_PORT, deadline_s: float = DEFAULT_DEADLINE_S) -> None:
        super().__init__(wire.ARM_SERVICE, host, port, deadline_s)
        self._updates = ThreadPoolExecutor(max_workers=1)

    def close(self) -> None:
        """Close the channel; an update that has no answer yet is given up."""
        self._updates.shutdown(wait=False, cancel_futures=True)
        super().close()

    def state(self) -> messages.RobotState:
        """The newest state the server has logged: possibly old, so look at its timestamp."""
        return messages.robot_state_from_wire(self._call("GetRobotState", wire.Empty()))

    def state_log(self, interval: messages.Interval) -> list[messages.RobotState]:
        """Logged states of an interval, both ends inclusive; an end of -1 means up to the newest."""
        answer = self._call("GetRobotStateLog", messages.interval_to_wire(interval))
        return [messages.robot_state_from_wire(message) for message in answer]

    def metadata(self) -> messages.RobotMetadata:
        """The robot client's metadata; fails unless a control update came within the last second."""
        return messages.metadata_from_wire(self._call("GetRobotClientMetadata", wire.Empty()))

    def episode(self) -> messages.Interval:
        """Interval of the present or last controller."""
        return messages.interval_from_wire(self._call("GetEpisodeInterval", wire.Empty()))

    def set_controller(self, archive: bytes) -> messages.Interval:
        """Upload a TorchScript controller and wait until it has started.

        Kills or wedges a real server that has no live robot client: ``ArmSession.arm`` checks first.
        """
        deadline_s = max(self._deadline_s, SET_CONTROLLER_DEADLINE_S)
        return messages.interval_from_wire(self._call("SetController", wire.archive_message(archive), deadline_s))

    def update_controller(self, archive: bytes) -> messages.Interval:
        """Hand parameters to the running controller.

        Kills a real server on which no controller was ever set: ``ArmSession.command`` checks first.
        """
        return messages.interval_from_wire(self._call("UpdateController", wire.archive_message(archive)))

    def begin_update(self, archive: bytes) -> Future[messages.Interval]:
        """Call ``update_controller`` without waiting: the future has its answer, or its error.

        In a thread that stays: gRPC's own futures start one for each call, which doubles what a call costs.
        """
        return self._updates.submit(self.update_controller, archive)

    def terminate_controller(self) -> messages.Interval:
        """End the running controller; the default controller holds the arm where it is."""
        return messages.interval_from_wire(self._call("TerminateController", wire.Empty()))

    def init_robot_client(self, metadata: messages.RobotMetadata) -> None:
        """Present a robot to the server, as a robot client does."""
        self._call("InitRobotClient", messages.metadata_to_wire(metadata))

    def control_update(self, state: messages.RobotState) -> NDArray[np.float64]:
        """Send a state as a robot client does, and get the torques ``(dof,)`` in Nm to apply."""
        answer = self._call("ControlUpdate", messages.robot_state_to_wire(state))
        return np.array(answer.joint_torques, dtype=np.float64)


class GripperClient(_Client):
    """The gripper's server. Every method raises ``PolymetisError`` when the call fails."""

    def __init__(
        self, host: str = "127.0.0.1", port: int = GRIPPER_PORT, deadline_s: float = DEFAULT_DEADLINE_S
    ) -> None:
        super().__init__(wire.GRIPPER_SERVICE, host, port, deadline_s)
        self._last_command_ns = 0

    def state(self) -> messages.GripperState:
        """The newest state the server has: possibly old, and all zeros before the first."""
        return messages.gripper_state_from_wire(self._call("GetState", wire.Empty()))

    def metadata(self) -> messages.GripperMetadata:
        """The gripper's metadata."""
        return messages.gripper_metadata_from_wire(self._call("GetRobotClientMetadata", wire.Empty()))

    def goto(self, width_m: float, speed_m_s: float) -> None:
        """Open or close to a width. Returns at once; ``state().is_moving`` tells when it is done."""
        self._send(messages.GripperCommand(self._fresh_ns(), width_m=width_m, speed_m_s=speed_m_s))

    def grasp(self, speed_m_s: float, force_n: float) -> None:
        """Close until ``force_n`` is felt, whatever the object's width. Returns at once."""
        command = messages.GripperCommand(self._fresh_ns(), speed_m_s=speed_m_s, force_n=force_n, grasp=True)
        self._send(command)

    def _send(self, command: messages.GripperCommand) -> None:
        self._call("Goto", messages.gripper_command_to_wire(command))

    def _fresh_ns(self) -> int:
        """A timestamp whose nanoseconds are not zero and not the last command's: else the hand ignores it."""
        now_ns = time.time_ns()
        while now_ns % 1_000_000_000 in (0, self._last_command_ns % 1_000_000_000):
            now_ns += 1
        self._last_command_ns = now_ns
        return now_ns
