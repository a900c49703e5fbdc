"""Whether inputs still come, and whether the arm may move: the supervisor without ROS."""

import os
import subprocess

import pytest
from resip.safety import process
from resip.safety.sources import DEAD_AFTER_S, FAULT_MEMORY_S, Bounds, Health, Source
from resip.safety.supervisor import GRANT_TIMEOUT_S, State, Supervisor

BOUNDS = Bounds(late_after_s=0.05, missing_after_s=0.1)


def heard(*stamps_s, ordered=True):
    """A camera that was heard in time with these stamps."""
    source = Source("front camera", BOUNDS, ordered)
    for stamp_s in stamps_s:
        source.heard(stamp_s, now_s=stamp_s)
    return source


def armed(now_s=0.0):
    """A supervisor whose permission the bridge has taken up."""
    supervisor = Supervisor()
    assert supervisor.begin_arming([]) == ""
    assert supervisor.end_arming("", now_s) == ""
    supervisor.watch([], True, "", now_s)
    return supervisor


@pytest.mark.parametrize(
    ("age_s", "health"),
    [
        (0.0, Health.OK),
        (0.04, Health.OK),
        (0.06, Health.LATE),
        (0.11, Health.MISSING),
        (DEAD_AFTER_S + 0.1, Health.DEAD),
    ],
)
def test_an_input_ages(age_s, health):
    source = heard(1.0)
    assert source.health(1.0 + age_s) is health
    assert bool(source.problem(1.0 + age_s)) == (health in (Health.MISSING, Health.DEAD))


def test_an_input_that_never_came_is_named():
    assert heard().problem(5.0) == "front camera: nothing has come yet"


@pytest.mark.parametrize(
    ("stamp_s", "now_s", "words"),
    [
        (0.9, 1.0, "went back by 0.100 s"),
        (1.0, 1.0, "came twice"),
        (6.0, 1.0, "5.00 s ahead"),
        (1.05, 1.5, "comes 0.45 s late"),
    ],
)
def test_stamps_out_of_order_are_a_problem_for_a_while(stamp_s, now_s, words):
    source = heard(0.8, 1.0)
    source.heard(stamp_s, now_s)
    assert words in source.problem(now_s)
    later_s = now_s + FAULT_MEMORY_S + 0.01
    source.heard(later_s, later_s)
    assert source.problem(later_s) == ""


def test_silence_counts_from_when_a_message_came_however_old_it_was():
    source = Source("front camera", BOUNDS, ordered=True)
    source.heard(1.0, now_s=1.06)
    source.heard(1.03, now_s=1.09)
    assert source.health(1.13) is Health.OK
    assert "missing, nothing for 0.11 s" in source.problem(1.2)


def test_statuses_may_come_twice_with_one_stamp():
    assert heard(1.0, 1.0, ordered=False).problem(1.0) == ""


def test_nothing_is_permitted_before_it_is_armed():
    supervisor = Supervisor()
    assert not supervisor.permits
    assert supervisor.begin_arming(["front camera: missing", "limits differ"]) == "front camera: missing; limits differ"
    assert not supervisor.permits
    assert supervisor.begin_arming([]) == ""
    assert not supervisor.permits, "the bridge has not armed yet"
    supervisor.end_arming("", 0.0)
    assert supervisor.permits


def test_a_bridge_that_refuses_is_the_reason():
    supervisor = Supervisor()
    supervisor.begin_arming([])
    assert supervisor.end_arming("arming failed: no server", 0.0) == "arming failed: no server"
    assert supervisor.state is State.STOPPED


def test_a_stop_outlives_its_cause_until_the_next_arming():
    supervisor = armed()
    assert supervisor.watch(["front camera: missing"], True, "", 1.0)
    assert not supervisor.watch([], True, "", 1.1), "no news"
    assert not supervisor.permits
    assert supervisor.reason == "front camera: missing"
    supervisor.disarm()
    assert supervisor.state is State.STOPPED
    assert supervisor.begin_arming([]) == ""
    assert supervisor.end_arming("", 2.0) == ""
    assert supervisor.permits


def test_a_stop_while_arming_wins():
    supervisor = Supervisor()
    supervisor.begin_arming([])
    supervisor.stop("the operator stopped the robot")
    assert supervisor.end_arming("", 0.0) == "the operator stopped the robot"
    assert not supervisor.permits


def test_a_bridge_that_disarms_by_itself_or_never_takes_the_permission_is_a_stop():
    supervisor = armed()
    assert supervisor.watch([], False, "the server ended the controller", 1.0)
    assert "the server ended the controller" in supervisor.reason

    supervisor.begin_arming([])
    supervisor.end_arming("", 2.0)
    assert not supervisor.watch([], False, "", 2.0 + GRANT_TIMEOUT_S / 2)
    assert supervisor.watch([], False, "", 2.0 + GRANT_TIMEOUT_S * 1.1)


def test_disarming_in_good_order_is_no_stop():
    supervisor = armed()
    supervisor.disarm()
    assert not supervisor.watch(["front camera: dead"], False, "", 1.0)
    assert supervisor.state is State.DISARMED


def test_a_word_carries_the_process_that_said_it():
    assert process.read(process.signed("go"), "go") == (True, os.getpid())
    assert process.read("go", "go") == (True, None)
    assert process.read("go away", "go") == (False, None)
    assert process.read("cannot write: no space left on device", "recording") == (False, None)


def test_the_end_of_a_process_is_known_at_once_and_that_of_an_unseen_one_never():
    child = subprocess.Popen(["sleep", "1000"])
    watch = process.Watch()
    watch.heard(child.pid)
    assert not watch.ended
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert watch.ended
    child.wait()
    watch.heard(None)
    assert not watch.ended
    watch.heard(2**22 + 1)  # beyond the highest number that there is
    assert not watch.ended
    watch.close()
