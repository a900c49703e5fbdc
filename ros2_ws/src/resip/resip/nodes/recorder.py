"""Records every topic of the graph into a bag, byte for byte as it came off the wire.

It empties its subscriptions fifty times a second instead of waiting on an executor, for three reasons: a
message costs a tenth of the time; each comes with DDS's own times and sequence number, so that a late
look neither shifts a time nor hides a loss; and a busy trial node cannot hold the recording up.
"""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import rclpy
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from std_msgs.msg import Header

from resip import topics
from resip.nodes import messages
from resip.recording import definitions
from resip.recording.loss import LossCounter
from resip.recording.writer import LOST_KEY, BagWriter, OfferedQos
from resip.safety.process import signed

_IMAGE_TYPE: Final = "sensor_msgs/msg/Image"
_DRAIN_PERIOD_S: Final = 0.02
_DISCOVERY_PERIOD_S: Final = 0.25
_DEPTH: Final = 1000  # seconds of the fastest stream: a recorder that stalls this long has other troubles


@dataclass
class _Topic:
    """A topic that is being heard."""

    name: str
    type_name: str
    qos: OfferedQos
    subscription: Subscription
    count: int = 0
    stamp_ns: int = 0
    newest: bytes = b""


class Recorder:
    """Hears every topic from its creation on, and writes what it hears while a bag is open.

    Life cycle: any number of ``start`` and ``stop``, then ``close``. Its own thread does the hearing; the
    methods may be called from another. A topic's first message is never missed by a bag that opens later,
    because subscriptions stay between bags.

    Args:
      now_ns: the clock of the graph (ROS time), whose times the bag is written in.
      raw_images: whether uncompressed images are recorded too (27 MB/s a camera at 640x480, 30 Hz).
    """

    def __init__(self, now_ns: Callable[[], int], raw_images: bool = False) -> None:
        self._now_ns = now_ns
        self._raw_images = raw_images
        # never spun, so it offers no services
        self._node = Node("trial_recorder", start_parameter_services=False, enable_rosout=False)
        self._heartbeat = self._node.create_publisher(Header, topics.RECORDER, 1)
        self._topics: dict[str, _Topic] = {}
        self._refused: set[str] = set()
        self._loss = LossCounter()
        self._counts_loss = True
        self._failure = ""
        self._writer: BagWriter | None = None
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> str:
        """Why the bag could not be written on, or nothing; what was written before is there and readable."""
        return self._failure

    def start(self, directory: Path) -> None:
        """Open a bag.

        Raises:
          BagExistsError: there is one already.
        """
        writer = BagWriter(directory)
        with self._lock:
            self._drain()  # what came before the start is not in the bag, but counts as heard
            self._loss.restart()
            self._failure = ""
            for topic in self._topics.values():
                writer.add_topic(topic.name, topic.type_name, topic.qos)
            self._writer = writer

    def stop(self, metadata: Mapping[str, str] = MappingProxyType({})) -> dict[str, int]:
        """Close the bag, if one is open; return how many messages each topic lost while it was.

        Args:
          metadata: goes into the bag's own, as its free key-value pairs.
        """
        with self._lock:
            if self._writer is None:
                return {}
            self._drain()
            writer, self._writer = self._writer, None
            lost = self._loss.lost
            self._heartbeat.publish(messages.header(self._now_ns(), topics.CLOSED))
        if not self._failure:
            writer.close({**metadata, **({LOST_KEY: json.dumps(lost)} if self._counts_loss else {})})
        return lost

    def hears(self, topic: str) -> bool:
        """Whether the recorder listens to a topic: from now on none of its messages goes unrecorded."""
        return topic in self._topics

    def newest_stamp_ns(self, topic: str) -> int:
        """Stamp of the newest message heard on a topic; 0 if none was."""
        heard = self._topics.get(topic)
        return heard.stamp_ns if heard else 0

    def newest(self, topic: str) -> Any:
        """The newest message heard on a topic, as an object with the fields of its type; None if none was."""
        heard = self._topics.get(topic)
        return definitions.decode(heard.type_name, heard.newest) if heard and heard.newest else None

    def count(self, topic: str) -> int:
        """Messages heard on a topic since the recorder was created."""
        heard = self._topics.get(topic)
        return heard.count if heard else 0

    def close(self) -> None:
        """Close an open bag and stop hearing."""
        self.stop()
        self._end.set()
        self._thread.join(timeout=2.0)
        self._node.destroy_node()

    def _run(self) -> None:
        next_discovery_s = 0.0
        while not self._end.wait(_DRAIN_PERIOD_S) and rclpy.ok():
            if time.monotonic() >= next_discovery_s:
                self._discover()
                next_discovery_s = time.monotonic() + _DISCOVERY_PERIOD_S
            with self._lock:
                self._drain()
                if self._writer is not None:
                    self._save(self._writer.flush)
                    word = self._failure or signed(topics.RECORDING)
                    self._heartbeat.publish(messages.header(self._now_ns(), word))

    def _discover(self) -> None:
        for name, types in self._node.get_topic_names_and_types():
            if name in self._topics or name in self._refused:
                continue
            if types[0] == _IMAGE_TYPE and not self._raw_images:
                self._refused.add(name)
                continue
            try:
                definitions.definition(types[0])
            except definitions.UnknownMessageError as error:
                self._refused.add(name)
                get_logger("recorder").warning(f"{name}: {error}")
                continue
            self._subscribe(name, types[0])

    def _subscribe(self, name: str, type_name: str) -> None:
        profiles = [info.qos_profile for info in self._node.get_publishers_info_by_topic(name)]
        if not profiles:
            return  # a subscriber only; its publisher may come later
        qos = OfferedQos(
            reliable=all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles),
            transient_local=all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles),
            depth=_DEPTH,
        )
        subscription = self._node.create_subscription(
            _message_class(type_name), name, _never_called, _reader_qos(qos), raw=True
        )
        with self._lock:
            self._topics[name] = _Topic(name, type_name, qos, subscription)
            if self._writer is not None:
                self._writer.add_topic(name, type_name, qos)

    def _drain(self) -> None:
        """Take every message that has come; the lock is held."""
        for topic in self._topics.values():
            handle = topic.subscription.handle
            with handle:
                while (taken := handle.take_message(topic.subscription.msg_type, True)) is not None:
                    self._hear(topic, *taken)

    def _hear(self, topic: _Topic, data: bytes, info: Any) -> None:
        topic.count += 1
        topic.newest = data
        topic.stamp_ns = definitions.stamp_ns(topic.type_name, data) or topic.stamp_ns
        sequence = info.get("publication_sequence_number")
        if sequence is None:
            self._counts_loss = False  # before ROS 2 Iron
        else:
            self._loss.see(topic.name, bytes(info["publisher_gid"]["data"]), sequence)
        writer = self._writer
        if writer is None:
            return
        # DDS tells wall times; seen from the graph's clock they lie as far back as they do on the wall's
        now_ns, wall_ns = self._now_ns(), time.time_ns()
        log_ns = max(0, now_ns - (wall_ns - info["received_timestamp"]))
        publish_ns = max(0, now_ns - (wall_ns - info["source_timestamp"]))
        self._save(lambda: writer.write(topic.name, data, log_ns, publish_ns, sequence or 0))

    def _save(self, write: Callable[[], None]) -> None:
        """Write, until that fails once, as on a full disk: a file with a gap would pass for a whole one."""
        if self._failure:
            return
        try:
            write()
        except OSError as error:
            self._failure = f"cannot write: {error.strerror}"
            get_logger("recorder").error(self._failure)


def _reader_qos(offered: OfferedQos) -> QoSProfile:
    """The strongest profile that every publisher of the topic meets, with a deep queue."""
    return QoSProfile(
        depth=_DEPTH,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE if offered.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if offered.transient_local else DurabilityPolicy.VOLATILE,
    )


def _message_class(type_name: str) -> Any:
    package, _, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def _never_called(message: bytes) -> None:
    """Rclpy wants a callback, but no executor ever spins the recorder's node."""
