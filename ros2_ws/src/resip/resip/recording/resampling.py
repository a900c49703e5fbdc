"""A bag as the steps that a policy learns from: what was observed at each executed target, and the target.

A step is a tick of the 10 Hz clock at which a target was published. Its observation is the one that the policy node's
own synchroniser gives for the same stamps at the tick: the newest front image, with the wrist image and the robot state
nearest to it. Everything goes by capture stamps; when a message was recorded does not matter.

Idle steps are left out, as the reference does: a step counts if its target moved, or if the gripper was switched not
more than 8 steps ago. Ticks without a target (the arm held) are no steps either. The arm stands still in both, so
that what follows joins what was before.

A step that moved without an observation is another matter. Joining over it would teach a jump, and ending an episode
there would teach to stop in mid-motion, because a chunk past an episode's end repeats its last action. So such a
recording is refused as a whole; only before its first observation are steps left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from resip import images, rotation, spaces, topics
from resip.control import panda
from resip.errors import ResipError
from resip.policy.synchroniser import MAX_AGE_S, MAX_SKEW_S, STATE, Synchroniser
from resip.recording.reader import Bag, BagError, Record

Array = NDArray[np.float64]
Stamps = NDArray[np.int64]

_NS_PER_S: Final = 1e9
_PERIOD_NS: Final = round(spaces.CONTROL_PERIOD_S * _NS_PER_S)
#: Steps after the gripper was switched that count although nothing moves: it takes so long to close.
GRIPPER_STEPS: Final = 8
#: Below this change of its numbers (m, entries of the rotation) a target is the same as before.
_STILL: Final = 1e-5
_STREAMS: Final = (*spaces.CAMERAS, STATE)


class ResamplingError(ResipError):
    """A bag that no steps can be made from."""


@dataclass(frozen=True)
class Matching:
    """Bounds of what belongs together; the defaults are the policy node's.

    Attributes:
      max_skew_s: largest distance in time of wrist image and robot state from the front image.
      max_age_s: largest age of the front image at the tick.
    """

    max_skew_s: float = MAX_SKEW_S
    max_age_s: float = MAX_AGE_S


@dataclass(frozen=True)
class Steps:
    """T steps of a recording, in the order of their ticks.

    Attributes:
      tick_ns: ``(T,)``, stamps of the executed targets.
      observed_ns: ``(T,)`` of each stream (``front``, ``wrist``, ``state``): stamps of what was observed.
      robot_state: ``(T, 16)``, see ``resip.spaces``.
      joint_positions: ``(T, 7)`` rad.
      action: ``(T, 10)``, the target and the gripper command as executed.
      images: ``(T, 240, 320, 3)`` uint8 rgb8 of each camera.
      held: ticks between first and last that had no target.
      idle: steps left out because nothing happened.
      unobserved: steps left out before the first observation.
      damage: what is wrong with the bag, ``""`` where nothing is; the steps are what survives.
      heard_until_ns: stamp of the newest robot state that survives.
    """

    tick_ns: Stamps
    observed_ns: dict[str, Stamps]
    robot_state: Array
    joint_positions: Array
    action: Array
    images: dict[str, NDArray[np.uint8]]
    held: int
    idle: int
    unobserved: int
    damage: str
    heard_until_ns: int

    def __len__(self) -> int:
        return len(self.tick_ns)


def resample(bag: Bag, run_s: tuple[float, float] | None = None, matching: Matching | None = None) -> Steps:
    """Make the steps of a bag.

    Args:
      bag: compressed or raw images (raw ones are preferred), joint states and targets.
      run_s: ROS times between which targets count; None for all.
      matching: bounds.

    Raises:
      ResamplingError: a topic is missing, an observation is missing where the arm moved, or nothing moved.
      ImageError: an image has another size or encoding, or is broken.
    """
    heard = _Heard(bag)
    ticks = _executed(heard, run_s)
    kept = _active(ticks)
    moments, unobserved = _observations(heard, ticks.stamp_ns[kept], matching or Matching())
    rows = np.flatnonzero(kept)[unobserved:]
    observed_ns = {name: heard.stamps_ns(name)[[moment[name] for moment in moments]] for name in _STREAMS}
    joints = [heard.samples[heard.topic[STATE]][moment[STATE]][1] for moment in moments]
    return Steps(
        tick_ns=ticks.stamp_ns[rows],
        observed_ns=observed_ns,
        robot_state=np.array([panda.measured_state(position, velocity) for position, velocity in joints]),
        joint_positions=np.array([position[: panda.DOF] for position, _ in joints]),
        action=ticks.action[rows],
        images={name: _pictures(bag, heard.topic[name], observed_ns[name]) for name in spaces.CAMERAS},
        held=int(ticks.number[-1] - ticks.number[0]) + 1 - len(ticks.number),
        idle=int(np.sum(~kept)),
        unobserved=unobserved,
        damage=heard.damage,
        heard_until_ns=int(heard.stamps_ns(STATE)[-1]),
    )


class _Heard:
    """The messages of a bag that matter, by topic and in the order of their stamps; of images the stamps only.

    Raises:
      ResamplingError: a topic is missing.
    """

    def __init__(self, bag: Bag) -> None:
        self.path = bag.path
        self.damage = "" if bag.complete else f"{bag.path} was never closed, what follows its last whole chunk is lost"
        self.samples: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        self._names: set[str] = set()
        try:
            for record in bag.records():
                self._hear(record)
        except BagError as error:
            self.damage = str(error)
        for samples in self.samples.values():
            samples.sort(key=lambda sample: sample[0])
        raw = {camera: topics.image(camera) for camera in spaces.CAMERAS}
        self.topic = {
            **{camera: raw[camera] if raw[camera] in self.samples else topics.compressed(camera) for camera in raw},
            STATE: topics.JOINT_STATES,
        }
        self._require(topics.TARGET_POSE, topics.TARGET_GRIPPER, *self.topic.values())

    def _hear(self, record: Record) -> None:
        self._names.add(record.topic)
        stamp_ns = record.stamp_ns
        if record.topic in _CONTENT and stamp_ns is not None:
            self.samples[record.topic].append((stamp_ns, _CONTENT[record.topic](record)))

    def _require(self, *wanted: str) -> None:
        missing = [topic for topic in wanted if topic not in self.samples]
        if missing:
            there = ", ".join(sorted(self._names)) or "nothing"
            damage = f" ({self.damage})" if self.damage else ""
            raise ResamplingError(f"{self.path} has no message of {', '.join(missing)}; it has {there}{damage}")

    def stamps_ns(self, stream: str) -> Stamps:
        """Stamps of a stream."""
        return np.array([stamp_ns for stamp_ns, _ in self.samples[self.topic[stream]]], dtype=np.int64)


@dataclass(frozen=True)
class _Ticks:
    """Executed targets: number on the 10 Hz clock ``(n,)``, stamp ``(n,)`` and action ``(n, 10)``."""

    number: Stamps
    stamp_ns: Stamps
    action: Array


def _executed(heard: _Heard, run_s: tuple[float, float] | None) -> _Ticks:
    """The target nearest to each tick of the clock that the first one sets."""
    targets = heard.samples[topics.TARGET_POSE]
    if run_s is not None:
        start_ns, end_ns = (round(time_s * _NS_PER_S) for time_s in run_s)
        targets = [target for target in targets if start_ns <= target[0] <= end_ns]
    if not targets:
        raise ResamplingError(f"{heard.path} has no target within its run: nothing was executed")
    stamps_ns = np.array([stamp_ns for stamp_ns, _ in targets], dtype=np.int64)
    since_ns = stamps_ns - stamps_ns[0]
    numbers = (since_ns + _PERIOD_NS // 2) // _PERIOD_NS
    off_ns = np.abs(since_ns - numbers * _PERIOD_NS)
    best = {int(numbers[i]): i for i in sorted(range(len(targets)), key=lambda i: -off_ns[i])}
    chosen = np.array([best[number] for number in sorted(best)])
    poses = np.array([targets[i][1] for i in chosen])
    grippers = heard.samples[topics.TARGET_GRIPPER]
    commanded_ns = np.array([stamp_ns for stamp_ns, _ in grippers], dtype=np.int64)
    latest = np.searchsorted(commanded_ns, stamps_ns[chosen], side="right") - 1
    if latest[0] < 0:
        raise ResamplingError(f"{heard.path}: the first target comes before the first of {topics.TARGET_GRIPPER}")
    action = spaces.pack_action(
        poses[:, :3], rotation.matrix_from_quat(poses[:, 3:]), np.array([grippers[i][1] for i in latest])
    )
    action[:, spaces.ACTION_GRIPPER.start] = spaces.gripper_command(action)
    return _Ticks(numbers[chosen], stamps_ns[chosen], action)


def _active(ticks: _Ticks) -> NDArray[np.bool_]:
    """Which steps count ``(n,)``: those whose target moved, and those shortly after the gripper was switched."""
    pose, gripper = ticks.action[:, : spaces.ACTION_GRIPPER.start], ticks.action[:, spaces.ACTION_GRIPPER.start]
    moved = np.abs(np.diff(pose, axis=0, prepend=np.inf)).max(axis=1) > _STILL
    switched = np.diff(gripper, prepend=gripper[0]) != 0
    never = -GRIPPER_STEPS - 1
    last_switch = np.maximum.accumulate(np.where(switched, ticks.number, never))
    return moved | (ticks.number - last_switch <= GRIPPER_STEPS)


def _observations(heard: _Heard, tick_ns: Stamps, matching: Matching) -> tuple[list[dict[str, int]], int]:
    """What the policy node would have seen at each tick: a sample's index in each stream; ticks before the first."""
    origin_ns = tick_ns[0]  # times near zero, so that nothing depends on when it was recorded
    synchroniser = Synchroniser(_STREAMS, matching.max_skew_s, matching.max_age_s)
    stamps_ns = {name: heard.stamps_ns(name) for name in _STREAMS}
    added = dict.fromkeys(_STREAMS, 0)
    moments: list[dict[str, int]] = []
    unobserved, reason = 0, ""
    for tick in tick_ns:
        for name in _STREAMS:
            until = int(np.searchsorted(stamps_ns[name], tick, side="right"))
            for i in range(added[name], until):
                synchroniser.add(name, (stamps_ns[name][i] - origin_ns) / _NS_PER_S, i)
            added[name] = until
        moment = synchroniser.newest((tick - origin_ns) / _NS_PER_S)
        if not isinstance(moment, str):
            moments.append(moment.samples)
        elif moments:
            at_s = (tick - tick_ns[0]) / _NS_PER_S
            raise ResamplingError(f"{heard.path} has a gap {at_s:.1f} s into its run, where the arm moved: {moment}")
        else:
            unobserved, reason = unobserved + 1, moment
    if not moments:
        raise ResamplingError(f"{heard.path} has no step with an observation: {reason}")
    return moments, unobserved


