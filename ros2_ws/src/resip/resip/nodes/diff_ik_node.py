"""From fingertip targets at 10 Hz to joint commands at 100 Hz.

Contract: a joint command goes out at every tick while the robot is armed, exactly one node speaks on each
of the two command topics, and the newest target is younger than ``target_timeout_s``. Otherwise this node is
silent, and silence is a hold: the controller inside the robot stops its set point when updates stop. After a
silence the first target starts from the measured joints, so no old command is ever taken up again.
"""

from __future__ import annotations

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from sensor_msgs.msg import JointState

from resip import spaces, topics
from resip.control import panda
from resip.control.limits import clip_pose, describe_clip
from resip.control.servo import PoseServo
from resip.nodes import messages, runtime

COMMAND_PERIOD_S = 0.01
STATUS_TICKS = 10
_NO_TARGET = "no fresh target"


class DiffIkNode(runtime.ResipNode):
    """Parameters in ``__init__``; topics in ``resip.topics``."""

    real_time = runtime.CONTROL

    def __init__(self) -> None:
        super().__init__("diff_ik_node")
        self._target_timeout_s = self.parameter(
            "target_timeout_s", 0.15, "Age of the newest target at which the arm holds (s)", (0.11, 2.0)
        )
        self._limits = self.limits()
        self._servo = PoseServo(limits=self._limits)
        self._joints: NDArray[np.float64] | None = None
        self._armed = False
        self._target: spaces.Pose | None = None  # the last one taken, after clipping; None: not moving
        self._target_ns = 0
        self._hold_reason = "no robot state yet"
        self._clip = ""  # what was cut off the newest target
        self._missed = self._status_due = 0
        self._commands = self.create_publisher(JointState, topics.JOINT_COMMAND, self.command_qos())
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, runtime.SENSOR_QOS)
        self.create_subscription(DiagnosticArray, topics.ROBOT_STATUS, self._on_robot, runtime.STATUS_QOS)
        self.create_subscription(PoseStamped, topics.TARGET_POSE, self._on_target, runtime.COMMAND_QOS)
        self.ticks(COMMAND_PERIOD_S, self._on_tick)

    def _on_joints(self, message: JointState) -> None:
        self._joints = np.array(message.position[: panda.DOF])

    def _on_robot(self, message: DiagnosticArray) -> None:
        self._armed = messages.diagnostic_values(message).get("armed") == "true"

    def _on_target(self, message: PoseStamped) -> None:
        stamp_ns = messages.stamp_ns(message.header.stamp)
        if self._joints is None or not self._armed or self._age_s(stamp_ns) > self._target_timeout_s:
            return
        try:
            wanted = messages.pose_from_msg(message.pose)
        except ValueError as error:
            self._hold(f"{topics.TARGET_POSE}: {error}")
            return
        if self._target is None:
            self._servo.reset(self._joints, stamp_ns * 1e-9)
            self._target = panda.ee_pose(self._joints)
        self._target = clip_pose(wanted, self._target, self._limits)
        self._say_clip(describe_clip(wanted, self._target, self._limits), stamp_ns)
        self._target_ns = stamp_ns
        self._servo.set_target(spaces.Pose(self._target.position[None], self._target.matrix[None]), stamp_ns * 1e-9)

    def _say_clip(self, clip: str, time_ns: int) -> None:
        """Tell at once, and once, that targets are being cut, and that they no longer are."""
        news = clip != self._clip
        self._clip = clip
        if news:
            self._publish_status(time_ns)

    def _on_tick(self, tick: runtime.Tick) -> None:
        reason = self._why_hold()
        if reason:
            self._hold(reason)
        else:
            self._missed += tick.missed if not self._hold_reason else 0
            self._hold_reason = ""
            joints = self._servo.sample(tick.time_ns * 1e-9)[0]
            self._commands.publish(messages.joint_state(panda.JOINT_NAMES, joints, tick.time_ns))
        if tick.index >= self._status_due:
            self._status_due = tick.index + STATUS_TICKS
            self._publish_status(tick.time_ns)

    def _why_hold(self) -> str:
        """The reason to be silent now, or nothing."""
        for topic in (topics.TARGET_POSE, topics.JOINT_COMMAND):
            rivals = self.rivals(topic)
            if rivals:
                return f"{topic} has more than one publisher: {rivals}; stop one of them"
        if self._joints is None:
            return "no robot state yet"
        if not self._armed:
            return "the robot is not armed"
        if self._target is None or self._age_s(self._target_ns) > self._target_timeout_s:
            return _NO_TARGET
        return ""

    def _hold(self, reason: str) -> None:
        self._target = None
        if reason != self._hold_reason:
            self._hold_reason = reason
            if self._is_error(reason):
                self.get_logger().error(f"holding: {reason}")
            elif reason != _NO_TARGET:  # which is how an operator rests: the status says it, the log does not
                self.get_logger().info(f"holding: {reason}")
            self._publish_status(self.now_ns())

    @staticmethod
    def _is_error(reason: str) -> bool:
        return "publisher" in reason or "finite" in reason

    def _age_s(self, stamp_ns: int) -> float:
        return (self.now_ns() - stamp_ns) * 1e-9

    def _publish_status(self, time_ns: int) -> None:
        holding = bool(self._hold_reason)
        clip = f"the target was cut: {self._clip}" if self._clip and not holding else ""
        values = {"holding": holding, "missed_ticks": self._missed, "clip": clip}
        level = runtime.ERROR if self._is_error(self._hold_reason) else runtime.WARN if clip else runtime.OK
        self.publish_status(topics.IK_STATUS, level, self._hold_reason or clip or "moving", values, time_ns)


def main() -> None:
    """Run the node."""
    runtime.main(DiffIkNode)


if __name__ == "__main__":
    main()
