"""Between ROS messages and numpy: the only place that knows both.

Large arrays cross as one block (``array.array``): rclpy's element-wise path is a hundred times slower.
"""

from __future__ import annotations

import array
from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Pose as PoseMsg
from geometry_msgs.msg import PoseArray, PoseStamped, TwistStamped
from numpy.typing import ArrayLike, NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header

from resip import images, rotation, spaces

NS_PER_S = 1_000_000_000


def time_msg(time_ns: int) -> Time:
    """Stamp from nanoseconds."""
    return Time(sec=time_ns // NS_PER_S, nanosec=time_ns % NS_PER_S)


def stamp_ns(stamp: Time) -> int:
    """Nanoseconds of a stamp."""
    return stamp.sec * NS_PER_S + stamp.nanosec


def header(time_ns: int, frame: str = "") -> Header:
    """Header with a stamp in nanoseconds and a frame."""
    return Header(stamp=time_msg(time_ns), frame_id=frame)


def image_msg(pixels: NDArray[np.uint8], time_ns: int, frame: str) -> Image:
    """Encode rgb8 pixels ``(height, width, 3)``."""
    height, width, _ = pixels.shape
    message = Image(header=header(time_ns, frame), height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = array.array("B", pixels.tobytes())
    return message


def compressed_msg(pixels: NDArray[np.uint8], time_ns: int, frame: str) -> CompressedImage:
    """Encode rgb8 pixels ``(height, width, 3)`` as JPEG."""
    message = CompressedImage(header=header(time_ns, frame), format="rgb8; jpeg compressed bgr8")
    message.data = array.array("B", images.encode_jpeg(pixels))
    return message


def image_pixels(message: Image, topic: str) -> NDArray[np.uint8]:
    """Decode an rgb8 image to the policy's ``(240, 320, 3)``; see ``images.from_raw``.

    Raises:
      ImageError: another encoding or size; names the topic.
    """
    return images.from_raw(message.data, message.encoding, message.height, message.width, topic)


def camera_info_msg(fx: float, fy: float, width: int, height: int, time_ns: int, frame: str) -> CameraInfo:
    """Calibration of an undistorted pinhole camera whose principal point is the centre (px)."""
    cx, cy = width / 2 - 0.5, height / 2 - 0.5
    message = CameraInfo(header=header(time_ns, frame), height=height, width=width, distortion_model="plumb_bob")
    message.d = [0.0] * 5
    message.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def pose_msg(position: ArrayLike, quat: ArrayLike) -> PoseMsg:
    """Pose from a position ``(3,)`` (m) and an xyzw quaternion ``(4,)``."""
    message = PoseMsg()
    p, q = message.position, message.orientation
    p.x, p.y, p.z = (float(v) for v in np.asarray(position))
    q.x, q.y, q.z, q.w = (float(v) for v in np.asarray(quat))
    return message


def pose_stamped(pose: spaces.Pose, time_ns: int) -> PoseStamped:
    """Fingertip pose in the base frame."""
    return PoseStamped(
        header=header(time_ns, spaces.BASE_FRAME),
        pose=pose_msg(pose.position, rotation.quat_from_matrix(pose.matrix)),
    )


def pose_array(actions: ArrayLike, time_ns: int) -> PoseArray:
    """Fingertip poses of actions ``(n, 10)`` in the base frame; one whose 6D part is no rotation ends the array."""
    poses = []
    for action in np.asarray(actions):
        try:
            pose = spaces.action_pose(action)
        except ValueError:
            break
        poses.append(pose_msg(pose.position, rotation.quat_from_matrix(pose.matrix)))
    return PoseArray(header=header(time_ns, spaces.BASE_FRAME), poses=poses)


def twist_stamped(twist: ArrayLike, time_ns: int) -> TwistStamped:
    """Fingertip twist ``(6,)`` along the base axes: m/s, rad/s."""
    message = TwistStamped(header=header(time_ns, spaces.BASE_FRAME))
    linear, angular = message.twist.linear, message.twist.angular
    values = [float(v) for v in np.asarray(twist)]
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = values
    return message


def pose_from_msg(message: PoseMsg) -> spaces.Pose:
    """Decode a pose.

    Raises:
      ValueError: a number is not finite, or the quaternion has no length.
    """
    p, q = message.position, message.orientation
    numbers = np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])
    if not np.all(np.isfinite(numbers)):
        raise ValueError("a pose with a number that is not finite")
    return spaces.Pose(numbers[:3], rotation.matrix_from_quat(numbers[3:]))


def joint_state(
    names: Sequence[str],
    position: ArrayLike,
    time_ns: int,
    velocity: ArrayLike = (),
    effort: ArrayLike = (),
) -> JointState:
    """Joint state: rad or m, rad/s or m/s, Nm or N."""
    message = JointState(header=header(time_ns), name=list(names))
    message.position = np.asarray(position, dtype=np.float64).tolist()
    message.velocity = np.asarray(velocity, dtype=np.float64).tolist()
    message.effort = np.asarray(effort, dtype=np.float64).tolist()
    return message


def diagnostics(time_ns: int, name: str, level: bytes, message: str, values: Mapping[str, object]) -> DiagnosticArray:
    """One status: ``name`` of the part, level OK, WARN or ERROR, one line for a person, values for programs.

    Floats are written with up to six significant digits, booleans as true or false.
    """
    status = DiagnosticStatus(level=level, name=name, message=message, hardware_id="")
    status.values = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
    return DiagnosticArray(header=header(time_ns), status=[status])


def diagnostic_values(message: DiagnosticArray) -> dict[str, str]:
    """Values of the first status of an array, with its line as ``message``; empty for an empty array."""
    status = next(iter(message.status), None)
    if status is None:
        return {}
    return {item.key: item.value for item in status.values} | {"message": status.message}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)