def _pictures(bag: Bag, topic: str, stamps_ns: Stamps) -> NDArray[np.uint8]:
    """Decode the images of these stamps: ``(T, 240, 320, 3)``."""
    pictures = np.empty((len(stamps_ns), *images.POLICY_SHAPE), np.uint8)
    missing = set(stamps_ns.tolist())
    for record in bag.records([topic]):
        if record.stamp_ns in missing:
            pictures[stamps_ns == record.stamp_ns] = _picture(record, bag)
            missing.discard(record.stamp_ns)
        if not missing:
            break  # of a damaged bag, nothing beyond what was heard is read
    return pictures


def _picture(record: Record, bag: Bag) -> images.Rgb:
    message, source = record.decode(), f"{record.topic} in {bag.path}"
    if record.topic.endswith("/compressed"):
        return images.preprocess(images.decode_jpeg(bytes(message.data), source), source)
    return images.from_raw(message.data, message.encoding, message.height, message.width, source)


def _joints(record: Record) -> tuple[Array, Array]:
    message = record.decode()
    wanted = len(panda.JOINT_NAMES) + len(panda.FINGER_NAMES)
    if len(message.position) != wanted or len(message.velocity) != wanted:
        n_positions, n_velocities = len(message.position), len(message.velocity)
        raise ResamplingError(
            f"{record.topic} has {n_positions} positions and {n_velocities} velocities, {wanted} of each are needed"
        )
    return message.position, message.velocity


def _pose(record: Record) -> Array:
    pose = record.decode().pose
    p, q = pose.position, pose.orientation
    numbers = np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])
    if not np.isfinite(numbers).all() or not numbers[3:].any():
        raise ResamplingError(f"{record.topic} has a target that is no pose: {numbers.tolist()}")
    return numbers


def _nothing(record: Record) -> None:
    """Images are decoded when it is known which are needed."""


_CONTENT: Final[dict[str, Callable[[Record], Any]]] = {
    topics.TARGET_POSE: _pose,
    topics.TARGET_GRIPPER: lambda record: float(record.decode().position[0]),
    topics.JOINT_STATES: _joints,
    **{topic(camera): _nothing for camera in spaces.CAMERAS for topic in (topics.image, topics.compressed)},
}
