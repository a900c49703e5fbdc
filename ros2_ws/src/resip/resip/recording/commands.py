"""`resip bag info` and `resip bag check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resip.errors import ResipError
from resip.recording.check import BagReport, inspect

_WIDTH_WITH_TYPES: Final = 100


class BagCheckError(ResipError):
    """A bag that is unfit as a record of a trial."""


def bag_info(directory: Path, json_file: Path | None = None) -> BagReport:
    """Print the topics of a bag with counts, rates, gaps and losses.

    Raises:
      BagError: no readable bag.
    """
    report = inspect(directory)
    _print(report)
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return report


def bag_check(directory: Path, json_file: Path | None = None) -> BagReport:
    """Print a bag as ``bag_info`` does, and fail unless it is whole: closed, nothing lost, every topic there.

    Raises:
      BagError: no readable bag.
      BagCheckError: it is not whole; the message names each fault.
    """
    report = bag_info(directory, json_file)
    if report.problems:
        raise BagCheckError(f"{report.path}: " + "; ".join(report.problems))
    Console().print(f"[green]whole[/]: {report.count} messages of {len(report.topics)} topics, 0 lost")
    return report


def _print(report: BagReport) -> None:
    console = Console()
    with_types = console.width >= _WIDTH_WITH_TYPES
    table = Table(title=f"{report.path}, {report.duration_s:.1f} s", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("topic", no_wrap=True)
    if with_types:
        table.add_column("type", no_wrap=True)
    for name in ("count", "Hz", "gaps", "longest", "lost"):
        table.add_column(name, justify="right")
    for topic in report.topics:
        cells = [topic.topic, topic.type_name.rpartition("/")[2]] if with_types else [topic.topic]
        cells += [str(topic.count), f"{topic.rate_hz:.1f}" if topic.rate_hz else "-", str(topic.gaps)]
        cells += [f"{topic.longest_gap_s:.2f} s", "?" if topic.lost is None else str(topic.lost)]
        table.add_row(*cells)
    console.print(table)
