"""Is an input still coming, in order and in time? One ``Source`` an input. Pure: all times are given.

Silence is counted from when a message came, as a camera's stamps lie some frames back already when it comes; how far
they may lie back or ahead is a bound of its own.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

#: An input that is silent for so long is given up.
DEAD_AFTER_S: Final = 1.0
#: How far a stamp may be ahead of the clock: cameras keep clocks of their own, and a simulated clock comes in steps.
MAX_AHEAD_S: Final = 0.2
#: How old a message may be when it comes.
MAX_BEHIND_S: Final = 0.25
#: A fault in the order of the stamps counts for so long after it was seen.
FAULT_MEMORY_S: Final = 1.0


class Health(enum.Enum):
    """Of an input; the first two let the arm move."""

    OK = "ok"
    LATE = "late"
    MISSING = "missing"
    DEAD = "dead"


@dataclass(frozen=True)
class Bounds:
    """Silences at which an input is late, and at which the arm stops."""

    late_after_s: float
    missing_after_s: float


class Source:
    """One input of the graph.

    Args:
      name: for people.
      bounds: of its silence.
      ordered: whether its stamps have to rise with every message.
    """

    def __init__(self, name: str, bounds: Bounds, ordered: bool = False) -> None:
        self.name = name
        self._bounds = bounds
        self._ordered = ordered
        self._newest_s: float | None = None
        self._heard_s: float | None = None
        self._fault: tuple[str, float] | None = None

    def heard(self, stamp_s: float, now_s: float) -> None:
        """Take note of a message and check that its stamp follows the one before."""
        if stamp_s > now_s + MAX_AHEAD_S:
            self._fault = (f"its stamps are {stamp_s - now_s:.2f} s ahead of the clock", now_s)
            return
        if stamp_s < now_s - MAX_BEHIND_S:
            self._fault = (f"it comes {now_s - stamp_s:.2f} s late", now_s)
            return
        if self._ordered and self._newest_s is not None and stamp_s <= self._newest_s:
            back_s = self._newest_s - stamp_s
            what = f"its stamps went back by {back_s:.3f} s" if back_s > 0 else "a stamp came twice"
            self._fault = (what, now_s)
            return
        self._newest_s, self._heard_s = stamp_s, now_s

    def forget(self) -> None:
        """Count from nothing again, as before the first message."""
        self._newest_s = self._heard_s = self._fault = None

    def age_s(self, now_s: float) -> float | None:
        """Time since the newest message came; None before the first."""
        return None if self._heard_s is None else max(0.0, now_s - self._heard_s)

    def health(self, now_s: float) -> Health:
        """State of the input."""
        age_s = self.age_s(now_s)
        if age_s is None or age_s > max(DEAD_AFTER_S, self._bounds.missing_after_s):
            return Health.DEAD
        if age_s > self._bounds.missing_after_s:
            return Health.MISSING
        return Health.LATE if age_s > self._bounds.late_after_s else Health.OK

    def problem(self, now_s: float) -> str:
        """Why the arm must not move on this input, or nothing."""
        if self._fault is not None and now_s - self._fault[1] <= FAULT_MEMORY_S:
            return f"{self.name}: {self._fault[0]}"
        age_s, health = self.age_s(now_s), self.health(now_s)
        if age_s is None:
            return f"{self.name}: nothing has come yet"
        return f"{self.name}: {health.value}, nothing for {age_s:.2f} s" if health in _STOPPING else ""


_STOPPING: Final = (Health.MISSING, Health.DEAD)
