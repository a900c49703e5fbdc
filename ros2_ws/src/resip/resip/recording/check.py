"""What is in a bag, and what is missing: counts, rates, gaps and lost messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from resip import spaces, topics
from resip.recording.reader import Bag

_NS_PER_S: Final = 1e9
#: Slower topics (status, calibration) keep no cadence worth checking.
_CADENCE_FROM_HZ: Final = 5.0
_GAP_PERIODS: Final = 1.5

#: What the graph publishes wherever it runs.
GRAPH_TOPICS: Final = (
    *(topics.compressed(camera) for camera in spaces.CAMERAS),
    *(topics.camera_info(camera) for camera in spaces.CAMERAS),
    topics.JOINT_STATES,
    topics.EE_POSE,
    topics.EE_TWIST,
    topics.ROBOT_STATUS,
    topics.TARGET_POSE,
    topics.TARGET_GRIPPER,
    topics.POLICY_STATUS,
    topics.JOINT_COMMAND,
    topics.IK_STATUS,
)
#: Those that are silent while the arm holds.
COMMANDS: Final = (topics.TARGET_POSE, topics.TARGET_GRIPPER, topics.JOINT_COMMAND)
#: What the simulated cell adds.
CELL_TOPICS: Final = (topics.CLOCK, topics.CELL_STATUS, topics.CELL_PART_POSES)


@dataclass(frozen=True)
class TopicReport:
    """One topic of a bag."""

    topic: str
    type_name: str
    count: int
    rate_hz: float
    """Messages a second of their own stamps, median; 0 where there are none to tell by."""
    gaps: int
    """Intervals longer than 1.5 median periods, of topics at 5 Hz or more."""
    longest_gap_s: float
    disordered: int
    """Messages whose stamp is older than that of the one that was published before."""
    lost: int | None
    """None where the recorder could not say."""


@dataclass(frozen=True)
class BagReport:
    """A whole bag."""

    path: Path
    complete: bool
    duration_s: float
    topics: tuple[TopicReport, ...]
    missing: tuple[str, ...]
    camera_skew_s: tuple[float, float] | None = None
    """From each front frame to the nearest wrist frame, by their stamps: median and longest; None without both."""

    @property
    def count(self) -> int:
        """Messages of all topics."""
        return sum(topic.count for topic in self.topics)

    @property
    def lost(self) -> int | None:
        """Messages lost on all topics; None where the recorder could not say."""
        lost = [topic.lost for topic in self.topics]
        return None if None in lost else sum(count for count in lost if count is not None)

    @property
    def problems(self) -> list[str]:
        """One line for each thing that makes the bag unfit as a record of a trial."""
        found = []
        if not self.complete:
            found.append("not closed: the recorder was killed, and what follows its last whole chunk is missing")
        elif self.lost is None:
            found.append("does not say whether messages were lost (ROS 2 before Iron does not number them)")
        found += [f"{topic.topic}: {topic.lost} messages lost" for topic in self.topics if topic.lost]
        found += [f"{topic}: no message" for topic in self.missing]
        return found

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "path": str(self.path),
            "complete": self.complete,
            "duration_s": self.duration_s,
            "n_messages": self.count,
            "n_lost": self.lost,
            "missing_topics": list(self.missing),
            "camera_skew_s": self.camera_skew_s and dict(zip(("median", "max"), self.camera_skew_s, strict=True)),
            "topics": [vars(topic) for topic in self.topics],
        }


def inspect(path: Path, expected: Collection[str] | None = None) -> BagReport:
    """Read a bag through and report on it.

    Args:
      path: see ``Bag``.
      expected: topics that must hold a message; by default the graph's, and the cell's where the bag has a clock.

    Raises:
      BagError: no readable bag.
    """
    bag = Bag(path)
    times_ns: dict[str, list[int]] = defaultdict(list)
    sequences: dict[str, list[int]] = defaultdict(list)
    types: dict[str, str] = {}
    first_ns, last_ns = None, 0
    for record in bag.records():
        types[record.topic] = record.type_name
        stamp_ns = record.stamp_ns
        times_ns[record.topic].append(record.log_time_ns if stamp_ns is None else stamp_ns)
        sequences[record.topic].append(record.sequence)
        first_ns = record.log_time_ns if first_ns is None else first_ns
        last_ns = record.log_time_ns
    if expected is None:
        expected = GRAPH_TOPICS + CELL_TOPICS if topics.CLOCK in types else GRAPH_TOPICS
    lost = bag.lost
    reports = [
        _topic_report(
            topic, types[topic], times_ns[topic], sequences[topic], None if lost is None else lost.get(topic, 0)
        )
        for topic in sorted(types)
    ]
    missing = tuple(topic for topic in expected if topic not in types)
    duration_s = 0.0 if first_ns is None else (last_ns - first_ns) / _NS_PER_S
    skew_s = _camera_skew_s(*(times_ns.get(topics.compressed(camera), []) for camera in spaces.CAMERAS))
    return BagReport(bag.path, bag.complete, duration_s, tuple(reports), missing, skew_s)


def audit_lines(report: BagReport) -> list[str]:
    """What an operator should know of a fresh recording, in a few lines: faults, or that there are none."""
    known = [topic for topic in report.topics if topic.topic in GRAPH_TOPICS]
    gaps = [
        f"{t.topic} {t.gaps} (longest {t.longest_gap_s:.2f} s)" for t in known if t.gaps and t.topic not in COMMANDS
    ]
    disordered = [f"{t.topic} {t.disordered}" for t in known if t.disordered]
    lines = [f"audit: {problem}" for problem in report.problems] or [
        f"audit: whole, {report.count} messages in {report.duration_s:.1f} s, 0 lost"
    ]
    rates = [f"{t.topic} {t.rate_hz:.1f} Hz" for t in known if t.rate_hz]
    lines.append(f"audit: {', '.join(rates)}")
    if gaps:
        lines.append(f"audit: gaps: {', '.join(gaps)}")
    if disordered:
        lines.append(f"audit: stamps that go back: {', '.join(disordered)}")
    if report.camera_skew_s is not None:
        median_s, longest_s = report.camera_skew_s
        lines.append(f"audit: cameras apart by {median_s * 1e3:.1f} ms (median), {longest_s * 1e3:.1f} ms at most")
    return lines


def _camera_skew_s(front_ns: list[int], wrist_ns: list[int]) -> tuple[float, float] | None:
    if not front_ns or not wrist_ns:
        return None
    front, wrist = np.array(front_ns, dtype=np.int64), np.sort(np.array(wrist_ns, dtype=np.int64))
    after = np.searchsorted(wrist, front).clip(1, max(1, len(wrist) - 1))
    nearest_ns = np.minimum(abs(front - wrist[after - 1]), abs(front - wrist[after % len(wrist)]))
    return float(np.median(nearest_ns)) / _NS_PER_S, float(nearest_ns.max()) / _NS_PER_S


def _topic_report(
    topic: str, type_name: str, times_ns: list[int], sequences: list[int], lost: int | None
) -> TopicReport:
    stamps_ns = np.asarray(times_ns, dtype=np.int64)
    intervals_s = np.diff(np.sort(stamps_ns)) / _NS_PER_S
    period_s = float(np.median(intervals_s)) if intervals_s.size else 0.0
    rate_hz = 1.0 / period_s if period_s > 0 else 0.0
    gaps = int(np.sum(intervals_s > _GAP_PERIODS * period_s)) if rate_hz >= _CADENCE_FROM_HZ else 0
    # in the order of publication: log times of a simulated clock, which moves in steps, need not keep it
    published_ns = stamps_ns[np.argsort(sequences, kind="stable")]
    disordered = int(np.sum(np.diff(published_ns) < 0))
    longest_s = float(intervals_s.max()) if intervals_s.size else 0.0
    return TopicReport(topic, type_name, len(times_ns), rate_hz, gaps, longest_s, disordered, lost)
