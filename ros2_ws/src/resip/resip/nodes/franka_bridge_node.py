"""The robot on ROS topics: state at 100 Hz, joint and gripper commands to a Polymetis server.

Contract: nothing moves before ``/robot/arm`` and, after it, the supervisor's permission. A lost server, a stale state,
a controller that ended, a second publisher of commands, contact that presses too hard, a permission that is taken away
or not heard for ``permit_timeout_s`` ends the armed state: the arm is stopped where it is, the reason told, and that
stays until ``/robot/arm`` is called again. A server that is not there is tried once a second. Commands that are old,
unsound, too fast or far from where the arm is are refused, and a refused command is a hold.
"""

from __future__ import annotations

import enum
import time

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from resip import topics
from resip.control import panda
from resip.control.limits import SpeedCheck, TorqueCheck, check_joint_command
from resip.nodes import messages, runtime
from resip.polymetis.client import ARM_PORT, GRIPPER_PORT, ArmClient, GripperClient
from resip.polymetis.messages import RobotState
from resip.polymetis.session import (
    ArmSession,
    ArmStatus,
    GripperSession,
    GripperSettings,
    GripperStatus,
    Mode,
    SessionSettings,
)
from resip.safety.process import Watch, read

STATE_PERIOD_S = 0.01
GRIPPER_TICKS = 3  # the hand reports at 30 Hz
WATCH_PERIOD_S = 0.1
RETRY_PERIOD_S = 1.0
STAMP_SOURCES = ("receive", "robot")


class Permission(enum.Enum):
    """The supervisor's, as the bridge has it."""

    NONE = enum.auto()
    AWAITED = enum.auto()
    """Armed, and nothing heard since; nothing moves."""
    GIVEN = enum.auto()


