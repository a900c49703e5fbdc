"""Intel RealSense colour cameras, chosen by serial number."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np

from resip.cameras.camera import CameraError, CameraLostError, Frame, Intrinsics

_QUEUE_FRAMES = 2  # one being read, one newer: an old frame is worth nothing
_CLOCK_WINDOW_FRAMES = 300  # 10 s at 30 fps: short enough that the device clock's drift stays below 1 ms

LIBUSB_REMEDY: Final = "install libusb with `apt install libusb-1.0-0`"
PYREALSENSE_REMEDY: Final = "install it with `pip install pyrealsense2`"


def load_library() -> ModuleType:
    """Import pyrealsense2.

    Raises:
      CameraError: it, or the libusb it needs, is missing; the message says what to install.
    """
    try:
        import pyrealsense2
    except ModuleNotFoundError as error:
        raise CameraError(f"RealSense cameras need pyrealsense2: {PYREALSENSE_REMEDY}") from error
    except ImportError as error:
        raise CameraError(f"pyrealsense2 does not load ({error}): {LIBUSB_REMEDY}") from error
    return pyrealsense2


def connected_devices() -> list[Any]:
    """List the RealSense devices on this machine."""
    return list(load_library().context().query_devices())


def serial_of(device: Any) -> str:
    """Read a device's serial number."""
    return device.get_info(load_library().camera_info.serial_number)


@dataclass(frozen=True)
class StreamSettings:
    """The colour stream that is asked of the camera."""

    width: int = 640
    height: int = 480
    fps: int = 30


class DeviceClock:
    """Maps a free-running device clock to the system clock.

    A frame arrives later than it was taken, by a transport delay that is never negative and now and then
    small: the smallest difference seen in a window is the offset of the clocks, up to that least delay.
    """

    def __init__(self, window_frames: int = _CLOCK_WINDOW_FRAMES) -> None:
        self._offsets_ns: deque[int] = deque(maxlen=window_frames)

    def to_system_ns(self, device_ns: int, arrival_ns: int) -> int:
        """Convert the device time of a frame that arrived at ``arrival_ns`` of the system clock."""
        self._offsets_ns.append(arrival_ns - device_ns)
        return device_ns + min(self._offsets_ns)


class RealSenseCamera:
    """The colour stream of one RealSense camera (rgb8), stamped at capture. Implements ``Camera``.

    It talks to the colour sensor itself rather than through librealsense's pipeline, so that the frames
    of a software device take exactly the path of a real one.
    """

    def __init__(
        self,
        serial: str,
        settings: StreamSettings | None = None,
        read_timeout_s: float = 1.0,
        devices: Callable[[], Sequence[Any]] = connected_devices,
    ) -> None:
        self._serial = serial
        self._settings = settings or StreamSettings()
        self._read_timeout_s = read_timeout_s
        self._devices = devices
        self._clock = DeviceClock()
        self._sensor: Any = None
        self._queue: Any = None

    def start(self) -> None:
        """Open the camera and begin streaming.

        Raises:
          CameraError: no such serial (the message lists those found), no such stream, or the device is busy.
        """
        rs = load_library()
        sensor, profile = self._find_stream(self._find_device())
        if sensor.supports(rs.option.global_time_enabled):
            sensor.set_option(rs.option.global_time_enabled, 1)
        self._queue = rs.frame_queue(_QUEUE_FRAMES)
        self._clock = DeviceClock()
        try:
            sensor.open(profile)
            sensor.start(self._queue)
        except RuntimeError as error:
            raise CameraError(
                f"camera {self._serial} does not start ({error}): is another program using it?"
            ) from error
        self._sensor = sensor

    def read(self) -> Frame:
        """Wait for the next frame.

        Raises:
          CameraLostError: none came within the read timeout, or the camera is not started.
        """
        if self._queue is None:
            raise CameraLostError(f"camera {self._serial} is not started")
        try:
            frame = self._queue.wait_for_frame(round(self._read_timeout_s * 1000))
        except RuntimeError as error:
            raise CameraLostError(
                f"camera {self._serial} sent no frame for {self._read_timeout_s:g} s: check its cable"
            ) from error
        # a copy: librealsense takes the memory back when the frame goes
        rgb = np.array(np.asanyarray(frame.get_data()), dtype=np.uint8)
        return Frame(rgb, self._capture_stamp_ns(frame), _intrinsics(frame))

    def stop(self) -> None:
        """End streaming; harmless when not started or already unplugged."""
        sensor, self._sensor, self._queue = self._sensor, None, None
        if sensor is None:
            return
        for release in (sensor.stop, sensor.close):
            try:
                release()
            except RuntimeError:  # an unplugged device cannot be asked to stop
                continue

    def _find_device(self) -> Any:
        devices = {serial_of(device): device for device in self._devices()}
        if self._serial not in devices:
            found = ", ".join(sorted(devices)) or "none"
            raise CameraError(f"no RealSense camera with serial {self._serial!r}: serials found: {found}")
        return devices[self._serial]

    def _find_stream(self, device: Any) -> tuple[Any, Any]:
        rs = load_library()
        wanted = (self._settings.width, self._settings.height, self._settings.fps)
        offered = set()
        for sensor in device.query_sensors():
            for profile in sensor.get_stream_profiles():
                if profile.stream_type() != rs.stream.color or profile.format() != rs.format.rgb8:
                    continue
                video = profile.as_video_stream_profile()
                size = (video.width(), video.height(), video.fps())
                if size == wanted:
                    return sensor, profile
                offered.add(size)
        listed = ", ".join(f"{w}x{h}@{fps}" for w, h, fps in sorted(offered)) or "none"
        raise CameraError(
            f"camera {self._serial} has no rgb8 stream {wanted[0]}x{wanted[1]}@{wanted[2]}: it offers {listed}"
        )

    def _capture_stamp_ns(self, frame: Any) -> int:
        rs = load_library()
        stamp_ns = round(frame.timestamp * 1e3) * 1000  # whole microseconds: all that a double of ms holds
        if frame.frame_timestamp_domain == rs.timestamp_domain.hardware_clock:
            return self._clock.to_system_ns(stamp_ns, time.time_ns())
        return stamp_ns  # global and system time are the host's clock already


def _intrinsics(frame: Any) -> Intrinsics:
    found = frame.profile.as_video_stream_profile().intrinsics
    return Intrinsics(
        found.width, found.height, found.fx, found.fy, found.ppx, found.ppy, tuple(float(c) for c in found.coeffs)
    )
