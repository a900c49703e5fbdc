"""The order of a trial: nothing moves before everything is ready, and every ending stops and disarms."""

import pytest
from resip.trials.protocol import Action, Phase, Plan, Trial, Verdict, View

SETUP = [Action.CONFIGURE, Action.RESET]
GO = [Action.RECORD, Action.ARM, Action.START]
CLEAN_UP = [Action.STOP, Action.DISARM]


class Rehearsal:
    """Plays the graph: answers each action, but those it is deaf to, and keeps the order in which they came."""

    def __init__(self, plan=None, refuse=(), deaf=()):
        self.plan = plan or Plan()
        self.trial = Trial(self.plan, steady_s=0.0)
        self.refuse = dict(refuse)
        self.deaf = set(deaf)
        self.asked = []
        self.ros_s = self.steady_s = 0.0

    def step(self, dt_s=0.1, clock_stands=False, **seen):
        self.steady_s += dt_s
        self.ros_s += 0.0 if clock_stands else dt_s
        view = View(self.ros_s, self.steady_s, **seen)
        action = self.trial.observe(view)
        if action is not None:
            self.asked.append(action)
            if action not in self.deaf:
                self.trial.reply(action not in self.refuse, self.refuse.get(action, ""), view)
        return action

    def until(self, phase, **seen):
        for _ in range(50):
            if self.trial.phase is phase:
                return self
            self.step(**seen)
        raise AssertionError(f"still {self.trial.phase} after 50 steps")


def test_a_success_goes_through_every_step_in_order():
    rehearsal = Rehearsal().until(Phase.RUN)
    rehearsal.step(verdict=Verdict(True, "assembled"))
    rehearsal.until(Phase.DONE)

    assert rehearsal.asked == [*SETUP, *GO, *CLEAN_UP]
    assert (rehearsal.trial.ending.result, rehearsal.trial.ending.reason) == ("success", "assembled")


def test_the_robot_is_not_armed_while_anything_is_missing():
    rehearsal = Rehearsal()
    for _ in range(100):
        rehearsal.step(missing=("front camera",))
    assert rehearsal.asked == SETUP
    assert rehearsal.trial.phase is Phase.WAIT


def test_what_never_appears_ends_the_trial_by_name_without_arming():
    rehearsal = Rehearsal(Plan(ready_timeout_s=5.0))
    rehearsal.until(Phase.DONE, dt_s=1.0, missing=("front camera", "policy"))
    assert rehearsal.trial.ending.result == "aborted"
    assert rehearsal.trial.ending.reason == "still missing after 5 s: front camera, policy"
    assert Action.ARM not in rehearsal.asked


def test_on_the_robot_no_cell_is_reset():
    rehearsal = Rehearsal(Plan(resets_cell=False)).until(Phase.RUN)
    assert rehearsal.asked == GO


def test_where_policies_take_turns_the_one_that_runs_is_chosen_first():
    assert Rehearsal(Plan(chooses_policy=True)).until(Phase.RUN).asked == [Action.CHOOSE, *SETUP, *GO]
    assert Rehearsal(Plan(chooses_policy=True, resets_cell=False)).until(Phase.RUN).asked == [Action.CHOOSE, *GO]


def test_a_question_that_was_lost_on_the_way_is_asked_again():
    """Nodes that are just finding each other can lose one, or its answer."""
    rehearsal = Rehearsal(Plan(repeat_s=25.0, reply_timeout_s=60.0), deaf={Action.CONFIGURE})
    for _ in range(25):
        rehearsal.step(dt_s=1.0)
    assert rehearsal.asked == [Action.CONFIGURE], "an answer has its time"
    rehearsal.deaf = set()
    rehearsal.step(dt_s=2.0)
    rehearsal.until(Phase.RUN)
    assert rehearsal.asked == [Action.CONFIGURE, *SETUP, *GO]


@pytest.mark.parametrize("action", [Action.ARM, Action.START])
def test_what_moves_the_arm_is_asked_for_once(action):
    rehearsal = Rehearsal(Plan(repeat_s=25.0, reply_timeout_s=60.0), deaf={action})
    rehearsal.until(Phase.DONE, dt_s=5.0)
    assert rehearsal.asked.count(action) == 1
    assert rehearsal.trial.ending.reason == f"could not {action.value}: no answer within 60 s"


def test_a_failed_assembly_is_the_policys_failure():
    rehearsal = Rehearsal().until(Phase.RUN)
    rehearsal.step(verdict=Verdict(False, "part left the table: leg4"))
    rehearsal.until(Phase.DONE)
    assert rehearsal.trial.ending.result == "failure"
    assert rehearsal.asked[-2:] == CLEAN_UP


