"""The line that says what a running trial does: in place on a terminal, now and then in a log."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

_LOG_PERIOD_S: Final = 5.0


@dataclass(frozen=True)
class Status:
    """What the line shows; what is not known yet is None."""

    trial: int
    trials: int
    seed: int
    phase: str
    time_s: float | None = None
    limit_s: float = 0.0
    tick_hz: float | None = None
    latency_ms: float | None = None
    rtf: float | None = None

    def __str__(self) -> str:
        parts = [f"trial {self.trial + 1}/{self.trials} (seed {self.seed})", self.phase]
        if self.time_s is not None:
            parts.append(f"{self.time_s:5.1f} of {self.limit_s:g} s")
        if self.tick_hz is not None:
            parts.append(f"{self.tick_hz:4.1f} Hz")
        if self.latency_ms is not None:
            parts.append(f"latency {self.latency_ms:.0f} ms")
        if self.rtf is not None:
            parts.append(f"{self.rtf:.2f}x real time")
        return " | ".join(parts)


class StatusLine:
    """Shows statuses: a line that changes in place on a terminal, elsewhere one a phase and one every 5 s."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._last_phase: str | None = None
        self._last_s = 0.0

    def show(self, status: Status) -> None:
        """Show the present status."""
        if self._console.is_terminal:
            self._live.start()
            self._live.update(Text(str(status), style="cyan", overflow="ellipsis", no_wrap=True), refresh=True)
        elif status.phase != self._last_phase or time.monotonic() - self._last_s >= _LOG_PERIOD_S:
            self._print(str(status))
            self._last_phase, self._last_s = status.phase, time.monotonic()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._live.stop()
        self._print(text)

    def close(self) -> None:
        """Take the changing line away."""
        self._live.stop()

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
