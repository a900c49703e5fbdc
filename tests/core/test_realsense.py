"""The RealSense driver, fed by librealsense's own software device: real librealsense frames, no camera."""

import sys
import time

import numpy as np
import pyrealsense2 as rs
import pytest
from resip.cameras.camera import CameraError, CameraLostError
from resip.cameras.realsense import DeviceClock, RealSenseCamera, StreamSettings
from resip.cameras.software import SERIAL, SoftwareCamera


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
