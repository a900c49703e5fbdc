"""One RealSense camera on ROS topics, as realsense-ros names them: raw, JPEG where anyone listens, calibration.

Frames are stamped at capture. A camera that is absent or goes silent is no end of the node: it says so in
one line, reports an error on ``/diagnostics``, and tries again until the camera is back.
"""

from __future__ import annotations

import threading
from typing import Final

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from resip import spaces, topics
from resip.cameras.camera import Camera, CameraError, Frame, Intrinsics
from resip.cameras.realsense import RealSenseCamera, StreamSettings
from resip.nodes import messages, runtime

_STATUS_PERIOD_S: Final = 1.0
_JOIN_TIMEOUT_S: Final = 2.0


class CameraNode(runtime.ResipNode):
    """Parameters in ``__init__``.

    Args:
      camera: the camera to use instead of the RealSense that the parameters name; for tests.
    """

    real_time = runtime.CONTROL

    def __init__(self, camera: Camera | None = None) -> None:
        super().__init__("camera_node")
        self._name = self.choice("camera", "front", "Which view this is; names the topics", spaces.CAMERAS)
        serial = self.parameter("serial", "", "Serial number of the RealSense")
        settings = StreamSettings(
            width=self.parameter("width", 640, "Width of the stream (px)", (160, 1920)),
            height=self.parameter("height", 480, "Height of the stream (px)", (120, 1080)),
            fps=self.parameter("fps", 30, "Frames a second", (5, 90)),
        )
        timeout_s = self.parameter("read_timeout_s", 1.0, "Silence after which the camera is lost (s)", (0.1, 10.0))
        self._retry_s = self.parameter("retry_period_s", 1.0, "Time between two attempts to reach it (s)", (0.1, 60.0))
        self._camera = camera or RealSenseCamera(serial, settings, timeout_s)
        self._frame_id = f"{self._name}_color_optical_frame"
        self._raw = self.create_publisher(Image, topics.image(self._name), runtime.SENSOR_QOS)
        self._jpeg = self.create_publisher(CompressedImage, topics.compressed(self._name), runtime.SENSOR_QOS)
        self._info = self.create_publisher(CameraInfo, topics.camera_info(self._name), runtime.SENSOR_QOS)
        self._problem = "not started yet"
        self._frames = self._reported = 0
        self._end = threading.Event()
        self.create_timer(_STATUS_PERIOD_S, self._report)
        self._thread = self.start_thread(self._run)

    def close(self) -> None:
        """Let the camera go."""
        self._end.set()
        self._thread.join(_JOIN_TIMEOUT_S)

    def _report(self) -> None:
        frames, self._reported = self._frames - self._reported, self._frames
        level = runtime.ERROR if self._problem else runtime.OK
        values = {"camera": self._name, "rate_hz": frames / _STATUS_PERIOD_S, "frames": self._frames}
        self.publish_status(topics.DIAGNOSTICS, level, self._problem or "streaming", values)

    # ---- below: the camera's thread ----

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._camera.start()
                self._stream()
            except CameraError as error:
                self._say(str(error))
            finally:
                self._camera.stop()
            self._end.wait(self._retry_s)

    def _stream(self) -> None:
        """Publish frames until the node ends.

        Raises:
          CameraLostError: the camera went silent.
        """
        while not self._end.is_set():
            frame = self._camera.read()
            self._say("")
            self._publish(frame)

    def _say(self, problem: str) -> None:
        """Log a change of state once, however often the camera is tried."""
        if problem == self._problem:
            return
        if problem:
            self.get_logger().error(f"{self._name} camera: {problem}; trying again every {self._retry_s:g} s")
        else:
            self.get_logger().info(f"{self._name} camera streams")
        self._problem = problem

    def _publish(self, frame: Frame) -> None:
        self._frames += 1
        if self._raw.get_subscription_count():
            self._raw.publish(messages.image_msg(frame.rgb, frame.stamp_ns, self._frame_id))
        self._info.publish(_calibration(frame.intrinsics, frame.stamp_ns, self._frame_id))
        if self._jpeg.get_subscription_count():  # last, as it takes longest
            self._jpeg.publish(messages.compressed_msg(frame.rgb, frame.stamp_ns, self._frame_id))


def _calibration(intrinsics: Intrinsics, stamp_ns: int, frame_id: str) -> CameraInfo:
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    message = CameraInfo(
        header=messages.header(stamp_ns, frame_id),
        width=intrinsics.width,
        height=intrinsics.height,
        distortion_model="plumb_bob",
    )
    message.d = list(intrinsics.distortion)
    message.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def main() -> None:
    """Run the node."""
    runtime.main(CameraNode)


if __name__ == "__main__":
    main()
