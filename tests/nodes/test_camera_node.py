"""The camera node over DDS, fed by librealsense's software device."""

import os
import time

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from resip import images, topics
from resip.cameras.realsense import RealSenseCamera
from resip.cameras.software import SERIAL, SoftwareCamera
from resip.nodes import messages, runtime
from resip.nodes.camera_node import CameraNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

STREAMS = {
    topics.image("wrist"): Image,
    topics.compressed("wrist"): CompressedImage,
    topics.camera_info("wrist"): CameraInfo,
    topics.DIAGNOSTICS: DiagnosticArray,
}


class Rig:
    """A camera node, the software camera behind it, and a listener on topics of its choice."""

    def __init__(self, heard):
        self.source = SoftwareCamera()
        self.plugged = True
        camera = RealSenseCamera(
            SERIAL, read_timeout_s=0.3, devices=lambda: [self.source.device] if self.plugged else []
        )
        self.node = CameraNode(camera)
        self.listener = rclpy.create_node("listener")
        self.got = {topic: [] for topic in heard}
        for topic in heard:
            qos = runtime.STATUS_QOS if topic == topics.DIAGNOSTICS else runtime.SENSOR_QOS
            self.listener.create_subscription(STREAMS[topic], topic, self.got[topic].append, qos)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.listener)

    def until(self, condition, value=None, timestamp_ms=0.0):
        """Spin until the condition holds, putting frames of a value meanwhile."""
        deadline_s = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline_s, f"got { ({t: len(m) for t, m in self.got.items()}) }"
            if value is not None:
                self.source.put(value, timestamp_ms)
            self.executor.spin_once(timeout_sec=0.03)

    def statuses(self):
        return [(array.status[0].level, array.status[0].message) for array in self.got[topics.DIAGNOSTICS]]

    def close(self):
        self.node.close()
        self.node.destroy_node()
        self.listener.destroy_node()


@pytest.fixture
def rig(monkeypatch):
    parameters = ["camera:=wrist", "retry_period_s:=0.1"]
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    domain = 100 + os.getpid() % 100
    rclpy.init(args=["--ros-args", *(w for p in parameters for w in ("-p", p))], domain_id=domain)
    made = []

    def make(*heard):
        made.append(Rig(heard))
        return made[0]

    yield make
    for rig in made:
        rig.close()
    rclpy.shutdown()


def test_raw_jpeg_and_calibration_of_a_frame_share_its_capture_stamp_and_frame(rig):
    rig = rig(*list(STREAMS)[:3])
    rig.until(lambda: all(rig.got.values()), value=120, timestamp_ms=1_700_000_000_123.0)

    raw, jpeg, info = (rig.got[topic][-1] for topic in list(STREAMS)[:3])
    assert {messages.stamp_ns(message.header.stamp) for message in (raw, jpeg, info)} == {1_700_000_000_123_000_000}
    assert {message.header.frame_id for message in (raw, jpeg, info)} == {"wrist_color_optical_frame"}
    assert (raw.encoding, raw.width, raw.height, raw.step) == ("rgb8", 640, 480, 1920)
    assert (np.asarray(raw.data) == 120).all()
    assert np.abs(images.decode_jpeg(bytes(jpeg.data)).astype(int) - 120).max() <= 1
    assert (info.k[0], info.k[5], info.width) == (605.0, 241.0, 640)
    np.testing.assert_allclose(info.d, [0.1, -0.2, 0.001, 0.002, 0.05], rtol=1e-6)


def test_the_policys_input_is_the_preprocessed_frame(rig):
    rig = rig(topics.image("wrist"))
    rig.until(lambda: rig.got[topics.image("wrist")], value=33)
    pixels = messages.image_pixels(rig.got[topics.image("wrist")][-1], topics.image("wrist"))
    assert pixels.shape == (240, 320, 3)
    assert (pixels == 33).all()


def test_a_vanishing_camera_is_an_error_on_diagnostics_and_comes_back_by_itself(rig, capfd):
    rig = rig(topics.image("wrist"), topics.DIAGNOSTICS)
    rig.until(lambda: rig.got[topics.image("wrist")], value=1)

    rig.plugged = False
    absent = f"no RealSense camera with serial '{SERIAL}': serials found: none"
    rig.until(lambda: (runtime.ERROR, absent) in rig.statuses())
    log = capfd.readouterr().err
    assert "sent no frame for 0.3 s: check its cable" in log
    assert log.count("no RealSense camera") == 1  # tried many times, said once
    assert "Traceback" not in log

    rig.plugged = True
    seen = len(rig.got[topics.image("wrist")])
    rig.until(lambda: len(rig.got[topics.image("wrist")]) > seen, value=2)
    rig.until(lambda: rig.statuses()[-1] == (runtime.OK, "streaming"), value=2)
