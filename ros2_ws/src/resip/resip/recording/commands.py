"""`resip bag info` and `resip bag check`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resip.errors import ResipError
from resip.recording.check import BagReport, inspect
from resip.recording.story import find_bags

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


def bag_check(paths: Sequence[Path], json_file: Path | None = None) -> list[BagReport]:
    """Tell of each bag whether it is whole: closed, nothing lost, every topic there; fail unless all are.

    Args:
      paths: bags, or folders of them.
      json_file: what was found goes there, one object a bag.

    Raises:
      BagError: there is no readable bag.
      BagCheckError: one is not whole; the message names each fault.
    """
    reports = [inspect(bag) for bag in find_bags(paths)]
    for report in reports:
        _print(report)
    if json_file is not None:
        json_file.write_text(json.dumps([report.as_json() for report in reports], indent=2) + "\n")
    faults = [f"{report.path}: " + "; ".join(report.problems) for report in reports if report.problems]
    if faults:
        raise BagCheckError(f"{len(faults)} of {len(reports)} not whole: {' | '.join(faults)}")
    messages = sum(report.count for report in reports)
    Console().print(f"[green]{len(reports)} whole[/]: {messages} messages, 0 lost")
    return reports


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
