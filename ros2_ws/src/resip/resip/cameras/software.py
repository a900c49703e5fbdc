"""A camera without hardware: librealsense's software device, which hands out real librealsense frames."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from resip.cameras.realsense import StreamSettings, load_library

SERIAL: Final = "815412070001"

_BYTES_PER_PIXEL: Final = 3


class SoftwareCamera:
    """A software device with one rgb8 stream, into which frames are put by hand.

    Attributes:
      device: what ``RealSenseCamera`` finds where it looks for devices.
      size: of a frame's pixels.
    """

    def __init__(self, serial: str = SERIAL, settings: StreamSettings | None = None) -> None:
        self._rs: Any = load_library()
        settings = settings or StreamSettings()
        self.size = (settings.height, settings.width, _BYTES_PER_PIXEL)
        self.device = self._rs.software_device()
        self.device.register_info(self._rs.camera_info.serial_number, serial)
        self._sensor = self.device.add_sensor("RGB Camera")
        self._profile = self._sensor.add_video_stream(self._stream(settings)).as_video_stream_profile()
        self._count = 0

    def put(self, pixels: ArrayLike, timestamp_ms: float, domain: Any = None) -> None:
        """Hand out one frame.

        Args:
          pixels: ``(h, w, 3)`` uint8, or what can be broadcast to it.
          timestamp_ms: of its capture.
          domain: clock of that time, a ``timestamp_domain``; by default the host's.
        """
        self._count += 1
        frame = self._rs.software_video_frame()
        frame.pixels = np.ascontiguousarray(np.broadcast_to(np.asarray(pixels, np.uint8), self.size))
        frame.stride, frame.bpp = _BYTES_PER_PIXEL * self.size[1], _BYTES_PER_PIXEL
        frame.timestamp = timestamp_ms
        frame.domain = self._rs.timestamp_domain.global_time if domain is None else domain
        frame.frame_number, frame.profile = self._count, self._profile
        self._sensor.on_video_frame(frame)

    def _stream(self, settings: StreamSettings) -> Any:
        stream = self._rs.video_stream()
        stream.type, stream.index, stream.uid = self._rs.stream.color, 0, 1
        stream.width, stream.height, stream.fps = settings.width, settings.height, settings.fps
        stream.bpp, stream.fmt = _BYTES_PER_PIXEL, self._rs.format.rgb8
        stream.intrinsics = self._intrinsics(settings)
        return stream

    def _intrinsics(self, settings: StreamSettings) -> Any:
        """About those of a D435 at 640x480."""
        intrinsics = self._rs.intrinsics()
        intrinsics.width, intrinsics.height = settings.width, settings.height
        intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy = 605.0, 606.0, 321.0, 241.0
        intrinsics.model, intrinsics.coeffs = self._rs.distortion.brown_conrady, [0.1, -0.2, 0.001, 0.002, 0.05]
        return intrinsics
