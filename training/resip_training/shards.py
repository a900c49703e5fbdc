"""Work that several processes share without ever meeting: each takes its part of the seeds or episodes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from resip.errors import ResipError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """What one of several processes does: every ``count``-th thing, from the ``index``-th on."""

    index: int
    """From 1 to ``count``."""
    count: int

    @staticmethod
    def parse(text: str) -> Shard:
        """Read "2/4".

        Raises:
          ResipError: it is not of that form.
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            raise ResipError(f"shard {text!r} is not I/N with I from 1 to N, such as 2/4")
        return Shard(int(index), int(count))

    @staticmethod
    def asked_for(text: str | None) -> Shard | None:
        """That of an option like "2/4", or this process's among those of a launcher such as torchrun, or none.

        Raises:
          ResipError: it is not of that form, or given to all processes of a launcher.
        """
        rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if text is None:
            return Shard(rank + 1, count) if count > 1 else None
        if count > 1:
            raise ResipError(
                f"--shard {text} for each of the launcher's {count} processes: leave it away, each has its own"
            )
        return Shard.parse(text)

    def of(self, things: Sequence[Item]) -> Sequence[Item]:
        """Those of ``things`` that are this shard's."""
        return things[self.index - 1 :: self.count]
