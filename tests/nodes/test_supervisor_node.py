"""The supervisor alone, between fake inputs and a fake bridge: when it gives permission, and when it takes it away."""

import pytest
import resip
from resip import spaces, topics
from resip.control.limits import Limits, digest
from resip.nodes import messages, runtime
from resip.safety.process import read
from ros_harness import TICK_NS, Surroundings, node
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from std_srvs.srv import Trigger


class Graph(Surroundings):
    """Everything that the supervisor watches, well until told otherwise."""

    def __init__(self):
        super().__init__()
        self.watch(topics.SAFETY_STATUS)
        self.hear(topics.PERMIT, Header)
        self.cameras = set(spaces.CAMERAS)
        self.limits = digest(Limits())
        self.policy = (runtime.OK, "idle")
        self.policy_misses = ""
        self.armed = self.silent_once_armed = False
        self._infos = {c: self._publisher(CameraInfo, topics.camera_info(c)) for c in spaces.CAMERAS}
        self._statuses = {}
        for name in (topics.BRIDGE_ARM, topics.BRIDGE_DISARM, topics.POLICY_STOP):
            self.node.create_service(Trigger, name, self._answer(name))
        self.asked = []

    def _publisher(self, kind, topic):
        return self.node.create_publisher(kind, topic, runtime.SENSOR_QOS)

    def _answer(self, name):
        def on_request(request, response):
            self.asked.append(name)
            if name == topics.BRIDGE_ARM:
                self.robot_is_there = self.robot_is_there and not self.silent_once_armed
            self.armed = name == topics.BRIDGE_ARM or (self.armed and name != topics.BRIDGE_DISARM)
            response.success = True
            return response

        return on_request

    def tell(self, topic, name, level, message, **values):
        if topic not in self._statuses:
            kind = type(messages.diagnostics(0, "", runtime.OK, "", {}))
            self._statuses[topic] = self.node.create_publisher(kind, topic, runtime.STATUS_QOS)
        self._statuses[topic].publish(messages.diagnostics(self.time_ns, name, level, message, values))

    def say(self):
        self.wait_for(lambda: self.time_ns - self._permitted_ns <= 50_000_000, "the supervisor to keep up")
        for camera in self.cameras:
            self._infos[camera].publish(CameraInfo(header=messages.header(self.time_ns)))
        if self.time_ns % TICK_NS:
            return
        self.tell(topics.ABOUT, "diff_ik_node", runtime.OK, "", version=resip.__version__, limits=self.limits)
        self.tell(topics.POLICY_STATUS, "policy_node", *self.policy, phase=self.policy[1], missing=self.policy_misses)
        self.tell(topics.IK_STATUS, "diff_ik_node", runtime.OK, "moving")
        robot = {"mode": "idle", "armed": self.armed, "gripper_connected": True, "reason": ""}
        self.tell(topics.ROBOT_STATUS, "franka_bridge_node", runtime.OK, "idle", **robot)

    @property
    def _permitted_ns(self):
        """Time of the newest permission, or of now where there is none yet."""
        newest = self.newest.get(topics.PERMIT)
        return self.time_ns if newest is None else messages.stamp_ns(newest.stamp)

    @property
    def permits(self):
        return bool(self.seen[topics.PERMIT]) and read(self.newest[topics.PERMIT].frame_id, topics.GO)[0]

    def ask(self, service):
        """Call a service; its answer comes while time goes by."""
        client = self.node.create_client(Trigger, service)
        self.wait_for(client.service_is_ready, service)
        return client.call_async(Trigger.Request())

    def request(self, service):
        """Call a service while time goes by."""
        future = self.ask(service)
        self.pass_until(future.done, f"answer of {service}")
        return future.result()

    def pass_until(self, condition, what):
        def so():
            self.pass_time()
            return condition()

        self.wait_for(so, what)


