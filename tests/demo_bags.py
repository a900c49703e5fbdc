"""Makes the bag of a demonstration, without ROS: an arm that moves, two cameras, targets at 10 Hz."""

import functools
import json
from dataclasses import dataclass, field

import numpy as np
from resip import images, topics
from resip.control import panda
from resip.recording import definitions
from resip.recording.story import Story
from resip.recording.writer import DEMONSTRATION_KEY, LOST_KEY, BagWriter, OfferedQos
from trial_bags import header, make, pose

MS = 1_000_000
START_NS = 100_000 * MS
POINTING_DOWN = np.array([1.0, 0.0, 0.0, 0.0])


def grey(value, size=(240, 320)):
    """A picture of one brightness, which JPEG keeps nearly."""
    return np.full((*size, 3), value, np.uint8)


@functools.cache
def jpeg(value, size):
    return np.frombuffer(images.encode_jpeg(grey(value, size)), np.uint8)


def joints_at(t):
    """Joints (9,) and their speeds (9,) at ``t`` s."""
    swing = 0.1 * np.sin(t + np.arange(panda.DOF))
    position = np.append(panda.RESET_RAD + swing, [0.03, 0.03])
    return position, np.append(0.1 * np.cos(t + np.arange(panda.DOF)), [0.0, 0.0])


@dataclass
class DemoBag:
    """What is recorded; times in ms since the start, of the cameras' and the robot's own stamps."""

    duration_ms: int = 2000
    start_ns: int = START_NS
    camera_period_ms: int = 33
    offset_ms: dict = field(default_factory=lambda: {"front": 3.2, "wrist": 11.4})
    dropped: frozenset = frozenset()  # (stream, number of the message)
    silent: frozenset = frozenset()  # streams without any message
    raw: bool = False
    size: tuple = (240, 320)
    held_ticks: frozenset = frozenset()  # without a target
    still_ticks: frozenset = frozenset()  # with the target of the tick before
    closes_at: int = 10**9  # tick at which the gripper closes

    def frame_stamps(self, camera):
        """Stamps (ns) of the pictures that come, and the brightness of each."""
        period, first = self.camera_period_ms * MS, self.start_ns + round(self.offset_ms[camera] * MS) - 100 * MS
        n = (self.duration_ms + 100) // self.camera_period_ms
        numbers = [i for i in range(n) if (camera, i) not in self.dropped]
        return [(first + i * period, (7 * i + (camera == "wrist")) % 250) for i in numbers]

    def state_stamps(self):
        n = self.duration_ms // 10 + 10
        return [self.start_ns + (i - 10) * 10 * MS for i in range(n) if ("state", i) not in self.dropped]

    def targets(self):
        """Stamp, position and gripper command of each tick's target."""
        position = None
        for k in range(self.duration_ms // 100):
            if position is None or k not in self.still_ticks:
                position = np.array([0.5 + 0.004 * k, 0.05, 0.2])
            if k not in self.held_ticks:
                yield self.start_ns + k * 100 * MS, position, 1.0 if k >= self.closes_at else -1.0

    def messages(self):
        """Topic, type, message and stamp of everything, by stamp."""
        found = []
        if "state" not in self.silent:
            found += [self._state(stamp) for stamp in self.state_stamps()]
        for camera in {"front", "wrist"} - self.silent:
            found += [self._image(camera, stamp, value) for stamp, value in self.frame_stamps(camera)]
        if "targets" not in self.silent:
            for stamp, position, gripper in self.targets():
                found += self._target(stamp, position, gripper)
        return sorted(found, key=lambda item: item[3])

    def _state(self, stamp):
        position, velocity = joints_at((stamp - self.start_ns) * 1e-9)
        names = [*panda.JOINT_NAMES, *panda.FINGER_NAMES]
        kind = "sensor_msgs/msg/JointState"
        fields = {"name": names, "position": position, "velocity": velocity, "effort": np.empty(0)}
        return topics.JOINT_STATES, kind, make(kind, header=header(stamp), **fields), stamp

    def _image(self, camera, stamp, value):
        if not self.raw:
            kind = "sensor_msgs/msg/CompressedImage"
            data = jpeg(value, self.size)
            return topics.compressed(camera), kind, make(kind, header=header(stamp), format="jpeg", data=data), stamp
        kind, (height, width) = "sensor_msgs/msg/Image", self.size
        fields = {"height": height, "width": width, "encoding": "rgb8", "is_bigendian": 0, "step": 3 * width}
        data = grey(value, self.size).ravel()
        return topics.image(camera), kind, make(kind, header=header(stamp), data=data, **fields), stamp

    def _target(self, stamp, position, gripper):
        kind = "geometry_msgs/msg/PoseStamped"
        target = make(kind, header=header(stamp), pose=pose(position, POINTING_DOWN))
        joint = "sensor_msgs/msg/JointState"
        empty = np.empty(0)
        fields = {"name": ["gripper"], "position": np.array([gripper]), "velocity": empty, "effort": empty}
        command = make(joint, header=header(stamp), **fields)
        return [(topics.TARGET_GRIPPER, joint, command, stamp), (topics.TARGET_POSE, kind, target, stamp)]

    def write(self, directory, story=None, close=True):
        """Write it as the recorder would, a few milliseconds after the stamps; the directory."""
        writer = BagWriter(directory)
        for topic, kind, message, stamp in self.messages():
            writer.add_topic(topic, kind, OfferedQos(reliable=True))
            data = bytes(definitions.typestore().serialize_cdr(message, kind))
            writer.write(topic, data, stamp + 4 * MS, stamp + 2 * MS)
        if close:
            writer.close({LOST_KEY: "{}", **({DEMONSTRATION_KEY: json.dumps(story.as_json())} if story else {})})
        else:
            writer.flush()
        return directory


def story(result="success", **fields):
    """A teleoperated demonstration's."""
    return Story("one_leg", "spacemouse", result, operator="ada", versions={"resip": "0.1.0"}, **fields)


def damage(path):
    """Overwrite some bytes in the middle of a file."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    path.write_bytes(data)