def test_the_time_limit_is_counted_in_ros_time_from_the_start_of_the_policy():
    rehearsal = Rehearsal(Plan(time_limit_s=70.0)).until(Phase.RUN)
    for _ in range(699):
        rehearsal.step(dt_s=0.1)
    assert rehearsal.trial.phase is Phase.RUN
    rehearsal.step(dt_s=0.11)
    rehearsal.until(Phase.DONE)
    assert (rehearsal.trial.ending.result, rehearsal.trial.ending.reason) == ("failure", "time limit of 70 s")


def test_a_slow_machine_does_not_shorten_the_trial():
    rehearsal = Rehearsal(Plan(time_limit_s=1.0, stall_timeout_s=10.0)).until(Phase.RUN)
    for _ in range(9):
        rehearsal.step(dt_s=0.0999)  # the cell gets on
        for _ in range(9):
            rehearsal.step(dt_s=1.0, clock_stands=True)
    assert rehearsal.trial.phase is Phase.RUN


def test_a_clock_that_stands_still_ends_the_trial():
    rehearsal = Rehearsal(Plan(stall_timeout_s=10.0)).until(Phase.RUN)
    rehearsal.step(dt_s=11.0, clock_stands=True)
    rehearsal.until(Phase.DONE)
    assert rehearsal.trial.ending.reason == "the clock has stood still for 10 s"


def test_a_fault_while_running_stops_disarms_and_names_itself():
    rehearsal = Rehearsal().until(Phase.RUN)
    rehearsal.step(fault="franka_bridge_node: the robot's server was lost")
    rehearsal.until(Phase.DONE)
    assert rehearsal.trial.ending.result == "aborted"
    assert rehearsal.trial.ending.reason == "franka_bridge_node: the robot's server was lost"
    assert rehearsal.asked[-2:] == CLEAN_UP


def test_a_fault_while_nodes_find_each_other_may_pass():
    rehearsal = Rehearsal()
    for _ in range(5):
        rehearsal.step(fault="no server at 127.0.0.1:50051", missing=("robot state",))
    rehearsal.until(Phase.RUN)


def test_a_fault_that_stays_explains_what_is_missing():
    rehearsal = Rehearsal(Plan(ready_timeout_s=5.0))
    rehearsal.until(Phase.DONE, dt_s=1.0, missing=("robot state",), fault="no server at 127.0.0.1:50051")
    assert rehearsal.trial.ending.reason == "still missing after 5 s: robot state (no server at 127.0.0.1:50051)"


@pytest.mark.parametrize("action", [*SETUP, *GO])
def test_a_refusal_ends_the_trial_naming_what_was_refused_and_why(action):
    rehearsal = Rehearsal(refuse={action: "not now"}).until(Phase.DONE)
    assert rehearsal.trial.ending.result == "aborted"
    assert rehearsal.trial.ending.reason == f"could not {action.value}: not now"


@pytest.mark.parametrize("action", [Action.ARM, Action.START])
def test_from_the_attempt_to_arm_on_every_refusal_is_cleaned_up(action):
    rehearsal = Rehearsal(refuse={action: "no"}).until(Phase.DONE)
    assert rehearsal.asked[-2:] == CLEAN_UP


def test_a_refused_stop_still_disarms_and_does_not_hide_the_outcome():
    rehearsal = Rehearsal(refuse={Action.STOP: "gone", Action.DISARM: "gone"}).until(Phase.RUN)
    rehearsal.step(verdict=Verdict(True, "assembled"))
    rehearsal.until(Phase.DONE)
    assert rehearsal.asked[-2:] == CLEAN_UP
    assert rehearsal.trial.ending.result == "success"


def test_an_answer_that_never_comes_is_a_refusal():
    rehearsal = Rehearsal(Plan(reply_timeout_s=3.0), deaf={Action.CONFIGURE})
    assert rehearsal.step() is Action.CONFIGURE
    for _ in range(4):
        rehearsal.step(dt_s=1.0)
    rehearsal.until(Phase.DONE)
    assert rehearsal.trial.ending.reason == "could not set the cell's seed and randomness: no answer within 3 s"


def test_an_interrupt_while_running_stops_and_disarms():
    rehearsal = Rehearsal().until(Phase.RUN)
    rehearsal.trial.interrupt("interrupted")
    rehearsal.until(Phase.DONE)
    assert rehearsal.asked[-2:] == CLEAN_UP
    assert rehearsal.trial.ending.reason == "interrupted"


def test_the_run_lasts_from_the_policys_start_to_the_verdict():
    rehearsal = Rehearsal().until(Phase.RUN)
    began_s = rehearsal.ros_s
    for _ in range(10):
        rehearsal.step(dt_s=0.5)
    rehearsal.step(dt_s=0.5, verdict=Verdict(True, "assembled"))
    rehearsal.until(Phase.DONE)

    start_s, end_s = rehearsal.trial.run_s
    assert (start_s, end_s - start_s) == pytest.approx((began_s, 5.5))
    assert rehearsal.trial.wall_s == pytest.approx(5.5)
