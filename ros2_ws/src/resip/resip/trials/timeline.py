"""A trial's bag as arrays on one time axis: what its measurements and its report are made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from resip import images, spaces, topics
from resip.control import panda
from resip.recording.reader import Bag, Record

Array = NDArray[np.float64]

_NS_PER_S: Final = 1e9


@dataclass(frozen=True)
class Track:
    """Samples ``values`` ``(n, ...)`` at ``times_s`` ``(n,)``, seconds since the policy started, by their stamps."""

    times_s: Array
    values: Array


@dataclass(frozen=True)
class Arrivals:
    """When the messages of a topic were stamped, published and recorded: ``(n,)`` s since the policy started."""

    stamped_s: Array
    published_s: Array
    recorded_s: Array


@dataclass(frozen=True)
class Timeline:
    """One trial, from the policy's start to the verdict.

    Poses are ``(n, 7)``: position in m and xyzw quaternion, of the fingertip in the base frame.
    """

    duration_s: float
    reached: Track
    target: Track
    gripper_width_m: Track
    gripper_command: Track
    """+1 close, -1 open."""
    part_poses: Track
    """``(n, n_parts + 1, 7)``; no sample on the robot."""
    arrivals: dict[str, Arrivals]
    policy_values: list[dict[str, str]] = field(default_factory=list)
    """What the policy's status said, oldest first."""


_DECODED: Final = (
    topics.EE_POSE,
    topics.TARGET_POSE,
    topics.JOINT_STATES,
    topics.TARGET_GRIPPER,
    topics.CELL_PART_POSES,
    topics.POLICY_STATUS,
)


def read(bag: Bag, run_s: tuple[float, float]) -> Timeline:
    """Read the run of a trial.

    Args:
      bag: the trial's.
      run_s: ROS times at which the policy started and the trial was decided.

    Raises:
      BagError: the bag is damaged.
    """
    samples: dict[str, list[tuple[float, Any]]] = defaultdict(list)
    arrivals: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    start_ns, end_ns = (round(time_s * _NS_PER_S) for time_s in run_s)
    for record in bag.records():
        stamp_ns = record.stamp_ns
        if stamp_ns is None or not start_ns <= stamp_ns <= end_ns:
            continue
        times_s = [(ns - start_ns) / _NS_PER_S for ns in (stamp_ns, record.publish_time_ns, record.log_time_ns)]
        arrivals[record.topic].append((times_s[0], times_s[1], times_s[2]))
        if record.topic in _DECODED:
            samples[record.topic].append((times_s[0], _value(record)))
    parts_shape = np.shape(samples[topics.CELL_PART_POSES][0][1]) if samples[topics.CELL_PART_POSES] else (0, 7)
    return Timeline(
        duration_s=run_s[1] - run_s[0],
        reached=_track(samples[topics.EE_POSE], (7,)),
        target=_track(samples[topics.TARGET_POSE], (7,)),
        gripper_width_m=_track(samples[topics.JOINT_STATES], ()),
        gripper_command=_track(samples[topics.TARGET_GRIPPER], ()),
        part_poses=_track(samples[topics.CELL_PART_POSES], parts_shape),
        arrivals={topic: Arrivals(*np.array(rows).T) for topic, rows in arrivals.items()},
        policy_values=[values for _, values in samples[topics.POLICY_STATUS]],
    )


def frames(bag: Bag, camera: str, run_s: tuple[float, float]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Decode a camera's pictures of the run: seconds since the policy started, and ``(h, w, 3)`` uint8 rgb."""
    start_ns, end_ns = (round(time_s * _NS_PER_S) for time_s in run_s)
    topic = topics.compressed(camera)
    for record in bag.records([topic]):
        stamp_ns = record.stamp_ns
        if stamp_ns is not None and start_ns <= stamp_ns <= end_ns:
            yield (stamp_ns - start_ns) / _NS_PER_S, images.decode_jpeg(bytes(record.decode().data), topic)


def _value(record: Record) -> Any:
    message = record.decode()
    if record.topic in (topics.EE_POSE, topics.TARGET_POSE):
        return _pose(message.pose)
    if record.topic == topics.JOINT_STATES:
        return sum(message.position[message.name.index(name)] for name in panda.FINGER_NAMES)
    if record.topic == topics.TARGET_GRIPPER:
        return message.position[0]
    if record.topic == topics.CELL_PART_POSES:
        return np.array([_pose(pose) for pose in message.poses])
    return {item.key: item.value for status in message.status for item in status.values}


def _pose(pose: Any) -> Array:
    p, q = pose.position, pose.orientation
    return np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])


def _track(samples: list[tuple[float, Any]], shape: tuple[int, ...]) -> Track:
    times = np.array([time_s for time_s, _ in samples])
    values = np.array([value for _, value in samples], dtype=np.float64).reshape(len(samples), *shape)
    return Track(times, values)


def tick_gaps(target_times_s: Array) -> int:
    """Count the 10 Hz ticks that were skipped between the first and the last target."""
    intervals = np.rint(np.diff(target_times_s) / spaces.CONTROL_PERIOD_S)
    return int(np.sum(np.maximum(intervals - 1, 0)))
