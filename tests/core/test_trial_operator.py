"""The operator's words: what fits which moment, and what they mean for the record."""

import os
import pty
import time

import pytest
from resip.errors import UnknownNameError
from resip.trials import operator
from resip.trials.desk import Desk
from resip.trials.operator import Operator, OperatorError
from resip.trials.protocol import Phase, Verdict


@pytest.fixture
def judge():
    judge = Operator("one_leg", judges=True)
    judge.say("begin", Phase.WAIT, 0.0)
    return judge


class TestWords:
    def test_a_trial_waits_for_its_operator(self):
        judge = Operator("one_leg", judges=True)
        assert not judge.begun
        judge.say("begin", Phase.WAIT, 0.0)
        assert judge.begun
        with pytest.raises(OperatorError, match="begun already"):
            judge.say("begin", Phase.WAIT, 0.0)

    def test_marks_have_their_times(self, judge):
        judge.say("corner", Phase.RUN, 3.0)
        judge.say("grasp", Phase.RUN, 8.0)
        assert judge.reached == {"corner": 3.0, "grasp": 8.0}
        assert judge.verdict is None

    def test_a_mark_can_be_taken_back(self, judge):
        judge.say("corner", Phase.RUN, 3.0)
        judge.say("insert", Phase.RUN, 4.0)
        assert judge.say("undo", Phase.RUN, 5.0) == "insert taken back"
        assert judge.reached == {"corner": 3.0}

    def test_complete_is_success_and_has_every_mark(self, judge):
        judge.say("corner", Phase.RUN, 3.0)
        judge.say("complete", Phase.RUN, 20.0)
        assert judge.verdict == Verdict(True, "judged by the operator")
        assert judge.reached == {"corner": 3.0, "grasp": 20.0, "insert": 20.0, "screw": 20.0, "complete": 20.0}

    def test_failure_keeps_what_was_reached(self, judge):
        judge.say("grasp", Phase.RUN, 3.0)
        judge.say("failure", Phase.RUN, 9.0)
        assert judge.verdict == Verdict(False, "judged by the operator")
        assert judge.reached == {"grasp": 3.0}

    @pytest.mark.parametrize("word", ["corner", "undo", "failure", "complete"])
    def test_nothing_is_judged_before_it_runs(self, judge, word):
        with pytest.raises(OperatorError, match="no trial is running"):
            judge.say(word, Phase.WAIT, 0.0)

    def test_what_was_judged_stays_so(self, judge):
        judge.say("failure", Phase.RUN, 9.0)
        with pytest.raises(OperatorError):
            judge.say("complete", Phase.RUN, 9.1)

    def test_nonsense_is_answered_with_the_words_there_are(self, judge):
        with pytest.raises(UnknownNameError, match="abort, begin, complete, corner"):
            judge.say("well done", Phase.RUN, 1.0)

    def test_where_the_cell_judges_only_abort_is_heard(self):
        watcher = Operator("one_leg", judges=False)
        assert watcher.begun
        assert watcher.words == ("abort",)

    def test_what_may_be_said_is_told(self, judge):
        assert Operator("one_leg", judges=True).sayable(running=False) == ["begin", "abort"]
        assert judge.sayable(running=False) == ["abort"]
        judge.say("corner", Phase.RUN, 3.0)
        assert judge.sayable(running=True) == ["grasp", "insert", "screw", "complete", "undo", "failure", "abort"]

    def test_every_word_has_a_key_of_its_own(self):
        keys = operator.keys("one_leg")
        assert set(keys) == set(Operator("one_leg", judges=True).words)
        assert len(set(keys.values())) == len(keys)


class TestKeys:
    @pytest.fixture
    def terminal(self):
        ours, theirs = pty.openpty()
        yield ours, os.ttyname(theirs)
        os.close(ours)
        os.close(theirs)

    def test_keys_of_a_terminal_are_words(self, terminal):
        desk = Desk("one_leg", operator.keys("one_leg"), lambda kind, camera: None, terminal[1])
        heard = []
        try:
            assert "space begin" in desk.invitation[0]
            os.write(terminal[0], b" 1?f")
            until_s = time.monotonic() + 30.0
            while len(heard) < 3 and time.monotonic() < until_s:
                desk.hear(lambda word: heard.append(word) or "")
        finally:
            desk.close()
        assert heard == ["begin", "corner", "failure"]

    def test_a_terminal_that_is_none_is_refused(self):
        with pytest.raises(Exception, match="cannot read the terminal /dev/nothing"):
            Desk("one_leg", operator.keys("one_leg"), lambda kind, camera: None, "/dev/nothing")
