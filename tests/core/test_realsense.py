"""The RealSense driver, fed by librealsense's own software device: real librealsense frames, no camera."""

import sys
import time

import numpy as np
import pyrealsense2 as rs
import pytest
from resip.cameras.camera import CameraError, CameraLostError
from resip.cameras.realsense import DeviceClock, RealSenseCamera, StreamSettings

SERIAL = "815412070001"


class SoftwareCamera:
    """A librealsense software device with one rgb8 stream, into which a test puts frames."""

    def __init__(self, serial=SERIAL, width=640, height=480, fps=30):
        self.size = (height, width, 3)
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, serial)
        self.sensor = self.device.add_sensor("RGB Camera")
        stream = rs.video_stream()
        stream.type, stream.index, stream.uid = rs.stream.color, 0, 1
        stream.width, stream.height, stream.fps, stream.bpp, stream.fmt = width, height, fps, 3, rs.format.rgb8
        stream.intrinsics = self._intrinsics(width, height)
        self.profile = self.sensor.add_video_stream(stream).as_video_stream_profile()
        self.count = 0

    @staticmethod
    def _intrinsics(width, height):
        intrinsics = rs.intrinsics()
        intrinsics.width, intrinsics.height = width, height
        intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy = 605.0, 606.0, 321.0, 241.0
        intrinsics.model, intrinsics.coeffs = rs.distortion.brown_conrady, [0.1, -0.2, 0.001, 0.002, 0.05]
        return intrinsics

    def put(self, value, timestamp_ms, domain=rs.timestamp_domain.global_time):
        self.count += 1
        frame = rs.software_video_frame()
        frame.pixels = np.full(self.size, value, np.uint8)
        frame.stride, frame.bpp = 3 * self.size[1], 3
        frame.timestamp, frame.domain = timestamp_ms, domain
        frame.frame_number, frame.profile = self.count, self.profile
        self.sensor.on_video_frame(frame)


@pytest.fixture
def source():
    return SoftwareCamera()


@pytest.fixture
def camera(source):
    camera = RealSenseCamera(SERIAL, read_timeout_s=0.2, devices=lambda: [source.device])
    camera.start()
    yield camera
    camera.stop()


def test_a_frame_keeps_its_pixels_its_capture_stamp_and_its_calibration(source, camera):
    source.put(77, timestamp_ms=1_700_000_000_123.0)

    frame = camera.read()

    assert frame.rgb.shape == (480, 640, 3)
    assert (frame.rgb == 77).all()
    assert frame.stamp_ns == 1_700_000_000_123_000_000
    assert (frame.intrinsics.fx, frame.intrinsics.cy) == (605.0, 241.0)
    np.testing.assert_allclose(frame.intrinsics.distortion, [0.1, -0.2, 0.001, 0.002, 0.05], rtol=1e-6)


def test_pixels_outlive_the_frame_that_librealsense_takes_back(source, camera):
    source.put(1, timestamp_ms=0.0)
    first = camera.read()
    for value in range(2, 40):
        source.put(value, timestamp_ms=0.0)
    assert (first.rgb == 1).all()


def test_a_slow_reader_gets_the_newest_frames_and_not_the_backlog(source, camera):
    for value in range(10):
        source.put(value, timestamp_ms=float(value))
    assert camera.read().rgb[0, 0, 0] >= 8


def test_stamps_of_a_device_clock_are_brought_to_the_system_clock(source, camera):
    before_ns = time.time_ns()
    source.put(0, timestamp_ms=5_000.0, domain=rs.timestamp_domain.hardware_clock)
    stamp_ns = camera.read().stamp_ns
    assert before_ns <= stamp_ns <= time.time_ns()


def test_a_device_clock_follows_the_least_delay_seen():
    clock = DeviceClock()
    offset, delays_ns = 10**18, [7_000_000, 2_000_000, 30_000_000]

    stamps = [clock.to_system_ns(i * 33_000_000, offset + i * 33_000_000 + d) for i, d in enumerate(delays_ns)]

    errors_ns = [stamp - offset - i * 33_000_000 for i, stamp in enumerate(stamps)]
    assert errors_ns == [7_000_000, 2_000_000, 2_000_000]


def test_an_absent_serial_is_an_error_that_lists_those_found(source):
    other = SoftwareCamera(serial="999")
    camera = RealSenseCamera("123", devices=lambda: [source.device, other.device])
    with pytest.raises(CameraError, match=f"no RealSense camera with serial '123': serials found: {SERIAL}, 999"):
        camera.start()


def test_no_camera_at_all_says_none():
    with pytest.raises(CameraError, match="serials found: none"):
        RealSenseCamera(SERIAL, devices=list).start()


def test_a_stream_that_the_camera_lacks_is_an_error_that_lists_those_it_has(source):
    camera = RealSenseCamera(SERIAL, StreamSettings(1280, 720, 60), devices=lambda: [source.device])
    with pytest.raises(CameraError, match=r"no rgb8 stream 1280x720@60: it offers 640x480@30"):
        camera.start()


def test_a_camera_that_goes_silent_is_lost_and_comes_back_after_a_restart(source, camera):
    with pytest.raises(CameraLostError, match=rf"camera {SERIAL} sent no frame for 0\.2 s: check its cable"):
        camera.read()

    camera.stop()
    camera.start()
    source.put(3, timestamp_ms=1.0)

    assert (camera.read().rgb == 3).all()


def test_a_missing_library_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(CameraError, match="need pyrealsense2: install it with `pip install pyrealsense2`"):
        RealSenseCamera(SERIAL).start()


def test_stopping_twice_is_harmless(camera):
    camera.stop()
    camera.stop()
    with pytest.raises(CameraLostError, match="is not started"):
        camera.read()
