"""`resip bag to-rerun`: a bag as a Rerun recording, to scrub through in its viewer.

Cameras, the fingertip's reached and commanded poses, parts, joints, gripper and what the nodes said, each at the
time of its stamp since the bag's first. The package rerun-sdk is only imported here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from resip import spaces, topics
from resip.errors import ResipError
from resip.recording.reader import Bag, Record

_NS_PER_S: Final = 1e9
_TIMELINE: Final = "time"
_AXIS_M: Final = 0.05
_STATUSES: Final = (
    topics.ROBOT_STATUS,
    topics.POLICY_STATUS,
    topics.IK_STATUS,
    topics.CELL_STATUS,
    topics.TRIAL_STATUS,
)
_PART_M: Final = 0.01
_LEVELS: Final = ("INFO", "WARN", "ERROR", "ERROR")  # of DiagnosticStatus: ok, warn, error, stale

#: Entity's path and archetype.
Entry = tuple[str, Any]


def bag_to_rerun(bag_path: Path, out: Path) -> None:
    """Write a bag as a Rerun recording (``.rrd``).

    Raises:
      ResipError: rerun-sdk is missing, or there is a file already.
      BagError: there is no bag, or it is damaged.
    """
    if out.exists():
        raise ResipError(f"{out} exists: name another file")
    rerun = _import_rerun()
    bag = Bag(bag_path)
    recording = rerun.RecordingStream("resip", recording_id=str(bag.path))
    recording.save(out)
    count = _log(rerun, recording, bag)
    recording.flush()
    recording.disconnect()
    Console(highlight=False).print(f"{out}: {count} messages; open it with `rerun {out}`", soft_wrap=True)


def _import_rerun() -> Any:
    try:
        return importlib.import_module("rerun")
    except ImportError as error:
        raise ResipError(f"to-rerun needs the package rerun-sdk ({error}): pip install 'rerun-sdk>=0.30'") from error


def _log(rerun: Any, recording: Any, bag: Bag) -> int:
    """Log every message that has an entity; how many."""
    entities = _Entities(rerun).by_topic
    start_ns: int | None = None
    count = 0
    recording.log("world", rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    for record in bag.records(entities):
        stamp_ns = record.stamp_ns or record.log_time_ns
        start_ns = stamp_ns if start_ns is None else start_ns
        recording.set_time(_TIMELINE, duration=(stamp_ns - start_ns) / _NS_PER_S)
        for path, archetype in entities[record.topic](record):
            recording.log(path, archetype)
        count += 1
    return count


class _Entities:
    """What each message becomes; ``rerun`` is the package."""

    def __init__(self, rerun: Any) -> None:
        self._rerun = rerun
        self._said: dict[str, str] = {}
        self.by_topic: dict[str, Callable[[Record], list[Entry]]] = {
            **{topics.compressed(camera): partial(self._image, camera) for camera in spaces.CAMERAS},
            topics.EE_POSE: partial(self._frame, "reached"),
            topics.TARGET_POSE: partial(self._frame, "commanded"),
            topics.JOINT_STATES: partial(self._joints, "joints"),
            topics.TARGET_GRIPPER: partial(self._joints, "command"),
            topics.CELL_PART_POSES: self._parts,
            **dict.fromkeys(_STATUSES, self._status),
        }

    def _image(self, camera: str, record: Record) -> list[Entry]:
        data = bytes(record.decode().data)
        return [(f"cameras/{camera}", self._rerun.EncodedImage(contents=data, media_type="image/jpeg"))]

    def _frame(self, name: str, record: Record) -> list[Entry]:
        """A frame in space, and its position as curves."""
        position, quat = _pose(record.decode().pose)
        curves = [(f"{name}/{axis}_m", self._rerun.Scalars(value)) for axis, value in zip("xyz", position, strict=True)]
        return [
            (f"world/{name}", self._rerun.Transform3D(translation=position, quaternion=quat)),
            (f"world/{name}", self._rerun.TransformAxes3D(_AXIS_M)),
            *curves,
        ]

    def _joints(self, name: str, record: Record) -> list[Entry]:
        message = record.decode()
        named = zip(message.name, message.position, strict=True)
        return [(f"{name}/{joint}", self._rerun.Scalars(float(value))) for joint, value in named]

    def _parts(self, record: Record) -> list[Entry]:
        positions = [_pose(pose)[0] for pose in record.decode().poses]
        return [("world/parts", self._rerun.Points3D(positions, radii=_PART_M))]

    def _status(self, record: Record) -> list[Entry]:
        """What a node says, where it is new."""
        status = record.decode().status[0]
        if self._said.get(record.topic) == status.message:
            return []
        self._said[record.topic] = status.message
        return [(f"log{record.topic}", self._rerun.TextLog(status.message, level=_LEVELS[min(status.level, 3)]))]


def _pose(pose: Any) -> tuple[list[float], list[float]]:
    """Position (m) and xyzw quaternion of a message."""
    p, q = pose.position, pose.orientation
    return [p.x, p.y, p.z], [q.x, q.y, q.z, q.w]