@pytest.fixture
def graph(tmp_path):
    program = node("supervisor_node", tmp_path / "supervisor.log", use_sim_time=True, arm_wait_s=3.0)
    graph = Graph()
    graph.log = lambda: program.log
    graph.pass_until(lambda: graph.seen[topics.PERMIT], "the supervisor")
    yield graph
    graph.close()
    program.kill()


def arm(graph):
    answer = graph.request(topics.ARM)
    assert answer.success, answer.message
    graph.pass_until(lambda: graph.permits, "permission")
    return answer


def test_it_gives_no_permission_before_it_is_armed_and_says_what_it_checked(graph):
    graph.pass_time(5)
    assert not graph.permits
    checked = arm(graph).message
    for words in ("front camera: ok", "wrist camera: ok", "robot state: ok", "policy:", "limits", resip.__version__):
        assert words in checked


def test_all_that_is_wrong_is_named_instead_of_arming(graph):
    graph.cameras, graph.limits, graph.robot_is_there = {"front"}, "others", False
    graph.policy = (runtime.ERROR, "stopped")
    graph.pass_time(15)
    refused = graph.request(topics.ARM)
    assert not refused.success
    for words in ("wrist camera", "robot state", "policy: stopped", "diff_ik_node runs limits others"):
        assert words in refused.message
    assert "front camera" not in refused.message
    assert topics.BRIDGE_ARM not in graph.asked
    assert not graph.permits


def test_arming_waits_until_the_policy_itself_has_its_inputs(graph):
    graph.policy_misses = "nothing has come from state yet"
    answer = graph.ask(topics.ARM)
    graph.pass_time(10)
    assert not answer.done()
    assert topics.BRIDGE_ARM not in graph.asked
    graph.policy_misses = ""
    graph.pass_until(answer.done, "the answer")
    assert answer.result().success


def test_permission_waits_for_a_state_that_came_after_the_bridge_has_armed(graph):
    graph.silent_once_armed = True
    answer = graph.ask(topics.ARM)
    graph.pass_until(lambda: topics.BRIDGE_ARM in graph.asked, "the bridge's turn")
    graph.pass_time(2)
    assert not graph.permits
    assert not answer.done()
    graph.robot_is_there = True
    graph.pass_until(answer.done, "the answer")
    assert answer.result().success, answer.result().message
    graph.pass_until(lambda: graph.permits, "permission")


def test_a_camera_that_goes_stops_the_arm_until_it_is_armed_again(graph):
    arm(graph)
    graph.cameras = {"wrist"}
    graph.pass_until(lambda: not graph.permits, "the stop")
    assert "front camera: missing" in graph.newest[topics.PERMIT].frame_id
    graph.pass_until(lambda: topics.POLICY_STOP in graph.asked, "the policy's stop")
    graph.cameras = set(spaces.CAMERAS)
    graph.pass_time(20)
    assert not graph.permits
    assert graph.status[topics.SAFETY_STATUS]["state"] == "stopped"
    arm(graph)


def test_an_error_of_a_node_and_the_operators_word_stop_the_arm(graph):
    arm(graph)
    graph.policy = (runtime.ERROR, "the action is not finite")
    graph.pass_until(lambda: not graph.permits, "the stop")
    assert "policy: the action is not finite" in graph.newest[topics.PERMIT].frame_id

    graph.policy = (runtime.OK, "idle")
    graph.pass_time(2)
    arm(graph)
    assert graph.request(topics.STOP).success
    graph.pass_until(lambda: not graph.permits, "the stop")
    assert graph.newest[topics.PERMIT].frame_id == "the operator stopped the robot"
    assert "Traceback" not in graph.log()


def test_disarming_in_good_order_takes_the_permission_back(graph):
    arm(graph)
    assert graph.request(topics.DISARM).success
    assert graph.asked[-1] == topics.BRIDGE_DISARM
    graph.pass_until(lambda: not graph.permits, "no permission")
    assert graph.newest[topics.PERMIT].frame_id == topics.DISARMED