class FrankaBridgeNode(runtime.ResipNode):
    """Parameters in ``__init__``; topics and services in ``resip.topics``."""

    real_time = runtime.CONTROL

    def __init__(self) -> None:
        super().__init__("franka_bridge_node")
        host = self.parameter("host", "127.0.0.1", "Control PC that runs the Polymetis servers")
        arm_port = self.parameter("arm_port", ARM_PORT, "Port of the arm's server", (1, 65535))
        gripper_port = self.parameter("gripper_port", GRIPPER_PORT, "Port of the gripper's server", (1, 65535))
        deadline_s = self.parameter("deadline_s", 0.5, "Longest wait for an answer (s)", (0.05, 5.0))
        stale_after_s = self.parameter("stale_after_s", 1.0, "Wall time a state may stand still (s)", (0.1, 30.0))
        self._supervised = self.parameter("supervised", True, "Whether it takes a supervisor's permission to move")
        self._permit_timeout_s = self.parameter(
            "permit_timeout_s", 0.2, "Silence of the supervisor at which the arm stops (s)", (0.03, 1.0)
        )
        self._max_command_age_s = self.parameter("max_command_age_s", 0.2, "Oldest command obeyed (s)", (0.02, 2.0))
        stamps = self.choice("stamp_source", "receive", "Clock that stamps the state", STAMP_SOURCES)
        self._robot_stamps = stamps == "robot"
        settings = SessionSettings(stale_after_s=stale_after_s)
        self._arm = ArmSession(ArmClient(host, arm_port, deadline_s), settings)
        open_m = self.parameter("gripper_open_m", 0.065, "Width to which the gripper opens (m)", (0.01, 0.08))
        hand_settings = GripperSettings(open_width_m=open_m, stale_after_s=stale_after_s)
        self._gripper = GripperSession(GripperClient(host, gripper_port, deadline_s), hand_settings)
        self._status = ArmStatus(Mode.DISCONNECTED)
        self._hand = GripperStatus(False)
        self._closing: bool | None = None  # what the hand was last told
        self._limits = self.limits()
        self._speed, self._torque = SpeedCheck(self._limits), TorqueCheck(self._limits)
        self._permission = Permission.NONE
        self._permit_ns = 0
        self._supervisor_process = Watch()
        self._stop_reason = ""  # what ended the armed state; kept until the next arming
        self._refusal = ""
        self._polled_at_s = -np.inf
        self._published_ns = -1
        self._logged: tuple[Mode, bool] | None = None
        self._logged_hand: bool | None = None
        self._connect()

    def _connect(self) -> None:
        self._joints = self.create_publisher(JointState, topics.JOINT_STATES, self.sensor_qos())
        self._pose = self.create_publisher(PoseStamped, topics.EE_POSE, self.sensor_qos())
        self._twist = self.create_publisher(TwistStamped, topics.EE_TWIST, self.sensor_qos())
        self.create_subscription(JointState, topics.JOINT_COMMAND, self._on_command, runtime.COMMAND_QOS)
        self.create_subscription(JointState, topics.TARGET_GRIPPER, self._on_gripper, runtime.COMMAND_QOS)
        self.create_subscription(Header, topics.PERMIT, self._on_permit, runtime.COMMAND_QOS)
        self.create_service(Trigger, topics.BRIDGE_ARM, self._on_arm)
        self.create_service(Trigger, topics.BRIDGE_DISARM, self._on_disarm)
        self.ticks(STATE_PERIOD_S, self._on_tick)
        # On the machine's own clock: in simulation, ROS time stands still when the cell has died.
        self.create_timer(WATCH_PERIOD_S, self._on_watch, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Leave the arm to the server's own controller."""
        if self._status.mode is Mode.ARMED:
            self._arm.disarm()
        self._arm.close()
        self._gripper.close()

    # ---- state ----

    def _on_tick(self, tick: runtime.Tick) -> None:
        if self._status.mode is Mode.DISCONNECTED:
            return  # the watch tries again
        self._check_permission()
        self._poll(with_gripper=tick.index % GRIPPER_TICKS == 0)
        state, hand = self._status.state, self._hand.state
        if state is not None and hand is not None and state.timestamp_ns != self._published_ns:
            self._published_ns = state.timestamp_ns
            self._publish_state(state, hand.width_m, state.timestamp_ns if self._robot_stamps else self.now_ns())

    def _on_watch(self) -> None:
        quiet_s = time.monotonic() - self._polled_at_s
        if quiet_s >= (RETRY_PERIOD_S if self._status.mode is Mode.DISCONNECTED else WATCH_PERIOD_S):
            self._poll(with_gripper=True)
        self._stopped_by_rivals()
        self._publish_status()

    def _poll(self, with_gripper: bool) -> None:
        self._polled_at_s = time.monotonic()
        self._take(self._arm.poll())
        if with_gripper and self._status.mode is not Mode.DISCONNECTED:
            self._take_hand(self._gripper.poll())

    def _take(self, status: ArmStatus) -> None:
        """Keep an answer of the arm's session; a change of mode is told at once, in one line."""
        self._status = status
        if status.mode is not Mode.ARMED:
            self._permission = Permission.NONE
        news = (status.mode, bool(status.reason) and status.mode is not Mode.ARMED)
        if news == self._logged:
            return
        was_connected = self._logged is not None
        self._logged = news
        if not was_connected and status.mode is Mode.DISCONNECTED:
            self.get_logger().warning(f"waiting, one try a second: {status.reason}")
        elif status.mode in (Mode.DISCONNECTED, Mode.FAULTED):
            self.get_logger().error(f"{status.mode.value}: {status.reason}")
        else:
            self.get_logger().info(status.mode.value)
        self._publish_status()

    def _take_hand(self, hand: GripperStatus) -> None:
        self._hand = hand
        well = hand.connected and not hand.reason
        if well != self._logged_hand:
            self._logged_hand = well
            if not well:
                self.get_logger().error(f"gripper: {hand.reason}")
        if not well:
            self._stop(f"gripper: {hand.reason}")

    def _publish_state(self, state: RobotState, width_m: float, time_ns: int) -> None:
        pressed = self._torque.check(state.motor_torques_external, time_ns * 1e-9)
        if pressed:
            self._stop(pressed)
        q, qd = state.joint_positions, state.joint_velocities
        pose, jacobian = panda.ee_pose_and_jacobian(q)
        fingers = [width_m / 2, width_m / 2]
        self._joints.publish(
            messages.joint_state(
                (*panda.JOINT_NAMES, *panda.FINGER_NAMES),
                np.append(q, fingers),
                time_ns,
                velocity=np.append(qd, [0.0, 0.0]),  # the hand reports no speed
                effort=np.append(state.motor_torques_external, [0.0, 0.0]),
            )
        )
        self._pose.publish(messages.pose_stamped(pose, time_ns))
        self._twist.publish(messages.twist_stamped(jacobian @ qd, time_ns))

    def _publish_status(self) -> None:
        mode = self._status.mode
        reason = self._status.reason or self._stop_reason or self._refusal
        well = mode in (Mode.IDLE, Mode.ARMED) and not self._stop_reason
        values = {
            "armed": self._may_move,
            "mode": mode.value,
            "reason": reason,
            "gripper_connected": self._hand.connected and not self._hand.reason,
            "gripper_reason": self._hand.reason,
        }
        self.publish_status(topics.ROBOT_STATUS, runtime.OK if well else runtime.ERROR, reason or mode.value, values)

    # ---- commands ----

    def _on_arm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        rivals = self.rivals(topics.JOINT_COMMAND)
        if rivals:
            response.message = _conflict(rivals)
            return response
        self._stop_reason = self._refusal = ""
        self._gripper.release()
        self._closing = None
        self._speed.reset()
        self._take(self._arm.arm())
        response.success = self._status.mode is Mode.ARMED
        if response.success:
            self._permission = Permission.AWAITED if self._supervised else Permission.GIVEN
        self._publish_status()
        response.message = self._status.reason or "armed"
        return response

    @property
    def _may_move(self) -> bool:
        return self._status.mode is Mode.ARMED and self._permission is Permission.GIVEN

    def _on_permit(self, message: Header) -> None:
        well, process = read(message.frame_id, topics.GO)
        if not well:
            self._stop(message.frame_id)
            return
        self._supervisor_process.heard(process)
        self._permit_ns = messages.stamp_ns(message.stamp)
        if self._permission is Permission.AWAITED:
            self._permission = Permission.GIVEN
            self._publish_status()

    def _check_permission(self) -> None:
        """Stop where the supervisor is silent: it may be dead."""
        silent_s = (self.now_ns() - self._permit_ns) * 1e-9
        if self._supervisor_process.ended:
            self._stop("the supervisor's process has ended")
        elif self._supervised and silent_s > self._permit_timeout_s:
            self._stop(f"the supervisor has been silent for {silent_s:.2f} s")

    def _stop(self, reason: str) -> None:
        """End the armed state: the arm stays where it is now, under the controller that it has."""
        if self._permission is not Permission.GIVEN:
            return
        self._permission = Permission.NONE
        self._stop_reason = reason
        self._gripper.release()
        self._take(self._arm.hold())
        if reason == topics.DISARMED:
            self._stop_reason = ""
        else:
            self.get_logger().error(f"stopped: {reason}")
        self._publish_status()

    def _on_disarm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._take(self._arm.disarm())
        self._stop_reason = ""
        self._publish_status()
        response.success = self._status.mode is Mode.IDLE
        response.message = self._status.reason or "disarmed"
        return response

    def _on_command(self, message: JointState) -> None:
        state = self._status.state
        if state is None or not self._may_move or self._stopped_by_rivals():
            return
        joints = np.array(message.position)
        age_s = (self.now_ns() - messages.stamp_ns(message.header.stamp)) * 1e-9
        problem = (
            f"it is {age_s:.2f} s old"
            if age_s > self._max_command_age_s
            else check_joint_command(joints, state.joint_positions, self._limits)
            or self._speed.check(joints, messages.stamp_ns(message.header.stamp) * 1e-9)
        )
        if problem is None:
            status = self._arm.command(joints)
            self._take(status)
            problem = status.reason
        self._refuse(problem)

    def _stopped_by_rivals(self) -> bool:
        """Whether a second publisher of commands is there; ends the armed state."""
        rivals = self.rivals(topics.JOINT_COMMAND) if self._may_move else None
        if rivals:
            self._stop(_conflict(rivals))
        return bool(rivals)

    def _refuse(self, problem: str) -> None:
        """Remember why the newest command was not obeyed, and say it when that is new."""
        news = bool(problem) != bool(self._refusal)
        self._refusal = problem
        if problem and news:
            self.get_logger().warning(f"holding: {topics.JOINT_COMMAND}: {problem}")
        if news:
            self._publish_status()

    def _on_gripper(self, message: JointState) -> None:
        if not self._may_move or len(message.position) != 1 or not np.isfinite(message.position[0]):
            return
        close = message.position[0] > 0
        self._gripper.command(close)
        if close is not self._closing:
            self._closing = close
            self._take_hand(self._gripper.poll())  # sends it now, rather than at the next turn


def _conflict(rivals: str) -> str:
    return f"{topics.JOINT_COMMAND} has more than one publisher: {rivals}; stop one of them"


def main() -> None:
    """Run the node."""
    runtime.main(FrankaBridgeNode)


if __name__ == "__main__":
    main()
