"""A camera without hardware: librealsense's software device, which hands out real librealsense frames."""

import numpy as np
import pyrealsense2 as rs

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
