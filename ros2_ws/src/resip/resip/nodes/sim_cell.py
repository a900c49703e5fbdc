"""The simulated cell: a Polymetis server on the local machine, cameras and parts on ROS topics, and the clock.

What a robot cell offers to the graph, from one MuJoCo world. ROS time is the cell's time: ``/clock`` comes
at 100 Hz, frames carry the exact cell time they were rendered at, and the robot's timestamps are the same
clock. The cell waits for those who command it (see ``pacer``), so that a busy machine slows it and no tick
is lost. Its time never jumps back, not even at a reset.

One thread owns the world: physics, controller, rendering (a GL context belongs to its thread). The
executor's thread answers services and hears the pace topics; they meet in ``_inbox``.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray, PoseStamped
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from resip import spaces, topics
from resip.errors import ResipError
from resip.nodes import messages, runtime
from resip.nodes.pacer import Pacer
from resip.polymetis.client import ARM_PORT, GRIPPER_PORT
from resip.polymetis.server import Status
from resip.polymetis.simulated import SimulatedRobot

if TYPE_CHECKING:
    from resip_training.sim.cell import Cell

CLOCK_PERIOD_S: Final = 0.01
STATUS_PERIOD_S: Final = 0.1
RESET_TIMEOUT_S: Final = 20.0
RTF_WINDOW: Final = 20  # status periods over which the real-time factor is measured
HOLD_POLL_S: Final = 0.02
#: A client then waits for the next control update: holding the cell for that client would be a deadlock. A robot
#: that has stopped is not waited for either: it sends no state that anyone could answer.
AWAITED: Final = (Status.READY, Status.TERMINATING)
#: Topics that the cell does not outrun, with their type and how far apart in cell time their messages are (s).
PACE_TOPICS: Final = {
    topics.JOINT_STATES: (JointState, 0.01),
    topics.TARGET_POSE: (PoseStamped, spaces.CONTROL_PERIOD_S),
    topics.JOINT_COMMAND: (JointState, 0.01),
    topics.PERMIT: (Header, 0.02),
    topics.POLICY_STATUS: (DiagnosticArray, spaces.CONTROL_PERIOD_S),
    topics.IK_STATUS: (DiagnosticArray, spaces.CONTROL_PERIOD_S),
    topics.RECORDER: (Header, 0.03),
}

#: Those that end in good order; silence of the others is a busy machine, or a node that has died.
COMING_AND_GOING: Final = (topics.TARGET_POSE, topics.JOINT_COMMAND)


@dataclass
class _Request:
    """A reset that the executor's thread asks of the world's thread."""

    done: threading.Event = field(default_factory=threading.Event)
    answer: str = ""
    success: bool = False


@dataclass(frozen=True)
class _Camera:
    """Publishers and calibration of one camera."""

    name: str
    focal_px: float
    raw: Publisher
    compressed: Publisher
    info: Publisher

    @property
    def watched(self) -> bool:
        """Whether anyone would get a frame."""
        return self.raw.get_subscription_count() + self.compressed.get_subscription_count() > 0


@dataclass(frozen=True)
class _Frame:
    """What a camera saw, on its way."""

    camera: _Camera
    pixels: NDArray
    time_ns: int
    due_step: int


class SimCell(runtime.ResipNode):
    """Parameters in ``__init__``; topics and services in ``resip.topics``."""

    def __init__(self) -> None:
        super().__init__("sim_cell")
        self._task = self.parameter("task", "one_leg", "Task whose parts lie in the cell")
        self._timestep_s = self.parameter("timestep_s", 0.002, "Physics and control step (s)", (0.0005, 0.005))
        self._images = self.parameter("images", True, "Whether the cell has cameras")
        camera_hz = self.parameter("camera_hz", 10.0, "Frames a second of cell time", (1.0, 60.0))
        latency_s = self.parameter("camera_latency_s", 0.0, "How late frames come, in cell time (s)", (0.0, 1.0))
        self._random_looks = self.parameter("random_looks", False, "Lights, colours and cameras drawn at each reset")
        rtf = self.parameter("rtf", 1.0, "Real-time factor to keep to; 0 for as fast as possible", (0.0, 100.0))
        lead_s = self.parameter("max_lead_s", 0.02, "How late the graph may be, in cell time (s)", (0.01, 1.0))
        release_s = self.parameter("release_after_s", 2.0, "Wall time that silent commands hold it (s)", (0.05, 60.0))
        patience_s = self.parameter("patience_s", 20.0, "Wall time that other silent topics hold it (s)", (0.05, 60.0))
        self._ports = (
            self.parameter("arm_port", ARM_PORT, "Port of the arm's server; 0 picks a free one", (0, 65535)),
            self.parameter("gripper_port", GRIPPER_PORT, "Port of the gripper's server; 0 picks one", (0, 65535)),
        )
        self.declare_parameter("seed", 0, ParameterDescriptor(description="Seed of the next reset"))
        self.declare_parameter("randomness", "low", ParameterDescriptor(description="Level of the next reset"))
        self._camera_period_s = 1.0 / camera_hz
        self._latency_steps = round(latency_s / self._timestep_s)
        self._under_way: deque[_Frame] = deque()
        self._pacer = Pacer(
            rtf,
            {topic: period_s + lead_s for topic, (_, period_s) in PACE_TOPICS.items()},
            dict.fromkeys(PACE_TOPICS, release_s),
        )
        self._release_s = {  # of the topics: while nobody is in charge of the arm, and while somebody is
            False: dict.fromkeys(PACE_TOPICS, release_s),
            True: {topic: release_s if topic in COMING_AND_GOING else patience_s for topic in PACE_TOPICS},
        }
        self._inbox: deque[_Request] = deque()
        self._news = threading.Condition()
        self._stop = False
        self._failure = ""  # why the world could not be built
        self._robot_stop = ""  # why the robot stopped in this episode: it cannot succeed any more
        self._step = 0
        self._history: deque[tuple[float, float]] = deque(maxlen=RTF_WINDOW)
        self._connect()
        os.environ.setdefault("LP_NUM_THREADS", "2")  # one Mesa thread for each core that the project asks for
        self._thread = self.start_thread(self._run)

    def _connect(self) -> None:
        self._clock_publisher = self.create_publisher(Clock, topics.CLOCK, runtime.CELL_QOS)
        self._parts_publisher = self.create_publisher(PoseArray, topics.CELL_PART_POSES, runtime.CELL_QOS)
        self.create_service(Trigger, topics.CELL_RESET, self._on_reset)
        for topic, (kind, _) in PACE_TOPICS.items():
            self.create_subscription(kind, topic, self._hear(topic), runtime.SENSOR_QOS)

    def _hear(self, topic: str) -> Any:
        def on_message(message: PoseStamped | JointState | DiagnosticArray | Header) -> None:
            """Tell the pacer, and wake the world's thread."""
            header = message if isinstance(message, Header) else message.header
            with self._news:
                self._pacer.heard(topic, messages.stamp_ns(header.stamp) * 1e-9)
                if header.frame_id == topics.CLOSED:
                    self._pacer.release(topic)
                self._news.notify()

        return on_message

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        order = _Request()
        with self._news:
            self._inbox.append(order)
            self._news.notify()
        give_up_s = time.monotonic() + RESET_TIMEOUT_S
        while not order.done.wait(HOLD_POLL_S) and self._thread.is_alive() and time.monotonic() < give_up_s:
            pass
        late = self._failure or f"the cell did not reset within {RESET_TIMEOUT_S:g} s"
        response.success, response.message = order.success, order.answer or late
        return response

    def close(self) -> None:
        """Stop the world's thread and cut off the robot's clients."""
        with self._news:
            self._stop = True
            self._news.notify()
        self._thread.join(timeout=2.0)

    # ---- below: the world's thread ----

    def _run(self) -> None:
        try:
            cell = self._build()
        except ResipError as error:
            self._failure = str(error)
            raise
        try:
            robot = SimulatedRobot(cell, *self._ports, control_hz=round(1.0 / self._timestep_s))
            robot.start()
            runtime.keep_objects()
        except BaseException:
            cell.close()
            raise
        self.get_logger().info(
            f"{self._task}: the robot answers on 127.0.0.1, ports {robot.arm_port} and {robot.gripper_port}"
        )
        try:
            self._loop(cell, robot)
        finally:
            robot.stop()
            cell.close()

    def _build(self) -> Cell:
        try:
            import torch
            from resip_training.sim.cell import Cell
        except ImportError as error:
            raise ResipError(f"the simulated cell needs the package resip_training ({error})") from error
        torch.set_num_threads(1)
        randomness = self.get_parameter("randomness").value
        cell = Cell(self._task, randomness, self._timestep_s, self._images, self._random_looks)
        cell.reset(self.get_parameter("seed").value)
        self._cameras = [self._camera(cell, name) for name in spaces.CAMERAS] if self._images else []
        return cell

    def _camera(self, cell: Cell, name: str) -> _Camera:
        half_angle_rad = math.radians(float(cell.model.camera(name).fovy[0])) / 2
        qos = runtime.CELL_QOS
        return _Camera(
            name,
            spaces.IMAGE_HEIGHT / 2 / math.tan(half_angle_rad),
            self.create_publisher(Image, topics.image(name), qos),
            self.create_publisher(CompressedImage, topics.compressed(name), qos),
            self.create_publisher(CameraInfo, topics.camera_info(name), qos),
        )

    def _loop(self, cell: Cell, robot: SimulatedRobot) -> None:
        per_clock, per_status, per_frame = (
            max(1, round(period_s / self._timestep_s))
            for period_s in (CLOCK_PERIOD_S, STATUS_PERIOD_S, self._camera_period_s)
        )
        while self._may_step(cell, robot):
            robot.tick()
            self._step += 1
            if robot.faulted and robot.faults and not self._robot_stop:
                self._robot_stop = f"the robot stopped: it exceeded {robot.faults[-1]}"
                self.get_logger().error(self._robot_stop)
            if self._step % per_frame == 0:
                self._see(cell)
            self._publish_frames()
            if self._step % per_status == 0:
                self._publish_status(cell, robot)
            if self._step % per_clock == 0:
                self._clock_publisher.publish(Clock(clock=messages.time_msg(self._time_ns)))

    @property
    def _time_ns(self) -> int:
        """The cell's time, exact: counted in steps."""
        return self._step * round(self._timestep_s * messages.NS_PER_S)

    def _may_step(self, cell: Cell, robot: SimulatedRobot) -> bool:
        """Wait until the next step may be taken, seeing to resets meanwhile; False when the node ends."""
        next_s = self._time_ns * 1e-9 + self._timestep_s
        while True:
            with self._news:
                self._pacer.release_after_s = self._release_s[robot.server.status is Status.RUNNING]
                free = robot.faulted or robot.server.status in AWAITED
                wait_s = (self._pacer.early_s if free else self._pacer.wait_s)(next_s, time.monotonic())
                if wait_s > 0.0 and not self._stop and not self._inbox:
                    self._news.wait(min(wait_s, HOLD_POLL_S))
                orders = list(self._inbox)
                self._inbox.clear()
                held_by = [] if free else self._pacer.holding(next_s, time.monotonic())
            if self._stop:
                return False
            for order in orders:
                self._reset(cell, robot, order)
            if wait_s <= 0.0:
                return True
            self._release_the_gone(held_by)

    def _release_the_gone(self, held_by: list[str]) -> None:
        for topic in held_by:
            if self.count_publishers(topic) == 0:
                with self._news:
                    self._pacer.release(topic)

    def _reset(self, cell: Cell, robot: SimulatedRobot, order: _Request) -> None:
        try:
            seed = int(self.get_parameter("seed").value)
            cell.reset(seed, self.get_parameter("randomness").value)
            robot.relocated()
            self._under_way.clear()  # of the episode before
            self._robot_stop = ""
            order.success, order.answer = True, f"the cell starts from seed {seed}"
        except ResipError as error:
            order.answer = str(error)
        order.done.set()

    def _see(self, cell: Cell) -> None:
        """Have the cameras see, and tell where the parts are."""
        time_ns, due_step = self._time_ns, self._step + self._latency_steps
        for camera in self._cameras:
            if camera.watched:
                self._under_way.append(_Frame(camera, cell.render(camera.name), time_ns, due_step))
        if self._parts_publisher.get_subscription_count():
            poses = [messages.pose_msg(pose[:3], pose[3:]) for pose in cell.part_poses()]
            self._parts_publisher.publish(PoseArray(header=messages.header(time_ns, spaces.BASE_FRAME), poses=poses))

    def _publish_frames(self) -> None:
        """Publish what the cameras saw, once its time has come."""
        while self._under_way and self._under_way[0].due_step <= self._step:
            frame = self._under_way.popleft()
            self._publish_frame(frame.camera, frame.pixels, frame.time_ns)

    def _publish_frame(self, camera: _Camera, pixels: NDArray, time_ns: int) -> None:
        frame = f"{camera.name}_color_optical_frame"
        if camera.raw.get_subscription_count():
            camera.raw.publish(messages.image_msg(pixels, time_ns, frame))
        if camera.compressed.get_subscription_count():
            camera.compressed.publish(messages.compressed_msg(pixels, time_ns, frame))
        size = (spaces.IMAGE_WIDTH, spaces.IMAGE_HEIGHT)
        camera.info.publish(messages.camera_info_msg(camera.focal_px, camera.focal_px, *size, time_ns, frame))

    def _publish_status(self, cell: Cell, robot: SimulatedRobot) -> None:
        failed = cell.failed() or self._robot_stop
        values = {
            "time_s": self._time_ns * 1e-9,
            "task": self._task,
            "seed": cell.seed,
            "randomness": self.get_parameter("randomness").value,
            "success": cell.success(),
            "failed": failed,
            "rtf": self._measure_rtf(),
            "protocol_violations": robot.protocol_violations,
            "faults": len(robot.faults),
            "last_fault": robot.faults[-1] if robot.faults else "",
        }
        level = runtime.WARN if failed else runtime.OK
        self.publish_status(topics.CELL_STATUS, level, failed or "running", values, self._time_ns)

    def _measure_rtf(self) -> float:
        """Cell time over wall time, over the last seconds."""
        self._history.append((self._time_ns * 1e-9, time.monotonic()))
        cell_s, steady_s = (end - start for start, end in zip(self._history[0], self._history[-1], strict=True))
        return cell_s / steady_s if steady_s > 0.0 else 0.0


def main() -> None:
    """Run the node."""
    runtime.main(SimCell)


if __name__ == "__main__":
    main()
