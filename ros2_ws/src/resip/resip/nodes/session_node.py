"""Records demonstrations: a trial with an operator at the SpaceMouse (or keyboard) instead of a policy.

The order is a trial's (see ``trial_node``): the cell is reset, the operator begins (``/trial/begin``), the bag is
opened, the robot armed, the input started. Then the operator marks stages (``/trial/mark``) and ends it:
``/trial/success`` keeps it, ``/trial/failure`` keeps it as a failure, ``/trial/discard`` sets its folder aside and
repeats it from the same start. Every bag says of itself what it is (see ``_bag_metadata``), and is audited at once:
``audit.json`` beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from std_srvs.srv import Trigger

from resip import spaces, topics
from resip.nodes import messages, runtime
from resip.nodes.trial_node import INTERRUPTED, TrialNode
from resip.recording import check
from resip.recording.writer import DEMONSTRATION_KEY
from resip.trials import operator, records
from resip.trials.protocol import Ending, Phase, Verdict
from resip.trials.records import Outcome

AUDIT_FILE: Final = "audit.json"
_CAMERA_ROOTS: Final = tuple(f"/{camera}/" for camera in spaces.CAMERAS)


class SessionNode(TrialNode):
    """Parameters here and in ``TrialNode``."""

    def __init__(self) -> None:
        super().__init__(operator_judges=True)
        self._marks_s: list[float] = []
        self.create_service(Trigger, topics.TRIAL_MARK, self._on_mark)
        self.create_service(Trigger, topics.TRIAL_DISCARD, self._on_discard)

    # ---- what the operator says ----

    def _keys(self) -> dict[str, str]:
        """None: the keyboard may be what moves the robot, and its space stops it."""
        return dict.fromkeys(super()._keys(), "")

    def _verdict(self, fault: str | None) -> Verdict | None:
        """The operator's alone: a stop in mid-demonstration is repeated, whatever it was for."""
        return self._operator.verdict

    @property
    def _runs(self) -> bool:
        return self._trial is not None and self._trial.phase is Phase.RUN

    def _on_mark(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._runs
        if not self._runs:
            response.message = "no demonstration is running"
            return response
        now_ns = self.now_ns()
        self._marks_s.append(now_ns / messages.NS_PER_S)
        response.message = f"mark {len(self._marks_s)}"
        values = {"trial": self._slot.index, "mark": len(self._marks_s)}
        self.publish_status(topics.TRIAL_STATUS, runtime.OK, response.message, values, now_ns)
        self._line.say(response.message)
        return response

    def _on_discard(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._runs
        response.message = "" if self._runs else "no demonstration is running"
        if self._runs and self._trial is not None:
            self._trial.interrupt(operator.DISCARDED)
        return response

    # ---- what is kept ----

    def _bag_metadata(self, ending: Ending) -> dict[str, str]:
        about = {**self._about(ending), "source": self._settings.policy, "marks_s": self._marks_s}
        del about["policy"]
        self._marks_s = []
        return {DEMONSTRATION_KEY: json.dumps(about)}

    def _go_on(self, outcome: Outcome) -> None:
        if outcome.duration_s > 0 and outcome.reason != INTERRUPTED:  # who interrupts does not wait for an audit
            self._audit(records.trial_directory(self._directory, outcome.index))
        super()._go_on(outcome)

    def _audit(self, directory: Path) -> None:
        """Check the bag, store what was found, and tell it in a few lines."""
        report = check.inspect(directory, self._expected_topics())
        (directory / AUDIT_FILE).write_text(json.dumps(report.as_json(), indent=2) + "\n")
        for line in check.audit_lines(report):
            self._line.say(line)

    def _expected_topics(self) -> tuple[str, ...]:
        expected = check.GRAPH_TOPICS + (check.CELL_TOPICS if self._settings.robot == "sim" else ())
        if self._has_cameras:
            return expected
        return tuple(topic for topic in expected if not topic.startswith(_CAMERA_ROOTS))


def main() -> None:
    """Run the node."""
    runtime.main(SessionNode)


if __name__ == "__main__":
    main()
