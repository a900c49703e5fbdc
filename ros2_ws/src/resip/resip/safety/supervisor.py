"""Whether the arm may move, as a state machine: explicit arming, and a stop that stays until the next arming."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

from resip import topics

#: Longest time from the permission until the bridge has taken it up.
GRANT_TIMEOUT_S: Final = 0.5


class State(enum.Enum):
    """Where the supervisor stands; only in ``ARMED`` it gives permission."""

    DISARMED = topics.DISARMED
    ARMING = "arming"
    ARMED = "armed"
    STOPPED = "stopped"
    """Latched: what caused it may have passed, and still nothing moves before the next arming."""


class Supervisor:
    """Life cycle: ``watch`` at every tick; ``begin_arming`` and ``end_arming`` around the bridge's; ``stop`` any time.

    Pure: it is told what is wrong (``problems``), and whether the bridge has taken the permission up.
    """

    def __init__(self) -> None:
        self.state = State.DISARMED
        self.reason = ""
        """Of the stop; stays until the next arming."""
        self._armed_at_s = 0.0
        self._taken_up = False

    @property
    def permits(self) -> bool:
        """Whether the arm may move."""
        return self.state is State.ARMED

    def watch(self, problems: Sequence[str], bridge_armed: bool, bridge_reason: str, now_s: float) -> bool:
        """Look at the world; whether that has just stopped the arm."""
        if self.state is not State.ARMED:
            return False
        self._taken_up = self._taken_up or bridge_armed
        if problems:
            return self.stop("; ".join(problems))
        if self._taken_up and not bridge_armed:
            return self.stop(f"the bridge has disarmed: {bridge_reason or 'it did not say why'}")
        if not self._taken_up and now_s - self._armed_at_s > GRANT_TIMEOUT_S:
            return self.stop("the bridge does not take the permission up")
        return False

    def begin_arming(self, problems: Sequence[str]) -> str:
        """Ask for arming: why not, or nothing."""
        if self.state in (State.ARMING, State.ARMED):
            return f"it is {self.state.value} already"
        if problems:
            return "; ".join(problems)
        self.state = State.ARMING
        return ""

    def end_arming(self, refusal: str, now_s: float) -> str:
        """Take the bridge's answer: its reason why not, or nothing. Returns the same; a stop meanwhile refuses too."""
        if self.state is not State.ARMING:
            return self.reason or "disarmed meanwhile"
        if refusal:
            self.state, self.reason = State.STOPPED, refusal
            return refusal
        self.state, self.reason = State.ARMED, ""
        self._armed_at_s, self._taken_up = now_s, False
        return ""

    def stop(self, reason: str) -> bool:
        """Stop and latch; whether that is news. The first reason stays."""
        if self.state is State.STOPPED:
            return False
        self.state, self.reason = State.STOPPED, reason
        return True

    def disarm(self) -> None:
        """Take the permission back in good order; a stop stays latched."""
        if self.state is not State.STOPPED:
            self.state = State.DISARMED
