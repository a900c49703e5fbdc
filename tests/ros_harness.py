"""What tests of nodes and graphs share: a domain of their own, an observer, processes that surely end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from resip import topics
from resip.control import panda
from resip.nodes import messages, runtime
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

#: Generous, for machines that do several things at once; conditions are met long before.
PATIENCE_S = 60.0
#: Of the policy, and of the clock in `Surroundings`.
TICK_NS, STEP_NS = 100_000_000, 10_000_000


def own_domain() -> int:
    """ROS domain of this test process: those of other workers do not meet it."""
    return 10 + os.getpid() % 90


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Program:
    """A process under test, with its output in a file; killed with all its children when the test is over."""

    def __init__(self, command, log_path, **environment):
        self.log_path = log_path
        with log_path.open("w") as log:
            self.popen = subprocess.Popen(
                [sys.executable, *command],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "ROS_DOMAIN_ID": str(own_domain()), "PYTHONUNBUFFERED": "1", **environment},
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """Everything said so far."""
        return self.log_path.read_text()

    def end(self, number=signal.SIGINT, patience_s=PATIENCE_S) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.popen.send_signal(number)
        return self.popen.wait(patience_s)

    def kill(self) -> None:
        """Leave nothing behind, whatever the test did."""
        for pid in [self.popen.pid, *children(self.popen.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait()


def node(name, log_path, **parameters) -> Program:
    """Start a node of the package with parameters."""
    options = [part for key, value in parameters.items() for part in ("-p", f"{key}:={_text(value)}")]
    return Program(["-m", f"resip.nodes.{name}", "--ros-args", *options], log_path)


def _text(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def children(pid) -> list[int]:
    """Ids of a process's children that have not ended."""
    done = subprocess.run(["ps", "-o", "pid=,stat=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in done.stdout.splitlines() if not line.split()[1].startswith("Z")]


def alive(pids) -> list[int]:
    """Those of the processes that run."""
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}") and _state(pid) != "Z"]


def _state(pid) -> str:
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]
    return "Z"


class Observer:
    """A node in the test's process that sees the graph and calls its services."""

    def __init__(self, name="observer"):
        self.context = rclpy.Context()
        self.context.init(args=[], domain_id=own_domain())
        self.node = Node(name, context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.status = {}
        self.told = {}
        self.told_ns = {}
        self.newest = {}
        self.seen = {}

    def close(self):
        """Leave the graph."""
        self.node.destroy_node()
        self.context.try_shutdown()

    def watch(self, *status_topics):
        """Keep the values of diagnostic topics: all in ``told``, the newest in ``status``, its stamp in ``told_ns``."""
        for topic in status_topics:
            self.status[topic], self.told[topic], self.told_ns[topic] = {}, [], -1
            self.node.create_subscription(DiagnosticArray, topic, self._keep_status(topic), runtime.STATUS_QOS)

    def hear(self, topic, kind):
        """Keep every message of a topic in ``seen`` and the newest one in ``newest``."""
        self.seen[topic] = []

        def on_message(message):
            self.newest[topic] = message
            self.seen[topic].append(message)

        self.node.create_subscription(kind, topic, on_message, runtime.SENSOR_QOS)

    def _keep_status(self, topic):
        def on_message(message):
            self.status[topic] = messages.diagnostic_values(message)
            self.told[topic].append(self.status[topic])
            self.told_ns[topic] = messages.stamp_ns(message.header.stamp)

        return on_message

    def spin(self, duration_s=0.02):
        """Let messages in."""
        until_s = time.monotonic() + duration_s
        while time.monotonic() < until_s:
            self._executor.spin_once(timeout_sec=0.01)

    def wait_for(self, condition, what, patience_s=PATIENCE_S):
        """Spin until a condition holds."""
        until_s = time.monotonic() + patience_s
        while not condition():
            assert time.monotonic() < until_s, f"waited in vain for: {what}; last status {self.status}"
            self.spin()

    def wait_for_status(self, topic, patience_s=PATIENCE_S, **wanted):
        """Spin until a status has the wanted values."""
        self.wait_for(
            lambda: all(self.status[topic].get(key) == value for key, value in wanted.items()),
            f"{topic} {wanted}",
            patience_s,
        )

    def call(self, service) -> Trigger.Response:
        """Call a service and wait for its answer."""
        return self._ask(Trigger, service, Trigger.Request())

    def set_parameter(self, node, name, number) -> None:
        """Set a whole-numbered parameter of another node."""
        value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=number)
        request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
        (result,) = self._ask(SetParameters, f"{node}/set_parameters", request).results
        assert result.successful, result.reason

    def _ask(self, kind, service, request):
        client = self.node.create_client(kind, service)
        self.wait_for(client.service_is_ready, f"service {service}")
        future = client.call_async(request)
        self.wait_for(future.done, f"answer of {service}")
        self.node.destroy_client(client)
        return future.result()


class Surroundings(Observer):
    """A robot at rest on a clock that the test turns, and what a source of targets says to it."""

    def __init__(self):
        super().__init__()
        self.watch(topics.POLICY_STATUS)
        self.hear(topics.TARGET_POSE, PoseStamped)
        self.hear(topics.TARGET_GRIPPER, JointState)
        self._clock = self.node.create_publisher(Clock, topics.CLOCK, runtime.CELL_QOS)
        self._joints = self.node.create_publisher(JointState, topics.JOINT_STATES, runtime.SENSOR_QOS)
        self.time_ns = 0
        self.robot_is_there = True

    def say(self):
        """What else is there to hear at each step of the clock; of the kinds of surroundings."""

    def joints(self):
        """The robot's state now."""
        names, q = (*panda.JOINT_NAMES, *panda.FINGER_NAMES), np.append(panda.RESET_RAD, [0.03, 0.03])
        return messages.joint_state(names, q, self.time_ns, np.zeros(9), np.zeros(9))

    def pass_time(self, ticks=1):
        """Let ticks of 0.1 s go by; a source that has begun to report its ticks is waited for at each."""
        for _ in range(ticks * TICK_NS // STEP_NS):
            self.time_ns += STEP_NS
            self.say()
            if self.robot_is_there:
                self._joints.publish(self.joints())
            self._clock.publish(Clock(clock=messages.time_msg(self.time_ns)))
            self.spin(0.003)
            if self.time_ns % TICK_NS == 0 and self.told[topics.POLICY_STATUS]:
                self.wait_for(self._reported, f"the tick at {self.time_ns} ns")

    def _reported(self):
        return self.told_ns[topics.POLICY_STATUS] >= self.time_ns

    def pass_time_until(self, **wanted):
        """Let time go by until the source's status has the wanted values."""

        def as_wanted():
            self.pass_time()
            return all(self.status[topics.POLICY_STATUS].get(key) == value for key, value in wanted.items())

        self.wait_for(as_wanted, f"status {wanted}")

    @property
    def reason(self):
        """Why the source does what it does."""
        return self.status[topics.POLICY_STATUS]["reason"]

    def silent(self):
        """Whether no target comes for three ticks."""
        self.spin(0.1)
        count = len(self.seen[topics.TARGET_POSE])
        self.pass_time(3)
        self.spin(0.1)
        return len(self.seen[topics.TARGET_POSE]) == count
