"""What the operator of a trial has said of it: begin, how far it got, how it ends. Pure; times are given."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from resip.errors import ResipError, check_name
from resip.trials.protocol import Phase, Verdict
from resip.trials.stages import COMPLETE, MARKS

BEGIN: Final = "begin"
UNDO: Final = "undo"
FAILURE: Final = "failure"
ABORT: Final = "abort"

ABORTED: Final = "aborted by the operator"
DISCARDED: Final = "discarded by the operator"
#: Why a trial ended that its operator took back: it is run again.
TAKEN_BACK: Final = (ABORTED, DISCARDED)
#: Reason of a verdict of the operator's.
JUDGED: Final = "judged by the operator"

#: What the words do, for people.
HELP: Final = MappingProxyType(
    {
        BEGIN: "the parts lie ready: begin",
        UNDO: "take the last mark back",
        FAILURE: "it failed: end the trial",
        ABORT: "stop and repeat the trial",
    }
)
_KEYS: Final = MappingProxyType({BEGIN: " ", UNDO: "u", FAILURE: "f", ABORT: "x"})


class OperatorError(ResipError):
    """A word that does not fit the moment."""


def keys(task: str) -> dict[str, str]:
    """The key of each word: 1, 2, ... for the task's marks, then those of ``HELP``."""
    return {mark: str(i + 1) for i, mark in enumerate(MARKS.get(task, (COMPLETE,)))} | dict(_KEYS)


class Operator:
    """The operator's words on one trial.

    Args:
      task: whose marks there are.
      judges: whether the trial waits for ``begin`` and is judged by ``complete`` or ``failure``; otherwise the cell
        judges, and only ``abort`` is heard.
    """

    def __init__(self, task: str, judges: bool) -> None:
        self._marks = MARKS.get(task, (COMPLETE,))
        self._judges = judges
        self.begun = not judges
        self.marks: dict[str, float] = {}
        self.verdict: Verdict | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Everything that may be said."""
        return (*self._marks, BEGIN, UNDO, FAILURE, ABORT) if self._judges else (ABORT,)

    def sayable(self, running: bool) -> list[str]:
        """Words that fit the moment.

        Args:
          running: whether the policy runs.
        """
        if not self._judges:
            return [ABORT]
        if not running or self.verdict is not None:
            return [ABORT] if self.begun else [BEGIN, ABORT]
        unmarked = [mark for mark in self._marks if mark not in self.marks]
        return [*unmarked, *([UNDO] if self.marks else []), FAILURE, ABORT]

    def say(self, word: str, phase: Phase, time_s: float) -> str:
        """Take a word in.

        Args:
          word: one of ``words``.
          phase: of the trial.
          time_s: since the policy started.

        Returns:
          What came of it, in words.

        Raises:
          OperatorError: it does not fit the moment; says why.
          UnknownNameError: it is no word.
        """
        check_name("word of the operator", word, self.words)
        if word == ABORT:
            return ABORTED
        if word == BEGIN:
            return self._begin()
        if phase is not Phase.RUN or self.verdict is not None:
            raise OperatorError("no trial is running")
        if word in self.marks:
            raise OperatorError(f"{word} is marked already")
        if word == UNDO:
            return self._undo()
        if word in (FAILURE, COMPLETE):
            self.verdict = Verdict(word == COMPLETE, JUDGED)
        if word != FAILURE:
            self.marks[word] = time_s
        return f"{word} at {time_s:.1f} s"

    def _begin(self) -> str:
        if self.begun:
            raise OperatorError("the trial has begun already")
        self.begun = True
        return "begun"

    def _undo(self) -> str:
        if not self.marks:
            raise OperatorError("nothing is marked")
        mark, _ = self.marks.popitem()
        return f"{mark} taken back"

    @property
    def reached(self) -> dict[str, float]:
        """The marks in the task's order; a trial that is complete has all of them, those not marked at its end."""
        end_s = self.marks.get(COMPLETE)
        times_s = {mark: self.marks.get(mark, end_s) for mark in self._marks}
        return {mark: time_s for mark, time_s in times_s.items() if time_s is not None}
