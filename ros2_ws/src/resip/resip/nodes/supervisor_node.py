"""Gives the bridge permission to move, fifty times a second, and takes it away for any reason there is.

It watches each input of the graph by its stamps (``ok``, ``late``, ``missing``, ``dead``), every node's own errors, and
who publishes commands. While armed, one problem stops the arm and latches: the policy is stopped too, and nothing moves
before ``/safety/arm``, whatever becomes of the cause. Arming checks cameras, robot, policy, limits and versions and
answers with what it found. A bridge that does not hear the permission holds: killing this node is a stop.

It is a software stop, not safety rated.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final, cast

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.client import Client
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.qos import QoSProfile
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger

import resip
from resip import cdr, real_time, spaces, topics
from resip.control.limits import digest
from resip.nodes import messages, runtime
from resip.safety.process import Watch, read, signed
from resip.safety.sources import Bounds, Health, Source
from resip.safety.supervisor import State, Supervisor

_WATCH_PERIOD_S: Final = 0.01
PERMIT_PERIOD_S: Final = 0.02
_PERMIT_PERIOD_NS: Final = round(PERMIT_PERIOD_S * messages.NS_PER_S)
_STATUS_PERMITS: Final = 5  # permits to one status
_LOOK_PERIOD_S: Final = 0.1
#: Time in which a stopped arm comes to rest, and longest wait (wall time) for that: the simulated cell stands still for
#: two seconds when commands have ended.
_REST_S: Final = 0.3
_REST_PATIENCE_S: Final = 5.0

#: Silences (s) at which inputs are late, and at which the arm stops. A bridge that tells no state sends no commands
#: either, so the arm holds by itself after the 0.05 s of its controller's watchdog: this latches it.
_STATE_BOUNDS: Final = Bounds(0.05, 0.2)
#: Of the nodes whose silence holds the arm by itself: this only latches it.
_NODE_BOUNDS: Final = Bounds(0.3, 1.0)
_CAMERA_PERIODS: Final = (1.5, 2.5)  # one frame may be lost, and the next be late; more does not fit into 200 ms

#: Topics that one node alone may publish on.
_ONE_SPEAKER: Final = (
    topics.TARGET_POSE,
    topics.TARGET_GRIPPER,
    topics.JOINT_COMMAND,
    topics.JOINT_STATES,
    topics.PERMIT,
    *(topics.camera_info(camera) for camera in spaces.CAMERAS),
)


class SupervisorNode(runtime.ResipNode):
    """Parameters in ``__init__``; topics and services in ``resip.topics``."""

    real_time = runtime.CONTROL

    def __init__(self) -> None:
        super().__init__("supervisor_node")
        cameras = self.parameter("cameras", True, "Whether the arm moves on what cameras see")
        period_s = self.parameter("camera_period_s", 1 / 30, "Time between two frames (s)", (0.005, 1.0))
        self._wait_s = self.parameter("arm_wait_s", 5.0, "How long arming waits for what is missing (s)", (0.0, 60.0))
        self._own = {"version": resip.__version__, "limits": digest(self.limits())}
        self._supervisor = Supervisor()
        self._statuses: dict[str, dict[str, str]] = {}
        self._levels: dict[str, bytes] = {}
        self._about: dict[str, dict[str, str]] = {}
        self._rivalry: list[str] = []
        self._recorder = Source("recorder", _NODE_BOUNDS)  # that its process has ended is noticed at once
        self._records, self._recorder_failure = False, ""
        self._recorder_process = Watch()
        camera_bounds = Bounds(*(periods * period_s for periods in _CAMERA_PERIODS))
        self._cameras = {c: Source(f"{c} camera", camera_bounds, ordered=True) for c in spaces.CAMERAS if cameras}
        self._robot = Source("robot state", _STATE_BOUNDS, ordered=True)
        self._nodes = {
            topics.POLICY_STATUS: Source("policy", _NODE_BOUNDS),
            topics.IK_STATUS: Source("inverse kinematics", _NODE_BOUNDS),
        }
        self._permit_index = 0  # of the newest permit: its time in periods
        self._look: Future = Future()  # done at the next look, for arming that waits
        self._connect()

    def _connect(self) -> None:
        self._permit = self.create_publisher(Header, topics.PERMIT, runtime.COMMAND_QOS)
        for camera, source in self._cameras.items():
            self._hear(CameraInfo, topics.camera_info(camera), source)
        self._hear(JointState, topics.JOINT_STATES, self._robot)
        self.create_subscription(Header, topics.RECORDER, self._on_recorder, runtime.SENSOR_QOS)
        for topic in (topics.POLICY_STATUS, topics.IK_STATUS, topics.ROBOT_STATUS):
            self.create_subscription(DiagnosticArray, topic, self._on_status(topic), runtime.STATUS_QOS)
        all_nodes = QoSProfile(depth=50, durability=runtime.STATUS_QOS.durability)
        self.create_subscription(DiagnosticArray, topics.ABOUT, self._on_about, all_nodes)
        self._bridge_arm = self.create_client(Trigger, topics.BRIDGE_ARM)
        self._bridge_disarm = self.create_client(Trigger, topics.BRIDGE_DISARM)
        self._policy_stop = self.create_client(Trigger, topics.POLICY_STOP)
        # rclpy awaits coroutines, though its types do not say so
        self.create_service(Trigger, topics.ARM, cast("Any", self._on_arm))
        self.create_service(Trigger, topics.DISARM, cast("Any", self._on_disarm))
        self.create_service(Trigger, topics.STOP, self._on_stop)
        self.ticks(_WATCH_PERIOD_S, self._on_tick)
        self.create_timer(_LOOK_PERIOD_S, self._on_look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # ---- what is heard ----

    @property
    def _now_s(self) -> float:
        return self.now_ns() / messages.NS_PER_S

    def _hear(self, kind: type[CameraInfo] | type[JointState], topic: str, source: Source) -> None:
        """Subscribe to a source. Only its stamps are read: decoding all of it would be most of this node's work."""

        def on_message(data: bytes) -> None:
            """Take note of the stamp; what it tells is looked at with the next tick."""
            source.heard((cdr.stamp_ns(data) or 0) / messages.NS_PER_S, self._now_s)

        # rclpy's types do not know of raw messages
        self.create_subscription(kind, topic, cast("Any", on_message), runtime.SENSOR_QOS, raw=True)

    def _on_recorder(self, message: Header) -> None:
        well, process = read(message.frame_id, topics.RECORDING)
        self._records = message.frame_id != topics.CLOSED
        self._recorder_failure = message.frame_id if self._records and not well else ""
        self._recorder_process.heard(process)
        self._recorder.heard(messages.stamp_ns(message.stamp) / messages.NS_PER_S, self._now_s)

    def _on_status(self, topic: str) -> Callable[[DiagnosticArray], None]:
        def on_message(message: DiagnosticArray) -> None:
            """Keep the newest status; an error stops at once."""
            self._statuses[topic] = messages.diagnostic_values(message)
            self._levels[topic] = _first(message).level
            if topic in self._nodes:
                self._nodes[topic].heard(messages.stamp_ns(message.header.stamp) / messages.NS_PER_S, self._now_s)
            self._watch()

        return on_message

    def _on_about(self, message: DiagnosticArray) -> None:
        self._about[_first(message).name] = messages.diagnostic_values(message)

    # ---- what is wrong ----

    def _problems(self) -> list[str]:
        """Everything for which the arm must not move."""
        now_s = self._now_s
        sources = [*self._cameras.values(), self._robot, *self._nodes.values()]
        sources += [self._recorder] if self._records else []
        problems = [problem for source in sources if (problem := source.problem(now_s))]
        problems += [f"recorder: {self._recorder_failure}"] if self._recorder_failure else []
        problems += ["recorder: its process ended with the bag open"] if self._recorder_process.ended else []
        return problems + self._rivalry + self._reported() + self._mismatches()

    def _reported(self) -> list[str]:
        """What nodes say of themselves."""
        found = []
        for topic, name in ((topics.POLICY_STATUS, "policy"), (topics.IK_STATUS, "inverse kinematics")):
            status = self._statuses.get(topic, {})
            if self._levels.get(topic) == runtime.ERROR or status.get("phase") == "holding":
                found.append(f"{name}: {status['message']}")
        robot = self._statuses.get(topics.ROBOT_STATUS, {})
        if self._supervisor.permits:
            return found
        if missing := self._statuses.get(topics.POLICY_STATUS, {}).get("missing"):  # others hear what it may not yet
            found.append(f"policy: {missing}")
        if robot.get("mode") not in ("idle", "armed", "faulted"):
            found.append(f"robot: {robot.get('message', 'nothing has come yet')}")
        if robot.get("gripper_connected") != "true":
            found.append(f"gripper: {robot.get('gripper_reason', 'nothing has come yet')}")
        return found

    def _mismatches(self) -> list[str]:
        """Nodes that run another version or other limits than this one."""
        return [
            f"{node} runs {what} {about.get(what)}, not {value}: start the graph again"
            for node, about in self._about.items()
            for what, value in self._own.items()
            if about.get(what) != value
        ]

    def _checks(self) -> list[str]:
        """What arming has looked at, a line each."""
        now_s = self._now_s
        sources = [*self._cameras.values(), self._robot, *self._nodes.values()]
        lines = [f"{source.name}: {source.health(now_s).value}, {source.age_s(now_s):.3f} s old" for source in sources]
        policy = self._statuses[topics.POLICY_STATUS]
        return [
            *lines,
            f"policy: {policy.get('model', '')} {policy.get('model_sha256', '')[:12]} warm, {policy.get('phase')}",
            f"robot: {self._statuses[topics.ROBOT_STATUS]['mode']}, gripper connected",
            f"scheduling: {_scheduling()}",
            f"limits {self._own['limits']}, resip {resip.__version__} in {', '.join(sorted(self._about))}",
        ]

    # ---- what follows ----

    def _on_tick(self, tick: runtime.Tick) -> None:
        self._watch()
        index = tick.time_ns // _PERMIT_PERIOD_NS
        if index == self._permit_index:
            return
        self._permit_index = index
        self._grant(tick.time_ns)
        if index % _STATUS_PERMITS == 0:
            self._publish_state(tick.time_ns)

    def _on_look(self) -> None:
        """Now and then, by the machine's own clock: who speaks on topics with one speaker; and let arming go on."""
        self._rivalry = [
            f"{topic} has more than one publisher: {rivals}; stop one of them"
            for topic in _ONE_SPEAKER
            if (rivals := self.rivals(topic))
        ]
        self._watch()
        waiting, self._look = self._look, Future()
        waiting.set_result(None)

    def _watch(self) -> None:
        robot = self._statuses.get(topics.ROBOT_STATUS, {})
        problems = self._problems() if self._supervisor.permits else []
        if self._supervisor.watch(problems, robot.get("armed") == "true", robot.get("reason", ""), self._now_s):
            self._follow_stop()

    def _follow_stop(self) -> None:
        """Take the permission away now, say why, and have the policy stop as well."""
        self._grant(self.now_ns())
        self._publish_state(self.now_ns())
        self.get_logger().error(f"stopped until armed again: {self._supervisor.reason}")
        if self._policy_stop.service_is_ready():
            self._policy_stop.call_async(Trigger.Request())

    def _grant(self, time_ns: int) -> None:
        state, reason = self._supervisor.state, self._supervisor.reason
        word = signed(topics.GO) if self._supervisor.permits else reason if state is State.STOPPED else state.value
        self._permit.publish(messages.header(time_ns, word))

    def _publish_state(self, time_ns: int) -> None:
        now_s = time_ns / messages.NS_PER_S
        state, reason = self._supervisor.state, self._supervisor.reason
        sources = [*self._cameras.values(), self._robot, *self._nodes.values()]
        values = {"state": state.value, "reason": reason} | {s.name: s.health(now_s).value for s in sources}
        if self._records:
            values["recorder"] = self._recorder.health(now_s).value
        late = state is State.ARMED and Health.LATE.value in values.values()
        level = runtime.ERROR if state is State.STOPPED else runtime.WARN if late else runtime.OK
        message = f"stopped until armed again: {reason}" if state is State.STOPPED else state.value
        self.publish_status(topics.SAFETY_STATUS, level, message, values, time_ns)

    # ---- services ----

    async def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Check everything, wait a little for what is missing, and have the bridge arm.

        Then wait for the inputs again: a bridge that uploads a controller tells no state meanwhile.
        """
        refusal = self._supervisor.begin_arming(await self._settled())
        checks = [] if refusal else self._checks()
        if not refusal:
            refusal = await self._ask(self._bridge_arm)
            self._robot.forget()
            refusal = self._supervisor.end_arming(refusal or "; ".join(await self._settled()), self._now_s)
        response.success = not refusal
        if refusal:
            response.message = f"not armed: {refusal}"
            self.get_logger().error(response.message)
        else:
            response.message = "\n".join(["armed", *checks])
            self.get_logger().info(response.message)
        self._grant(self.now_ns())
        self._publish_state(self.now_ns())
        return response

    async def _settled(self) -> list[str]:
        """Why the robot cannot be armed, once what was missing has had time to come."""
        give_up_s = time.monotonic() + self._wait_s
        while (problems := self._arming_problems()) and time.monotonic() < give_up_s:
            await runtime.patiently(self._look)
        return problems

    def _arming_problems(self) -> list[str]:
        if not self._bridge_arm.service_is_ready():
            return ["the bridge is not there"]
        return self._problems()

    async def _ask(self, client: Client) -> str:
        """Call a service of the bridge: why it did not, or nothing."""
        answer = cast("Trigger.Response", await runtime.patiently(client.call_async(Trigger.Request())))
        return "" if answer.success else answer.message or "the bridge did not say why"

    async def _on_disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Take the permission back; have the bridge disarm once the arm is at rest: what then holds it is softer."""
        self._supervisor.disarm()
        self._grant(self.now_ns())
        self._publish_state(self.now_ns())
        rests_at_s, give_up_s = self._now_s + _REST_S, time.monotonic() + _REST_PATIENCE_S
        while self._now_s < rests_at_s and time.monotonic() < give_up_s:
            await runtime.patiently(self._look)
        refusal = await self._ask(self._bridge_disarm) if self._bridge_disarm.service_is_ready() else "no bridge"
        response.success, response.message = not refusal, refusal or "disarmed"
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._supervisor.stop("the operator stopped the robot"):
            self._follow_stop()
        response.success, response.message = True, f"stopped: {self._supervisor.reason}"
        return response


def _scheduling() -> str:
    """How the kernel schedules this graph, in words."""
    if os.sched_getscheduler(0) != os.SCHED_RR:
        return "ordinary"
    share = real_time.share()
    return "real time" if share == 1.0 else f"real time, {share:g} s of each second"


def _first(message: DiagnosticArray) -> DiagnosticStatus:
    """The one status that the nodes of this graph put into a message."""
    return next(iter(message.status))


def main() -> None:
    """Run the node."""
    runtime.main(SupervisorNode)


if __name__ == "__main__":
    main()
