"""How far a command has come that takes long, how fast it is, and how long it still takes."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

from rich import progress
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TaskID
from rich.table import Column
from rich.text import Text

#: In a file or a pipe a line comes so often.
LINE_PERIOD_S: Final = 30.0
#: The speed is that of so long: things that many worlds do end in bursts.
_SPEED_OVER_S: Final = 300.0
_S_PER_MIN: Final = 60.0

Item = TypeVar("Item")


class Bars(progress.Progress):
    """Bars on a terminal; where the output goes to a file or a pipe, a line now and then instead.

    Takes what ``rich.progress.Progress`` takes.
    """

    def __init__(self, *columns: str | ProgressColumn, **settings: Any) -> None:
        super().__init__(*columns, **settings)
        self._told_s = self.get_time()

    def update(self, task_id: TaskID, **changes: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Change a task, as ``Progress.update`` does."""
        super().update(task_id, **changes)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1.0) -> None:
        """Bring a task forward, as ``Progress.advance`` does."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        now_s = self.get_time()
        if self.console.is_terminal or now_s - self._told_s < LINE_PERIOD_S:
            return
        self._told_s = now_s
        task = next(task for task in self.tasks if task.id == task_id)
        cells = [column for column in self.columns if isinstance(column, ProgressColumn)]
        texts = [f"{task.percentage:.0f} %" if isinstance(cell, BarColumn) else str(cell(task)) for cell in cells]
        self.console.print(" | ".join(text for text in texts if text), soft_wrap=True, markup=False, highlight=False)


class _Rate(ProgressColumn):
    """Steps of a task in a second, or in a minute where they are few."""

    def __init__(self, unit: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._unit = f" {unit}" if unit else ""

    def render(self, task: progress.Task) -> Text:
        """The rate as text; empty before there is one."""
        speed = task.speed or 0.0
        per_s = f"{speed:.1f}{self._unit}/s" if speed >= 1.0 else f"{speed * _S_PER_MIN:.1f}{self._unit}/min"
        return Text(per_s if speed else "")


class _Note(ProgressColumn):
    """A task's field ``note``, if it has one."""

    def render(self, task: progress.Task) -> Text:
        """The note as text."""
        return Text(task.fields.get("note", ""))


def bars(unit: str = "", console: Console | None = None, **settings: Any) -> Bars:
    """Bars with the number done, rate, time taken, time left, and a task's ``note``.

    Args:
      unit: what is counted, such as ``steps``; may be left out.
      console: where they are shown; stderr by default, so that what a command prints can be piped.
      settings: others of ``rich.progress.Progress``.
    """
    return Bars(
        progress.TextColumn("{task.description}"),
        BarColumn(),
        progress.MofNCompleteColumn(),
        _Rate(unit),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        _Note(),
        speed_estimate_period=_SPEED_OVER_S,
        console=console or Console(stderr=True),
        **settings,
    )


def track(items: Iterable[Item], description: str, total: int | None = None, transient: bool = False) -> Iterator[Item]:
    """Go through items and show how far it is.

    Args:
      items: any; those without a length need a total to show how long it still takes.
      description: what is done.
      total: number of items.
      transient: take the bar away at the end.
    """
    with bars(transient=transient) as shown:
        task = shown.add_task(description, total=total or operator.length_hint(items) or None)
        for item in items:
            yield item
            shown.advance(task)
