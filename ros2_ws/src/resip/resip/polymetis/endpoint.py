"""The gRPC side of the servers: generic handlers, no generated code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, Final

import grpc

from resip.errors import ResipError
from resip.polymetis import messages, wire
from resip.polymetis.gripper import GripperServer
from resip.polymetis.server import ControllerServer, ServerError

_WORKERS: Final = 8  # a waiting SetController, a stream or two, and the short calls
_STOP_GRACE_S: Final = 0.2
_OPTIONS: Final = [("grpc.so_reuseport", 0)]  # a port that is taken is an error, not a second server behind it


def _until_gone(context: grpc.ServicerContext, release: Callable[[threading.Event], None]) -> threading.Event:
    """Event that is set, and its waiter woken, when the caller has gone or its deadline has passed."""
    given_up = threading.Event()
    if not context.add_callback(lambda: release(given_up)):
        release(given_up)
    return given_up


def _arm_methods(server: ControllerServer) -> dict[str, Callable[[Any, grpc.ServicerContext], Any]]:
    to_interval = messages.interval_to_wire

    def set_controller(chunks: Any, context: grpc.ServicerContext) -> Any:
        given_up = _until_gone(context, server.release)
        return to_interval(server.set_controller(wire.join_chunks(chunks), given_up))

    def update_controller(chunks: Any, context: grpc.ServicerContext) -> Any:
        return to_interval(server.update_controller(wire.join_chunks(chunks)))

    def terminate_controller(request: Any, context: grpc.ServicerContext) -> Any:
        return to_interval(server.terminate_controller(_until_gone(context, server.release)))

    def state_stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        given_up = _until_gone(context, server.release)
        return map(messages.robot_state_to_wire, server.state_stream(given_up))

    def state_log(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        return map(messages.robot_state_to_wire, server.state_log(messages.interval_from_wire(request)))

    def init_robot_client(request: Any, context: grpc.ServicerContext) -> Any:
        server.init_robot_client(messages.metadata_from_wire(request))
        return wire.Empty()

    def control_update(request: Any, context: grpc.ServicerContext) -> Any:
        torques = server.control_update(messages.robot_state_from_wire(request))
        return wire.TorqueCommand(timestamp=request.timestamp, joint_torques=torques)

    return {
        "SetController": set_controller,
        "UpdateController": update_controller,
        "TerminateController": terminate_controller,
        "GetRobotState": lambda request, context: messages.robot_state_to_wire(server.state()),
        "GetRobotStateStream": state_stream,
        "GetRobotStateLog": state_log,
        "GetEpisodeInterval": lambda request, context: to_interval(server.episode()),
        "GetRobotClientMetadata": lambda request, context: messages.metadata_to_wire(server.metadata()),
        "InitRobotClient": init_robot_client,
        "ControlUpdate": control_update,
    }


def _gripper_methods(server: GripperServer) -> dict[str, Callable[[Any, grpc.ServicerContext], Any]]:
    def init_robot_client(request: Any, context: grpc.ServicerContext) -> Any:
        server.init_robot_client(messages.gripper_metadata_from_wire(request))
        return wire.Empty()

    def goto(request: Any, context: grpc.ServicerContext) -> Any:
        server.goto(messages.gripper_command_from_wire(request))
        return wire.Empty()

    def control_update(request: Any, context: grpc.ServicerContext) -> Any:
        command = server.control_update(messages.gripper_state_from_wire(request))
        return messages.gripper_command_to_wire(command)

    return {
        "InitRobotClient": init_robot_client,
        "GetRobotClientMetadata": lambda request, context: messages.gripper_metadata_to_wire(server.metadata()),
        "GetState": lambda request, context: messages.gripper_state_to_wire(server.state()),
        "Goto": goto,
        "ControlUpdate": control_update,
    }


def _refusing(function: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    """Turn a ``ServerError`` into the call's status."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        """Do what the function does, or end the call with its status."""
        try:
            return function(request, context)
        except ServerError as error:
            context.abort(error.code, error.text)

    return answer


def _handler(method: wire.Method, function: Callable[[Any, grpc.ServicerContext], Any]) -> grpc.RpcMethodHandler:
    kind = f"{'stream' if method.streams_request else 'unary'}_{'stream' if method.streams_response else 'unary'}"
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(
        _refusing(function),
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )


class Endpoint:
    """Serves an arm's or a gripper's server on a local port.

    Args:
      server: what answers the calls.
      port: 0 picks a free one.
      host: address to listen on.

    Raises:
      ResipError: the port is taken.
    """

    def __init__(self, server: ControllerServer | GripperServer, port: int = 0, host: str = "127.0.0.1") -> None:
        if isinstance(server, ControllerServer):
            service, functions = wire.ARM_SERVICE, _arm_methods(server)
        else:
            service, functions = wire.GRIPPER_SERVICE, _gripper_methods(server)
        handlers = {name: _handler(method, functions[name]) for name, method in wire.METHODS[service].items()}
        self._grpc = grpc.server(futures.ThreadPoolExecutor(_WORKERS, f"{service}-rpc"), options=_OPTIONS)
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        try:
            self.port = self._grpc.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise ResipError(f"cannot listen on {host}:{port}: is another server running there?") from error

    def start(self) -> None:
        """Answer calls from now on, in threads."""
        self._grpc.start()

    def stop(self) -> None:
        """Cut running calls off and free the port."""
        self._grpc.stop(_STOP_GRACE_S).wait()
