"""A running graph to put faults into: its nodes as processes, its services, its statuses, and the arm's true motion.

For the fault matrix only; not a node of any graph.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from resip import topics
from resip.errors import ResipError
from resip.graph import NodeSpec
from resip.nodes import faulty_cell, messages, runtime
from resip.process import node_command, node_environment
from resip.safety.process import read
from resip.safety.supervisor import State

Array = NDArray[np.float64]

_PATIENCE_S: Final = 90.0
_WATCHED: Final = (topics.SAFETY_STATUS, topics.ROBOT_STATUS, topics.POLICY_STATUS, topics.IK_STATUS)
_SERVICES: Final = (topics.ARM, topics.STOP, topics.POLICY_START, topics.POLICY_STOP)
#: Of a graph with faults: the cell instead of the simulated one, and the SpaceMouse's node.
_MODULES: Final = {
    "sim_cell": "resip.nodes.faulty_cell",
    "spacemouse_node": "resip.nodes.faulty_spacemouse",
}


class RigError(ResipError):
    """A graph that did not come to where a fault could be put in."""


class Rig:
    """Life cycle: created with the graph running; ``close`` ends all of it.

    Args:
      nodes: the graph.
      folder: for the nodes' lines.
      environment: beside this process's own.
      file_limit_bytes: largest file that a node (by name) may write: a full disk.
    """

    def __init__(
        self,
        nodes: Sequence[NodeSpec],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        file_limit_bytes: Mapping[str, int] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._environment = {**node_environment(), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", **(environment or {})}
        self._file_limits = file_limit_bytes or {}
        self._context = rclpy.Context()
        self._context.init(args=[])
        self._node = Node("fault_rig", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.status: dict[str, dict[str, str]] = {topic: {} for topic in _WATCHED}
        self._motion: list[tuple[float, float, float, float]] = []
        self._began: list[tuple[str, float]] = []
        self._targets_s: list[float] = []
        self._frames_s: list[float] = []
        self._stopped_s = 0.0
        self._write_failed_s: float | None = None
        self._subscribe()
        self._clients = {service: self._node.create_client(Trigger, service) for service in _SERVICES}
        self._order = self._node.create_publisher(Header, faulty_cell.ORDER, 10)
        self._specs = {spec.name: _with_faults(spec) for spec in nodes}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in self._specs:
            self.start(name)

    def _subscribe(self) -> None:
        for topic in _WATCHED:
            self._node.create_subscription(DiagnosticArray, topic, self._on_status(topic), runtime.STATUS_QOS)
        self._node.create_subscription(PoseStamped, faulty_cell.MOTION, self._on_motion, runtime.CELL_QOS)
        self._node.create_subscription(PoseStamped, topics.TARGET_POSE, self._on_target, runtime.COMMAND_QOS)
        self._node.create_subscription(Header, faulty_cell.BEGAN, self._on_began, runtime.STATUS_QOS)
        self._node.create_subscription(Header, topics.RECORDER, self._on_recorder, 1)
        front = topics.camera_info(faulty_cell.CAMERA)
        self._node.create_subscription(CameraInfo, front, self._on_frame, runtime.CELL_QOS)

    def _on_status(self, topic: str) -> Callable[[DiagnosticArray], None]:
        def on_message(message: DiagnosticArray) -> None:
            """Keep the newest, and when the supervisor stopped."""
            before, self.status[topic] = self.status[topic], messages.diagnostic_values(message)
            if topic == topics.SAFETY_STATUS and self.stopped and before.get("state") != State.STOPPED.value:
                self._stopped_s = _seconds(message.header)

        return on_message

    def _on_motion(self, message: PoseStamped) -> None:
        p = message.pose.position
        self._motion.append((_seconds(message.header), p.x, p.y, p.z))

    def _on_target(self, message: PoseStamped) -> None:
        self._targets_s.append(_seconds(message.header))

    def _on_frame(self, message: CameraInfo) -> None:
        self._frames_s.append(_seconds(message.header))

    def _on_began(self, message: Header) -> None:
        self._began.append((message.frame_id, messages.stamp_ns(message.stamp) / messages.NS_PER_S))

    def _on_recorder(self, message: Header) -> None:
        well = message.frame_id == topics.CLOSED or read(message.frame_id, topics.RECORDING)[0]
        if self._write_failed_s is None and not well:
            self._write_failed_s = messages.stamp_ns(message.stamp) / messages.NS_PER_S

    # ---- processes ----

    def start(self, name: str, **parameters: Any) -> None:
        """Start a node of the graph, again or with other parameters."""
        spec = self._specs[name]
        spec = replace(spec, parameters={**spec.parameters, **parameters})
        limit = self._file_limits.get(name)

        def limit_files() -> None:
            """Bound the size of the files that the node writes."""
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        with self.log_path(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                node_command(spec),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=limit_files,
            )

    def kill(self, name: str) -> None:
        """End a node as a crash does."""
        os.killpg(self._processes[name].pid, signal.SIGKILL)
        self._processes[name].wait()

    def ended(self, name: str) -> int | None:
        """Exit status of a node; None while it runs."""
        return self._processes[name].poll()

    def log_path(self, name: str) -> Path:
        """What a node has said."""
        return self._folder / f"{name}.log"

    def log(self, name: str) -> str:
        """The same as text."""
        return self.log_path(name).read_text(errors="replace")

    def close(self) -> None:
        """End everything, who commands before who is commanded."""
        for number, patience_s in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            for process in reversed(self._processes.values()):
                if process.poll() is None:
                    os.killpg(process.pid, number)
            until_s = time.monotonic() + patience_s
            for process in self._processes.values():
                if process.poll() is None:
                    try:
                        process.wait(max(0.0, until_s - time.monotonic()))
                    except subprocess.TimeoutExpired:
                        continue
        self._node.destroy_node()
        self._context.try_shutdown()

    # ---- the graph ----

    def spin(self, duration_s: float = 0.02) -> None:
        """Let messages in."""
        until_s = time.monotonic() + duration_s
        while time.monotonic() < until_s:
            self._executor.spin_once(timeout_sec=0.01)

    def wait_for(self, condition: Callable[[], bool], what: str, patience_s: float = _PATIENCE_S) -> None:
        """Spin until a condition holds.

        Raises:
          RigError: it never did.
        """
        until_s = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > until_s:
                raise RigError(f"waited in vain for {what}: {self.status[topics.SAFETY_STATUS]}; see {self._folder}")
            self.spin()

    def call(self, service: str) -> Trigger.Response:
        """Call a service and wait for its answer."""
        client = self._clients[service]
        self.wait_for(client.service_is_ready, f"service {service}")
        future = client.call_async(Trigger.Request())
        self.wait_for(future.done, f"answer of {service}")
        answer = future.result()
        assert answer is not None
        return answer

    def ask(self, service: str) -> None:
        """Call a service that must not refuse.

        Raises:
          RigError: it did.
        """
        answer = self.call(service)
        if not answer.success:
            raise RigError(answer.message)

    def order(self, fault: str) -> float:
        """Have the cell put a fault in, or end it; the cell time at which it took effect."""
        self._began.clear()
        self.wait_for(lambda: self._order.get_subscription_count() > 0, "the cell")
        self._order.publish(Header(frame_id=fault))
        self.wait_for(lambda: bool(self._began), f"the fault: {fault}")
        return self._began[-1][1]

    def intrude(self, topic: str, kind: Any) -> Callable[[], None]:
        """Be a second publisher on a topic, one that is heard; call what is returned to end that."""
        publisher = self._node.create_publisher(kind, topic, runtime.COMMAND_QOS)
        while publisher.get_subscription_count() < 2:  # this rig's own, and the node's
            self.spin(0.001)

        def end() -> None:
            """Be gone."""
            self._node.destroy_publisher(publisher)

        return end

    # ---- the arm ----

    @property
    def now_s(self) -> float:
        """The cell's time, as newest told."""
        return self._motion[-1][0] if self._motion else 0.0

    @property
    def last_target_s(self) -> float:
        """Stamp of the newest target."""
        return self._targets_s[-1]

    @property
    def stopped(self) -> bool:
        """Whether the supervisor has stopped the arm."""
        return self.status[topics.SAFETY_STATUS].get("state") == State.STOPPED.value

    def last_frame_s(self, missing_s: float) -> float:
        """Stamp of the last frame before the newest stop, of a camera that sent none for so long before it."""
        return max(stamp_s for stamp_s in self._frames_s if stamp_s <= self._stopped_s - missing_s)

    @property
    def write_failed_s(self) -> float | None:
        """When the recorder told that it cannot write; None before."""
        return self._write_failed_s

    def motion(self, since_s: float) -> tuple[Array, Array]:
        """Times ``(n,)`` and fingertip positions ``(n, 3)`` from a cell time on."""
        samples = np.array([sample for sample in self._motion if sample[0] >= since_s])
        return samples[:, 0], samples[:, 1:]

    def speeds_m_s(self) -> Array:
        """Of the fingertip, over each of the last pieces of 50 ms, ``(10,)``."""
        samples = np.array(self._motion[-51::5])
        if len(samples) < 11:
            return np.zeros(10)
        return np.linalg.norm(np.diff(samples[:, 1:], axis=0), axis=1) / np.diff(samples[:, 0])

    def pass_time(self, duration_s: float) -> None:
        """Let time of the cell go by."""
        until_s = self.now_s + duration_s
        self.wait_for(lambda: self.now_s >= until_s, f"{duration_s} s of the cell's time")


def _with_faults(spec: NodeSpec) -> NodeSpec:
    return replace(spec, module=_MODULES.get(spec.name, spec.module))


def _seconds(header: Header) -> float:
    return messages.stamp_ns(header.stamp) / messages.NS_PER_S
