"""An operator in the policy's place: SpaceMouse or keyboard in, the policy's targets out.

It publishes what ``policy_node`` publishes, on the same ticks, and answers to the same services, so that
nothing after it knows the difference. A tick publishes a target only while the node is started, its input can be
trusted, the robot's state is fresh, nobody else publishes targets, and the operator's deadman is on; in any other
tick it is silent, and silence is a hold (see ``diff_ik_node``). The device's own numbers go out as ``Joy`` while
it sends any; a silent device is not made to say zeros.

Buttons for the recording call the services of ``trial/``, which the session's node answers; the one that stops the
robot (or both of a mouse that has two) calls the supervisor's.

Phases: ``idle``, ``waiting`` (started, deadman off), ``running``, ``paused`` (by the operator's button),
``holding`` (with a reason; it ends by itself when the reason does).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, cast

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.task import Future
from sensor_msgs.msg import JointState, Joy
from std_srvs.srv import Trigger

from resip import spaces, topics
from resip.control import panda
from resip.nodes import messages, runtime
from resip.teleop import hidraw, keyboard, spacemouse
from resip.teleop.profile import PROFILES, PROFILES_OF, Profile, RotationFrame
from resip.teleop.source import Button, Motion, RawInput, Source, SourceError
from resip.teleop.target import Deadman, Target, TargetGenerator

SOURCES: Final = tuple(PROFILES_OF)
DEADMEN: Final = ("motion", "button")
_READ_TIMEOUT_S: Final = 0.05
_LOOK_PERIOD_S: Final = 0.02
_JOIN_TIMEOUT_S: Final = 2.0
_DIAGNOSTICS_TICKS: Final = 10
_SERVICES: Final = {
    Button.BEGIN: topics.TRIAL_BEGIN,
    Button.MARK: topics.TRIAL_MARK,
    Button.KEEP: topics.TRIAL_SUCCESS,
    Button.DISCARD: topics.TRIAL_DISCARD,
    Button.STOP: topics.STOP,
}
#: Held together, they stop the robot: on models that have no button for it.
_STOP_CHORD: Final = frozenset({Button.GRIPPER, Button.MARK})


class SpacemouseNode(runtime.ResipNode):
    """Parameters in ``__init__``.

    Args:
      open_device: opens the SpaceMouse instead of ``hidraw.open_spacemouse``; for tests.
    """

    real_time = runtime.CONTROL

    def __init__(self, open_device: Callable[[], spacemouse.HidDevice] | None = None) -> None:
        super().__init__("spacemouse_node")
        kind = self.choice("source", "spacemouse", "What the operator moves the robot with", SOURCES)
        valid = PROFILES_OF[kind]
        self._profile_name = self.choice("profile", valid[0], "How fast the robot goes", valid)
        self._profile = self._with_frame(PROFILES[self._profile_name])
        self._deadman = self._deadman_of(kind)
        self._age_s = self.parameter("max_observation_age_s", 0.3, "Oldest robot state used (s)", (0.05, 2.0))
        self._retry_s = self.parameter("retry_period_s", 1.0, "Time between two attempts to reach it (s)", (0.1, 60.0))
        self._silence_s = self.parameter(
            "silence_s",
            spacemouse.SILENCE_S,
            "Silence of a deflected SpaceMouse at which the arm holds (s)",
            (0.05, 5.0),
        )
        node = self.parameter("device", "", "Hidraw file of the SpaceMouse; empty: the first one found")
        terminal = self.parameter("terminal", "", "Terminal whose keyboard it is, such as /dev/pts/3")
        self._source = (
            keyboard.Keyboard(terminal)
            if kind == "keyboard"
            else self._spacemouse(open_device or (lambda: hidraw.open_spacemouse(node)))
        )
        self._model = f"teleop:{kind}"
        if kind == "keyboard":
            self.get_logger().info(f"keys:\n{keyboard.HELP}")
        self._targets = TargetGenerator(self._profile, self._deadman)
        self._joints: JointState | None = None
        self._problem = f"looking for the {kind}"  # why there is no input, as the reading thread knows it
        self._ticks = self._missed = 0
        self._phase, self._reason = "idle", ""
        self._connect()
        self._end = threading.Event()
        self._thread = self.start_thread(self._read)

    def _with_frame(self, profile: Profile) -> Profile:
        valid = ("profile", "base", "tool")
        frame = self.choice("rotation_frame", "profile", "Whose axes turns are about", valid)
        return profile if frame == "profile" else replace(profile, rotation_frame=cast("RotationFrame", frame))

    def _deadman_of(self, kind: str) -> Deadman:
        deadman = self.choice("deadman", "motion", "What lets the robot move: motion, or a held button", DEADMEN)
        if kind == "keyboard" and deadman == "button":
            raise runtime.ParameterError("a terminal does not tell held keys: deadman button needs source spacemouse")
        return cast("Deadman", deadman)

    def _spacemouse(self, open_device: Callable[[], spacemouse.HidDevice]) -> Source:
        bits = spacemouse.DEADMAN_BITS if self._deadman == "button" else spacemouse.BUTTON_BITS
        return spacemouse.SpaceMouse(open_device, self._profile, bits, self._silence_s)

    def _connect(self) -> None:
        self._target_pose = self.create_publisher(PoseStamped, topics.TARGET_POSE, self.command_qos())
        self._target_gripper = self.create_publisher(JointState, topics.TARGET_GRIPPER, self.command_qos())
        self._joy = self.create_publisher(Joy, topics.JOY, runtime.SENSOR_QOS)
        self._askable = {button: self.create_client(Trigger, name) for button, name in _SERVICES.items()}
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, runtime.SENSOR_QOS)
        self.create_service(Trigger, topics.POLICY_START, self._on_start)
        self.create_service(Trigger, topics.POLICY_STOP, self._on_stop)
        self.ticks(spaces.CONTROL_PERIOD_S, self._on_tick)
        self.ticks(_LOOK_PERIOD_S, self._on_look)

    def close(self) -> None:
        """Let the device go."""
        self._end.set()
        self._thread.join(_JOIN_TIMEOUT_S)

    def _on_joints(self, message: JointState) -> None:
        self._joints = message

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        rivals = self.rivals(topics.TARGET_POSE)
        if rivals:
            response.message = f"{topics.TARGET_POSE} has more than one publisher: {rivals}; stop one of them"
            return response
        self._targets.reset()
        self._ticks = self._missed = 0
        self._phase, self._reason = "waiting", ""
        response.success, response.message = True, f"{self._model} started"
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._phase, self._reason = "idle", ""
        response.success, response.message = True, "stopped"
        return response

    # ---- the tick ----

    def _on_tick(self, tick: runtime.Tick) -> None:
        started_s = time.perf_counter()
        motion = self._source.sample(time.monotonic())
        problem = self._problem or motion if isinstance(motion, str) else ""
        if isinstance(motion, Motion):
            chord = {Button.STOP} if motion.down >= _STOP_CHORD and motion.pressed & _STOP_CHORD else set()
            self._pass_on(motion.pressed | chord)
        if self._phase not in ("idle", "paused"):
            self._missed += tick.missed if self._ticks else 0
            self._ticks += 1
            self._advance(tick, motion)
        self._publish_status(tick, problem, (time.perf_counter() - started_s) * 1e3)

    def _on_look(self, tick: runtime.Tick) -> None:
        """Hold as soon as the source is lost: the last target leads on for most of a control period."""
        problem = self._problem
        if problem and self._phase == "running":
            self._hold(problem)
            self._publish_status(tick, problem, 0.0)

    def _pass_on(self, pressed: frozenset[Button]) -> None:
        """Have the operator's wishes other than motion carried out."""
        if Button.PAUSE in pressed and self._phase != "idle":
            self._targets.release()
            self._phase = "waiting" if self._phase == "paused" else "paused"
            self._reason = "the operator paused" if self._phase == "paused" else ""
        for button in pressed & self._askable.keys():
            if self._askable[button].service_is_ready():
                self._askable[button].call_async(Trigger.Request()).add_done_callback(self._tell_refusal(button))
            else:
                self.get_logger().warning(f"cannot {button.value}: {_SERVICES[button]} is not there")

    def _tell_refusal(self, button: Button) -> Callable[[Future], None]:
        def on_reply(future: Future) -> None:
            """Tell the operator why nothing happened."""
            answer = cast("Trigger.Response", future.result())
            if not answer.success:
                self.get_logger().warning(f"cannot {button.value}: {answer.message}")

        return on_reply

    def _advance(self, tick: runtime.Tick, motion: Motion | str) -> None:
        reason = self._why_hold(tick, motion)
        if reason or isinstance(motion, str) or self._joints is None:
            self._hold(reason)
            return
        q = np.array(self._joints.position)
        target = self._targets.step(motion, panda.ee_pose(q[: panda.DOF]), float(q[panda.DOF :].sum()))
        self._phase, self._reason = "waiting" if target is None else "running", ""
        if target is not None:
            self._publish(target, tick)

    def _why_hold(self, tick: runtime.Tick, motion: Motion | str) -> str:
        """The reason to be silent although started, or nothing."""
        if isinstance(motion, str):
            return self._problem or motion
        rivals = self.rivals(topics.TARGET_POSE)
        if rivals:
            return f"{topics.TARGET_POSE} has more than one publisher: {rivals}; stop one of them"
        if self._joints is None:
            return "no robot state yet"
        age_s = (tick.time_ns - messages.stamp_ns(self._joints.header.stamp)) * 1e-9
        return f"the robot's state is {age_s:.1f} s old" if age_s > self._age_s else ""

    def _hold(self, reason: str) -> None:
        if self._phase != "holding":
            self.get_logger().warning(f"holding: {reason}")
        self._targets.release()
        self._phase, self._reason = "holding", reason

    def _publish(self, target: Target, tick: runtime.Tick) -> None:
        self._target_pose.publish(messages.pose_stamped(target.pose, tick.time_ns))
        self._target_gripper.publish(messages.joint_state(["gripper"], [target.gripper], tick.time_ns))

    def _publish_status(self, tick: runtime.Tick, problem: str, latency_ms: float) -> None:
        values = {
            "phase": self._phase,
            "ticks": self._ticks,
            "missed_ticks": self._missed,
            "latency_ms": latency_ms,
            "reason": self._reason or problem,
            "model": self._model,
            "profile": self._profile_name,
            "rotation_frame": self._profile.rotation_frame,
            "deadman": self._deadman,
        }
        level = runtime.WARN if problem or self._phase == "holding" else runtime.OK
        message = self._reason or problem or self._phase
        self.publish_status(topics.POLICY_STATUS, level, message, values, tick.time_ns)
        if tick.index % _DIAGNOSTICS_TICKS == 0:
            self.publish_status(topics.DIAGNOSTICS, level, message, {"source": self._model}, tick.time_ns)

    # ---- below: the reading thread ----

    def _read(self) -> None:
        while not self._end.is_set():
            try:
                self._say_found(self._source.open())
                while not self._end.is_set():
                    self._publish_raw(self._source.read(_READ_TIMEOUT_S))
            except SourceError as error:
                self._say_lost(str(error))
            finally:
                self._source.close()
            self._end.wait(self._retry_s)

    def _publish_raw(self, raw: RawInput | None) -> None:
        if raw is not None:
            self._joy.publish(Joy(header=messages.header(self.now_ns()), axes=raw.axes, buttons=raw.buttons))

    def _say_found(self, name: str) -> None:
        self._problem = ""
        self.get_logger().info(f"reading {name}")

    def _say_lost(self, problem: str) -> None:
        """Log a change of state once, however often the device is tried."""
        if problem != self._problem:
            self.get_logger().error(f"{problem}; trying again every {self._retry_s:g} s")
        self._problem = problem


def main() -> None:
    """Run the node."""
    runtime.main(SpacemouseNode)


if __name__ == "__main__":
    main()
