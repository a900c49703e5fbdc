"""Progress of long commands: bars on a terminal, lines in a file."""

from __future__ import annotations

import io

import pytest
from resip import progress
from resip.progress import LINE_PERIOD_S, bars
from rich.console import Console


class Shown:
    """Bars that write into text, with the test as their clock."""

    def __init__(self, terminal: bool = False) -> None:
        self.time_s = 100.0
        self.text = io.StringIO()
        console = Console(file=self.text, force_terminal=terminal, width=200)
        self.bars = bars("episodes", console, get_time=lambda: self.time_s, auto_refresh=False)
        self.task = self.bars.add_task("evaluate one_leg", total=120)

    def go_on(self, n: int, seconds: float) -> list[str]:
        """Do so many episodes in so long, one after another; the lines written meanwhile."""
        self.text.truncate(self.text.seek(0))
        for _ in range(n):
            self.time_s += seconds / n
            self.bars.advance(self.task)
        return self.text.getvalue().splitlines()


def test_into_a_file_goes_a_line_now_and_then_with_number_rate_and_time_left():
    shown = Shown()
    assert not shown.go_on(20, LINE_PERIOD_S - 1)
    (line,) = shown.go_on(10, LINE_PERIOD_S / 2)
    cells = line.split(" | ")
    assert cells[0] == "evaluate one_leg"
    assert cells[1:3] == ["18 %", " 21/120"]
    assert cells[3].endswith("episodes/min")
    assert cells[4:] == ["0:00:30", "0:02:24"]


def test_a_change_of_a_note_is_told_too_and_a_long_line_is_not_broken():
    shown = Shown()
    shown.time_s += LINE_PERIOD_S
    shown.bars.update(shown.task, note="loss " + "0" * 300)
    (line,) = shown.text.getvalue().splitlines()
    assert line.endswith("loss " + "0" * 300)


def test_on_a_terminal_no_lines_come_beside_the_bars():
    assert not Shown(terminal=True).go_on(20, 5 * LINE_PERIOD_S)


@pytest.mark.parametrize("n", [0, 3])
def test_items_pass_unchanged_while_they_are_tracked(n, capsys):
    assert list(progress.track(iter(range(n)), "counting", total=n)) == list(range(n))
    out, shown = capsys.readouterr()
    assert out == ""
    assert "counting" in shown
