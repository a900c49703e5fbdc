"""Progress bars of commands that take long: how far, how fast, how long still."""

from __future__ import annotations

from typing import Final

from rich import progress
from rich.console import Console
from rich.text import Text

from resip_training.shards import Shard

#: The speed is that of so long: things that many worlds do end in bursts.
_SPEED_OVER_S: Final = 300.0


class _RateColumn(progress.ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit
        self._factor = 60.0 if unit.endswith("/min") else 1.0

    def render(self, task: progress.Task) -> Text:
        return Text(f"{self._factor * task.speed:.1f}{self._unit}" if task.speed else "")


def progress_bars(unit: str) -> progress.Progress:
    """Bars with a rate in ``unit``, such as " steps/s" or "/min", and room for a ``note``.

    Of several processes that a launcher started, the first one shows its own.
    """
    shard = Shard.asked_for(None)
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        _RateColumn(unit),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
        speed_estimate_period=_SPEED_OVER_S,
        console=Console(quiet=shard is not None and shard.index > 1),
    )
