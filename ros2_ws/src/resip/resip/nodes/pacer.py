"""How fast the simulated cell may run: never faster than asked for, never ahead of those who command it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: A cell that fell farther behind the wall clock than this does not try to make up for it.
MAX_CATCH_UP_S: Final = 0.3


@dataclass
class _Lead:
    """What is known of one pace topic."""

    allowance_s: float
    stamp_s: float = 0.0
    is_live: bool = False  # whether it paces
    awaited_from_s: float | None = None  # steady time since when the cell has stood still for it


class Pacer:
    """Decides when the cell may take its next step: a busy machine slows the cell, and nobody drops a tick.

    Two rules. The cell keeps to ``rtf`` seconds of its time a second of wall time, and catches up after a
    pause, within reason. And it stays within an allowance of the newest stamp on each live *pace topic*: who
    commands at 10 Hz gets one period and a little, so the next tick is served before the cell goes on. A pace
    topic is live from its first message until the cell has waited for it for a time (wall) that says: it has stopped.

    Pure: all times are given, in seconds. Cell time is the cell's own, steady time the machine's.

    Args:
      rtf: real-time factor, 0 for as fast as possible.
      allowances_s: for each pace topic, how far the cell may run ahead of its newest stamp.
      release_after_s: for each of them, wait after which it paces no longer; may be changed at any time.
    """

    def __init__(self, rtf: float, allowances_s: Mapping[str, float], release_after_s: Mapping[str, float]) -> None:
        self._rtf = rtf
        self._leads = {topic: _Lead(allowance_s) for topic, allowance_s in allowances_s.items()}
        self.release_after_s = release_after_s
        self._anchor: tuple[float, float] | None = None  # cell and steady time that belong together

    def heard(self, topic: str, stamp_s: float) -> None:
        """Take note of a message of a pace topic; an older stamp than the newest does not set it back."""
        lead = self._leads[topic]
        lead.stamp_s = max(lead.stamp_s, stamp_s)
        lead.is_live, lead.awaited_from_s = True, None

    def release(self, topic: str) -> None:
        """Let a topic pace no longer, until it is heard again."""
        self._leads[topic].is_live = False

    def wait_s(self, cell_s: float, steady_s: float) -> float:
        """Wall time to wait before the step that ends at ``cell_s``; 0 to take it now.

        The answer is an upper bound where a topic is waited for: ask again when one was heard.
        """
        return max(self._held_s(cell_s, steady_s), self.early_s(cell_s, steady_s))

    def holding(self, cell_s: float, steady_s: float) -> list[str]:
        """Pace topics that the step to ``cell_s`` waits for."""
        return [topic for topic in self._leads if self._topic_wait_s(topic, cell_s, steady_s) > 0.0]

    def _held_s(self, cell_s: float, steady_s: float) -> float:
        return max((self._topic_wait_s(topic, cell_s, steady_s) for topic in self._leads), default=0.0)

    def _topic_wait_s(self, topic: str, cell_s: float, steady_s: float) -> float:
        lead = self._leads[topic]
        if not lead.is_live or cell_s <= lead.stamp_s + lead.allowance_s + 1e-9:
            return 0.0
        if lead.awaited_from_s is None:
            lead.awaited_from_s = steady_s
        left_s = lead.awaited_from_s + self.release_after_s[topic] - steady_s
        if left_s <= 0.0:
            lead.is_live = False
            self._anchor = None  # the wait for a topic that has stopped is not made up for
        return max(0.0, left_s)

    def early_s(self, cell_s: float, steady_s: float) -> float:
        """Wall time to wait for the sake of the real-time factor alone."""
        if self._rtf <= 0.0:
            return 0.0
        if self._anchor is None:
            self._anchor = (cell_s, steady_s)
        due_s = self._anchor[1] + (cell_s - self._anchor[0]) / self._rtf
        if steady_s - due_s > MAX_CATCH_UP_S:
            self._anchor = (cell_s, steady_s - MAX_CATCH_UP_S)
        return max(0.0, due_s - steady_s)
