"""Progress bars of commands that several processes can share."""

from __future__ import annotations

from resip.progress import Bars, bars
from rich.console import Console

from resip_training.shards import Shard


def progress_bars(unit: str = "") -> Bars:
    """Bars as ``resip.progress.bars`` gives them; of several processes that a launcher started, the first one's."""
    shard = Shard.asked_for(None)
    return bars(unit, Console(stderr=True, quiet=shard is not None and shard.index > 1))
