"""One trial as a state machine: what to ask of the graph, when, and how the trial ends.

Pure: it sees the world as ``View`` objects and answers with ``Action`` values, so that every path is
tested without ROS. ``nodes.trial_node`` carries the actions out and reports how they went.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

Result = Literal["success", "failure", "aborted"]


class Phase(enum.Enum):
    """Where a trial stands; the values are for people."""

    RESET = "resetting the cell"
    WAIT = "waiting for the graph"
    ARM = "arming"
    RUN = "running"
    STOP = "stopping"
    DONE = "done"


class Action(enum.Enum):
    """Something the graph is asked for; the trial goes on when ``Trial.reply`` says how it went."""

    CHOOSE = "choose the policy"
    CONFIGURE = "set the cell's seed and randomness"
    RESET = "reset the cell"
    RECORD = "start recording"
    ARM = "arm the robot"
    START = "start the policy"
    STOP = "stop the policy"
    DISARM = "disarm the robot"


_PHASES = {
    Action.CHOOSE: Phase.WAIT,
    Action.CONFIGURE: Phase.RESET,
    Action.RESET: Phase.RESET,
    Action.RECORD: Phase.ARM,
    Action.ARM: Phase.ARM,
    Action.START: Phase.ARM,
    Action.STOP: Phase.STOP,
    Action.DISARM: Phase.STOP,
}

#: What comes to the same when it is asked for twice. While the nodes of a graph find each other, a question can be lost
#: on the way, or its answer.
_REPEATABLE = (Action.CHOOSE, Action.CONFIGURE, Action.RESET, Action.STOP, Action.DISARM)


@dataclass(frozen=True)
class Plan:
    """What holds for every trial of a set. Times of the robot's work are ROS time, the others wall time."""

    time_limit_s: float = 70.0
    """Of ROS time: 700 ticks of 10 Hz, the reference's limit for one_leg."""
    resets_cell: bool = True
    """False on the robot, where a person lays out the parts and says when."""
    chooses_policy: bool = False
    """Whether several policies take turns."""
    ready_timeout_s: float = 60.0
    """Longest wait for every stream and the policy after a reset."""
    reply_timeout_s: float = 60.0
    """Longest wait for the answer to an action; the first one waits for the graph to start."""
    repeat_s: float = 25.0
    """Without an answer for so long, what may be asked for twice is asked for again; a cell gives up a reset sooner."""
    stall_timeout_s: float = 10.0
    """Longest time that ROS time may stand still while the trial runs."""


@dataclass(frozen=True)
class Verdict:
    """What the judge (the cell, or the operator) says: ``reason`` is one line."""

    success: bool
    reason: str


@dataclass(frozen=True)
class View:
    """What is seen of the world at one moment."""

    ros_s: float
    steady_s: float
    missing: tuple[str, ...] = ()
    """Names of what the trial needs and has not seen since the reset."""
    verdict: Verdict | None = None
    fault: str | None = None
    """An error that a node reports, in one line."""


@dataclass(frozen=True)
class Ending:
    """How a trial ended. ``aborted`` means that the graph failed, not the policy."""

    result: Result
    reason: str


class Trial:
    """One trial from reset to disarmed robot.

    Life cycle: call ``observe`` periodically and carry out what it returns, then ``reply``; until ``done``.
    The robot is armed only after everything it needs was seen, and whatever happens after that the policy is
    stopped and the robot disarmed before the trial is done.
    """

    def __init__(self, plan: Plan, steady_s: float) -> None:
        self._plan = plan
        self._queue = [Action.CHOOSE] if plan.chooses_policy else []
        self._queue += [Action.CONFIGURE, Action.RESET] if plan.resets_cell else []
        self._pending: Action | None = None
        self._since_s = steady_s  # steady time at which the present wait began
        self._asked_s = steady_s  # and that of the last question
        self._ready = False
        self._armed = False
        self._window: tuple[View, View] | None = None
        self.phase = Phase.RESET if plan.resets_cell else Phase.WAIT
        self.ending: Ending | None = None

    @property
    def pending(self) -> Action | None:
        """The action whose reply is awaited."""
        return self._pending

    @property
    def done(self) -> bool:
        """True once nothing is left to do."""
        return self.phase is Phase.DONE

    @property
    def run_s(self) -> tuple[float, float]:
        """ROS times at which the policy started and the trial was decided; equal if it never started."""
        return (self._window[0].ros_s, self._window[1].ros_s) if self._window else (0.0, 0.0)

    @property
    def wall_s(self) -> float:
        """Wall time that the policy ran."""
        return self._window[1].steady_s - self._window[0].steady_s if self._window else 0.0

    def observe(self, view: View) -> Action | None:
        """Look at the world; return the next thing to ask of the graph, if its time has come, or the same once more."""
        if self.done:
            return None
        if self._pending is not None:
            if view.steady_s - self._since_s > self._plan.reply_timeout_s:
                self.reply(False, f"no answer within {self._plan.reply_timeout_s:g} s", view)
            elif self._pending in _REPEATABLE and view.steady_s - self._asked_s > self._plan.repeat_s:
                self._asked_s = view.steady_s
                return self._pending
            return None
        if self._queue:
            return self._ask(self._queue.pop(0), view)
        if self.ending is not None:
            self.phase = Phase.DONE
            return None
        if not self._ready:
            self._wait_until_ready(view)
        else:
            self._watch(view)
        return None

    def reply(self, ok: bool, message: str, view: View) -> None:
        """Say how the action that ``observe`` returned went; ``message`` is the graph's own word."""
        action, self._pending = self._pending, None
        self._since_s = view.steady_s
        if action is None:
            return
        if not ok:
            # a failed clean-up must not hide why the trial ended
            self._end(Ending("aborted", f"could not {action.value}: {message or 'no reason given'}"))
        elif action is Action.START and self.ending is None:
            self._window = (view, view)
            self.phase = Phase.RUN

    def interrupt(self, reason: str) -> None:
        """End the trial now, in order: policy stopped, robot disarmed."""
        self._end(Ending("aborted", reason))

    def _ask(self, action: Action, view: View) -> Action:
        self._pending, self._since_s, self._asked_s = action, view.steady_s, view.steady_s
        self.phase = _PHASES[action]
        self._armed = self._armed or action is Action.ARM
        return action

    def _wait_until_ready(self, view: View) -> None:
        self.phase = Phase.WAIT
        if not view.missing:
            self._ready = True
            self._queue = [Action.RECORD, Action.ARM, Action.START]
        elif view.steady_s - self._since_s > self._plan.ready_timeout_s:
            # a fault may pass while nodes find each other, so it only explains why the wait was in vain
            why = f" ({view.fault})" if view.fault else ""
            waited = f"after {self._plan.ready_timeout_s:g} s"
            self._end(Ending("aborted", f"still missing {waited}: {', '.join(view.missing)}{why}"))

    def _watch(self, view: View) -> None:
        assert self._window is not None
        start, last = self._window
        if view.ros_s > last.ros_s:
            self._window = (start, view)
        if view.verdict is not None:
            self._end(Ending("success" if view.verdict.success else "failure", view.verdict.reason))
        elif view.fault is not None:
            self._end(Ending("aborted", view.fault))
        elif view.ros_s - start.ros_s >= self._plan.time_limit_s:
            self._end(Ending("failure", f"time limit of {self._plan.time_limit_s:g} s"))
        elif view.steady_s - last.steady_s > self._plan.stall_timeout_s:
            self._end(Ending("aborted", f"the clock has stood still for {self._plan.stall_timeout_s:g} s"))

    def _end(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            self._queue = [Action.STOP, Action.DISARM] if self._armed else []
