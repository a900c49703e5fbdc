"""The SpaceMouse node with a cap that is pushed while one file is there, and gone while another is.

For the fault matrix only.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from pathlib import Path
from typing import Final

from resip.nodes import runtime
from resip.nodes.spacemouse_node import SpacemouseNode
from resip.teleop.source import SourceError, SourceLostError

_REPORT_PERIOD_S: Final = 0.01
_PUSH: Final = 110  # counts to the right, then to the left: some 0.1 m/s
_REPORTS_A_SIDE: Final = 300


def pushed_file(unplugged: Path) -> Path:
    """The file that has the cap pushed, beside the one that has it unplugged."""
    return unplugged.with_suffix(".pushed")


class PushedCap:
    """A SpaceMouse whose cap is pushed to the right and to the left."""

    name = "SpaceMouse Compact"

    def __init__(self, unplugged: Path) -> None:
        self._unplugged, self._pushed = unplugged, pushed_file(unplugged)
        self._reports = 0
        if unplugged.exists():
            raise SourceError("no SpaceMouse is plugged in")

    def read(self, timeout_s: float) -> bytes | None:
        """Next report: of the cap's translation."""
        time.sleep(_REPORT_PERIOD_S)
        if self._unplugged.exists():
            raise SourceLostError(f"{self.name} was unplugged")
        self._reports += 1
        side = 1 if self._reports // _REPORTS_A_SIDE % 2 == 0 else -1
        return struct.pack("<B6h", 1, side * _PUSH if self._pushed.exists() else 0, 0, 0, 0, 0, 0)

    def close(self) -> None:
        """Nothing to do."""


def main() -> None:
    """Run the node; the file's path is in the environment."""
    unplugged = Path(os.environ["RESIP_UNPLUGGED"])
    runtime.main(lambda: SpacemouseNode(lambda: PushedCap(unplugged)))


if __name__ == "__main__":
    sys.exit(main())
