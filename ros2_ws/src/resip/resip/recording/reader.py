"""Reads bags without ROS: rosbag2 directories with an MCAP file, also those that a crash left unfinished."""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader, make_reader
from mcap.stream_reader import CRCValidationError
from ruamel.yaml import YAML
from zstandard import ZstdError

from resip.errors import ResipError
from resip.recording import definitions
from resip.recording.writer import LOST_KEY, METADATA_FILE

#: What damage to a file shows itself as.
_DAMAGE: Final = (McapError, CRCValidationError, ZstdError, struct.error)


class BagError(ResipError):
    """Something that is no readable bag."""


@dataclass(frozen=True)
class Record:
    """One recorded message, still serialised; times in nanoseconds of the recorder's clock."""

    topic: str
    type_name: str
    log_time_ns: int
    publish_time_ns: int
    sequence: int
    data: bytes

    @property
    def stamp_ns(self) -> int | None:
        """The message's own stamp, where its type has one."""
        return definitions.stamp_ns(self.type_name, self.data)

    def decode(self) -> Any:
        """The message as an object with the fields of its type."""
        return definitions.decode(self.type_name, self.data)


class Bag:
    """A bag on disk.

    ``complete`` is False where the recorder was killed before it closed the file: such a bag reads up to
    its last whole chunk.
    """

    def __init__(self, path: Path) -> None:
        """Find the bag.

        Args:
          path: the ``.mcap`` file, its directory, or a trial's directory that holds one in ``bag/``.

        Raises:
          BagError: there is none, or several.
        """
        self.path = find_mcap(path)
        self.complete = _is_complete(self.path)
        self.custom = _custom_data(self.path.parent / METADATA_FILE)

    @property
    def lost(self) -> dict[str, int] | None:
        """Messages lost while recording, by topic; None where the recorder could not say."""
        text = self.custom.get(LOST_KEY)
        return None if text is None else json.loads(text)

    def records(self, topics: Collection[str] | None = None) -> Iterator[Record]:
        """Iterate over the messages (of some topics) in the order of their log times.

        Raises:
          BagError: the file is damaged.
        """
        wanted = None if topics is None else list(topics)
        with self.path.open("rb") as stream:
            make = make_reader if self.complete else NonSeekingReader
            reader = make(stream, validate_crcs=True)
            messages = reader.iter_messages(topics=wanted, log_time_order=self.complete)
            while True:
                try:
                    schema, channel, message = next(messages)
                except StopIteration:
                    return
                except _DAMAGE as error:
                    if not self.complete:
                        return  # the chunk that the crash cut
                    raise BagError(f"{self.path} is damaged: {error}") from error
                type_name = schema.name if schema else ""
                yield Record(
                    channel.topic, type_name, message.log_time, message.publish_time, message.sequence, message.data
                )


def find_mcap(path: Path) -> Path:
    """Find the one MCAP file at ``path``, in it, or in its ``bag`` directory.

    Raises:
      BagError: none, or several.
    """
    if path.is_file() and path.suffix == ".mcap":
        return path
    for directory in (path, path / "bag"):
        found = sorted(directory.glob("*.mcap")) if directory.is_dir() else []
        if len(found) > 1:
            raise BagError(f"{directory} holds {len(found)} mcap files: name one of them")
        if found:
            return found[0]
    raise BagError(f"no bag at {path}: expected an .mcap file, or a directory with one")


def _is_complete(path: Path) -> bool:
    with path.open("rb") as stream:
        try:
            return make_reader(stream).get_summary() is not None
        except (*_DAMAGE, OSError):
            return False


def _custom_data(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    information = YAML(typ="safe").load(path.read_text()).get("rosbag2_bagfile_information", {})
    return information.get("custom_data") or {}
