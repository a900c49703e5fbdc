"""A graph around the trial node without physics: every topic and service it meets, on a clock of its own.

Run as a program, so that it takes no time from the test's interpreter:
``python fake_graph.py --ros-args -p verdict:=success``.
"""

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray, PoseStamped, TwistStamped
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.task import Future
from resip import spaces, topics
from resip.control import panda
from resip.control.limits import UnsoundActionError
from resip.nodes import messages, runtime
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, JointState
from std_srvs.srv import Trigger

STEP_NS = 10_000_000
RTF = 2.0


class FakeGraph(runtime.ResipNode):
    """Parameters: what happens when (ROS time since the policy started)."""

    def __init__(self):
        super().__init__("sim_cell")
        outcomes = ("success", "success then failed", "first policy succeeds", "fault", "unsound then success", "none")
        self.verdict = self.choice("verdict", "success", "How trials end", outcomes)
        self.run_steps = round(self.parameter("run_s", 1.5, "How long trials run") * 1e9) // STEP_NS
        self.silent = self.parameter("silent", "", "Topic that says nothing")
        self.resets_to_lose = self.parameter("resets_to_lose", 0, "First questions for a reset that nobody answers")
        self.declare_parameter("seed", 0)
        self.declare_parameter("randomness", "low")
        self.step = self.resets = self.chosen = 0
        self.armed = self.running_since = None
        # publishers exist from the start, as the real nodes' do
        self.outs = {
            topics.TARGET_POSE: self.create_publisher(PoseStamped, topics.TARGET_POSE, runtime.COMMAND_QOS),
            topics.TARGET_GRIPPER: self.create_publisher(JointState, topics.TARGET_GRIPPER, runtime.COMMAND_QOS),
            topics.JOINT_COMMAND: self.create_publisher(JointState, topics.JOINT_COMMAND, runtime.COMMAND_QOS),
        }
        for name in (topics.CELL_RESET, topics.ARM, topics.DISARM, topics.POLICY_START, topics.POLICY_STOP):
            self.create_service(Trigger, name, self.answer(name))
        self.create_service(SetParameters, "/policy_node/set_parameters", self.choose)
        self.create_timer(STEP_NS * 1e-9 / RTF, self.on_timer)
        self.frame = np.full((240, 320, 3), 90, np.uint8)

    def answer(self, name):
        async def on_request(request, response):
            if name == topics.CELL_RESET and self.resets_to_lose:
                self.resets_to_lose -= 1
                await Future()
            response.success = True
            self.apply(name)
            self.get_logger().info(f"{name} {self.get_parameter('seed').value}")
            return response

        return on_request

    def choose(self, request, response):
        self.chosen = request.parameters[0].value.integer_value
        response.results = [SetParametersResult(successful=True)]
        return response

    def apply(self, name):
        if name == topics.ARM:
            self.armed = True
        elif name == topics.DISARM:
            self.armed = None
        elif name == topics.POLICY_START:
            self.running_since = self.step
        else:
            self.running_since = None
            self.resets += name == topics.CELL_RESET

    def publish(self, topic, message, qos=runtime.SENSOR_QOS):
        if topic == self.silent:
            return
        if topic not in self.outs:
            self.outs[topic] = self.create_publisher(type(message), topic, qos)
        self.outs[topic].publish(message)

    def on_timer(self):
        since = None if self.running_since is None else self.step - self.running_since
        self.step += 1
        now = self.step * STEP_NS
        self.publish_state(now)
        if self.step % 10 == 0:
            self.publish_tenth(now, since)
        self.publish(topics.CLOCK, Clock(clock=Time(sec=now // 10**9, nanosec=now % 10**9)), runtime.CELL_QOS)

    def publish_state(self, now):
        names = (*panda.JOINT_NAMES, *panda.FINGER_NAMES)
        self.publish(topics.JOINT_STATES, messages.joint_state(names, [*panda.RESET_RAD, 0.03, 0.03], now))
        self.publish(topics.EE_POSE, messages.pose_stamped(panda.ee_pose(panda.RESET_RAD), now))
        self.publish(topics.EE_TWIST, TwistStamped(header=messages.header(now)))
        if self.armed:
            command = messages.joint_state(panda.JOINT_NAMES, panda.RESET_RAD, now)
            self.publish(topics.JOINT_COMMAND, command, runtime.COMMAND_QOS)

    def publish_tenth(self, now, since):
        for camera in spaces.CAMERAS:
            self.publish(topics.compressed(camera), messages.compressed_msg(self.frame, now, camera))
            self.publish(topics.camera_info(camera), CameraInfo(header=messages.header(now)))
        poses = [messages.pose_msg([0.4, 0.1 * i, 0.015], [0.0, 0.0, 0.0, 1.0]) for i in range(6)]
        self.publish(topics.CELL_PART_POSES, PoseArray(header=messages.header(now), poses=poses))
        if since is not None:
            target = messages.pose_stamped(panda.ee_pose(panda.RESET_RAD), now)
            self.publish(topics.TARGET_POSE, target, runtime.COMMAND_QOS)
            self.publish(topics.TARGET_GRIPPER, messages.joint_state(["gripper"], [1.0], now), runtime.COMMAND_QOS)
        over = since is not None and since > self.run_steps
        fails = (self.verdict == "success then failed" and self.resets == 2) or (
            self.verdict == "first policy succeeds" and self.chosen == 1
        )
        unsound = self.verdict == "unsound then success" and self.resets == 1
        values = {
            "success": over and "succe" in self.verdict and not fails and not unsound,
            "failed": "part left the table: leg4" if over and fails else "",
        }
        self.say(topics.CELL_STATUS, now, "sim_cell", runtime.OK, "running", values)
        level, word = runtime.OK, "running"
        if over and self.verdict == "fault":
            level, word = runtime.ERROR, "inference failed: out of memory"
        elif over and unsound:
            level, word = runtime.ERROR, str(UnsoundActionError("the target turns by 2.72 rad"))
        policy = {"model_sha256": ("ab", "cd")[self.chosen] * 32, "inference_ms": 25.0}
        self.say(topics.POLICY_STATUS, now, "policy_node", level, word, policy)
        self.say(topics.ROBOT_STATUS, now, "franka_bridge_node", runtime.OK, "armed", {})
        self.say(topics.IK_STATUS, now, "diff_ik_node", runtime.OK, "moving", {})

    def say(self, topic, now, name, level, message, values):
        self.publish(topic, messages.diagnostics(now, name, level, message, values), runtime.STATUS_QOS)


if __name__ == "__main__":
    runtime.main(FakeGraph)
