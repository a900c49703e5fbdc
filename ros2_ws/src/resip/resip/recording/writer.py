"""Writes a rosbag2 directory with one MCAP file, message by message, as they came off the wire."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from ruamel.yaml import YAML

from resip.errors import ResipError
from resip.recording import definitions

#: Chunks of a quarter of a megabyte, or of a period.
_CHUNK_BYTES: Final = 256 * 1024
#: A chunk is closed this often even if it is small: what a kill can cost.
FLUSH_PERIOD_S: Final = 0.1
_SEQUENCE_MODULO: Final = 2**32
_FOREVER: Final = {"sec": 9223372036, "nsec": 854775807}
#: Format 8 (Jazzy): the newest whose QoS field every distribution since Humble still reads.
_FORMAT_VERSION: Final = 8
METADATA_FILE: Final = "metadata.yaml"
LOST_KEY: Final = "resip_lost_messages"
#: Key of the bag's free metadata that tells, as JSON, what demonstration it holds.
DEMONSTRATION_KEY: Final = "resip_demonstration"
#: The same of a policy's trial.
TRIAL_KEY: Final = "resip_trial"


@dataclass(frozen=True)
class OfferedQos:
    """The quality of service that a topic's publisher offers, as a bag keeps it for playing back."""

    reliable: bool
    transient_local: bool = False
    depth: int = 10

    def as_rosbag2(self) -> dict[str, Any]:
        """The profile in rosbag2's fields and numbers."""
        return {
            "history": 1,  # keep last
            "depth": self.depth,
            "reliability": 1 if self.reliable else 2,
            "durability": 1 if self.transient_local else 2,
            "deadline": dict(_FOREVER),
            "lifespan": dict(_FOREVER),
            "liveliness": 1,  # automatic
            "liveliness_lease_duration": dict(_FOREVER),
            "avoid_ros_namespace_conventions": False,
        }


class BagExistsError(ResipError):
    """A recording that would overwrite another."""


class BagWriter:
    """One bag being written.

    Every complete chunk is on disk and readable even when the process is killed; ``close`` adds the index,
    ``metadata.yaml`` and what was lost. Several channels never share a topic.
    """

    def __init__(self, directory: Path) -> None:
        """Create the directory.

        Raises:
          BagExistsError: there is a bag in it already.
        """
        self.directory = directory
        self._path = directory / f"{directory.name}_0.mcap"
        if self._path.exists():
            raise BagExistsError(f"{self._path} exists already: a recording never overwrites another")
        directory.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb")
        self._mcap = McapWriter(self._file, chunk_size=_CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._mcap.start(profile="ros2", library="resip")
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._topics: dict[str, dict[str, Any]] = {}
        self._counts: dict[str, int] = {}
        self._first_ns: int | None = None
        self._last_ns = 0
        self._flushed_s = time.monotonic()

    def add_topic(self, topic: str, type_name: str, qos: OfferedQos) -> None:
        """Declare a topic before its first message; declaring it again does nothing.

        Args:
          topic: its full name.
          type_name: such as ``sensor_msgs/msg/JointState``.
          qos: what its publisher offers.

        Raises:
          UnknownMessageError: no standard type.
        """
        if topic in self._channels:
            return
        if type_name not in self._schemas:
            text = definitions.definition(type_name)
            self._schemas[type_name] = self._mcap.register_schema(type_name, "ros2msg", text.encode())
        profiles = _yaml([qos.as_rosbag2()])
        self._channels[topic] = self._mcap.register_channel(
            topic, "cdr", self._schemas[type_name], {"offered_qos_profiles": profiles}
        )
        self._topics[topic] = {
            "name": topic,
            "type": type_name,
            "serialization_format": "cdr",
            "offered_qos_profiles": profiles,
            "type_description_hash": definitions.type_hash(type_name),
        }
        self._counts[topic] = 0

    def write(self, topic: str, data: bytes, log_time_ns: int, publish_time_ns: int, sequence: int = 0) -> None:
        """Add a serialised message of a declared topic: times in nanoseconds of the recorder's clock."""
        self._mcap.add_message(
            self._channels[topic], log_time_ns, data, publish_time_ns, sequence=sequence % _SEQUENCE_MODULO
        )
        self._counts[topic] += 1
        self._first_ns = log_time_ns if self._first_ns is None else min(self._first_ns, log_time_ns)
        self._last_ns = max(self._last_ns, log_time_ns)

    def flush(self) -> None:
        """Hand what was written to the operating system, at most every ``FLUSH_PERIOD_S``: it outlives a kill."""
        if time.monotonic() - self._flushed_s < FLUSH_PERIOD_S:
            return
        self._flushed_s = time.monotonic()
        self._mcap._Writer__finalize_chunk()  # pyright: ignore[reportAttributeAccessIssue]  # mcap has no other way
        self._file.flush()

    def close(self, custom: Mapping[str, str]) -> None:
        """Finish the file and write ``metadata.yaml``, with ``custom`` as its free key-value pairs."""
        information = self._information(custom)
        self._mcap.add_metadata("rosbag2", {"serialized_metadata": _yaml(information)})
        self._mcap.finish()
        self._file.close()
        metadata = _yaml({"rosbag2_bagfile_information": information})
        (self.directory / METADATA_FILE).write_text(metadata + "\n")

    def _information(self, custom: Mapping[str, str]) -> dict[str, Any]:
        start_ns = self._first_ns or 0
        count = sum(self._counts.values())
        times = {
            "duration": {"nanoseconds": self._last_ns - start_ns if count else 0},
            "starting_time": {"nanoseconds_since_epoch": start_ns},
            "message_count": count,
        }
        return {
            "version": _FORMAT_VERSION,
            "storage_identifier": "mcap",
            **times,
            "topics_with_message_count": [
                {"topic_metadata": metadata, "message_count": self._counts[topic]}
                for topic, metadata in self._topics.items()
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self._path.name],
            "files": [{"path": self._path.name, **times}],
            "custom_data": dict(custom),
            "ros_distro": "",
        }


def _yaml(value: Any) -> str:
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue().strip()
