"""The trial node as a process, before a graph without physics: order, verdicts, bag, ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from operators_page import OperatorsPage
from resip import topics
from resip.recording.check import inspect
from resip.recording.reader import Bag
from resip.recording.story import read_story
from resip.trials import records

FAKE_GRAPH = Path(__file__).with_name("fake_graph.py")


@pytest.fixture
def environment():
    domain = 100 + os.getpid() % 100  # of this process's own, so that tests can run side by side
    return {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


@pytest.fixture
def start(environment, tmp_path):
    """Start a node as a process; everything started is ended after the test."""
    running = []

    def start_node(command, **parameters):
        arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        popen = subprocess.Popen(
            [sys.executable, *command, "--ros-args", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(popen)
        return popen

    yield start_node
    for popen in running:
        popen.send_signal(signal.SIGINT)
    for popen in running:
        popen.wait(timeout=10)


@pytest.fixture
def trials(start, tmp_path):
    """Start trials before a graph that behaves as asked; ``directory`` is where they are recorded."""

    graphs = []

    def start_trials(n=1, ready_timeout_s=30.0, own=None, **graph):
        for earlier in graphs:
            earlier.send_signal(signal.SIGINT)
            earlier.communicate(timeout=10)
        graphs.append(start([str(FAKE_GRAPH)], **graph))
        parameters = {"n": n, "time_limit_s": 20.0, "ready_timeout_s": ready_timeout_s, "policy": "models/p"}
        parameters |= {"use_sim_time": "true", "out_dir": tmp_path / "set"} | (own or {})
        return start(["-m", "resip.nodes.trial_node"], **parameters)

    return start_trials


def finish(popen):
    output, _ = popen.communicate(timeout=60)
    return popen.returncode, output


def read(tmp_path):
    return records.read_set(tmp_path / "set")


def services_called(tmp_path, index=0):
    """The fake graph logs each service it answers; the log is in the bag."""
    log = Bag(records.trial_directory(tmp_path / "set", index)).records(["/rosout"])
    return [record.decode().msg.split()[0] for record in log if record.decode().name == "sim_cell"]


def test_trials_are_run_judged_recorded_whole_and_measured(trials, tmp_path):
    status, output = finish(trials(n=2, verdict="success then failed"))

    assert status == 0, output  # a failed assembly is a result and no error
    done = read(tmp_path)
    assert [(o.index, o.seed, o.result, o.reason) for o in done.outcomes] == [
        (0, 0, "success", "assembled"),
        (1, 1, "failure", "part left the table: leg4"),
    ]
    first = done.outcomes[0]
    assert 1.5 <= first.duration_s < 3.0
    assert (first.missed_ticks, first.held_ticks, first.lost_messages) == (0, 0, 0)
    assert first.tick_rate_hz == pytest.approx(10.0)
    assert first.ticks >= 15
    assert first.model == {"model_sha256": "ab" * 32}
    assert first.latency["policy_inference"]["median"] == 25.0
    assert "trial 2 (seed 1): failure, part left the table: leg4" in output
    for index in (0, 1):
        report = inspect(records.trial_directory(tmp_path / "set", index))
        assert report.problems == []
        assert services_called(tmp_path, index) == [topics.ARM, topics.POLICY_START, topics.POLICY_STOP, topics.DISARM]


def test_a_fault_of_a_node_aborts_the_set_disarmed_with_one_line_and_no_traceback(trials, tmp_path):
    status, output = finish(trials(n=3, verdict="fault"))
    assert status == 1
    assert "aborted, policy_node: inference failed: out of memory" in output
    assert "Traceback" not in output
    assert len(read(tmp_path).outcomes) == 1
    assert services_called(tmp_path)[-2:] == [topics.POLICY_STOP, topics.DISARM]


def test_a_policy_that_is_stopped_for_an_unsound_action_has_failed_and_the_set_goes_on(trials, tmp_path):
    status, output = finish(trials(n=2, verdict="unsound then success"))
    assert status == 0, output
    assert [(o.result, o.reason) for o in read(tmp_path).outcomes] == [
        ("failure", "policy_node: unsound action: the target turns by 2.72 rad"),
        ("success", "assembled"),
    ]
    assert services_called(tmp_path)[-2:] == [topics.POLICY_STOP, topics.DISARM]


def test_a_camera_that_is_silent_is_named_and_nothing_is_armed(trials, tmp_path):
    status, output = finish(trials(verdict="success", silent=topics.compressed("wrist"), ready_timeout_s=3.0))
    assert status == 1
    assert "aborted, still missing after 3 s: wrist camera" in output
    assert not (tmp_path / "set" / "trial_000" / "bag").exists()


def test_a_question_whose_answer_is_lost_is_asked_again(trials, tmp_path):
    status, output = finish(trials(resets_to_lose=1))
    assert status == 0, output
    assert [outcome.result for outcome in read(tmp_path).outcomes] == ["success"]


def test_policies_take_turns_by_chance_and_unnamed(trials, tmp_path):
    own = {"policy": "good=models/p,bad=models/q", "operator": "ann", "seed": 6}
    status, output = finish(trials(n=3, verdict="first policy succeeds", run_s=0.3, own=own))

    assert status == 0, output
    done = read(tmp_path)
    assert done.finished
    assert [(o.policy, o.seed) for o in done.outcomes] == [(s.policy, 6 + s.start) for s in done.settings.slots()]
    assert {o.policy for o in done.outcomes[::2]} == {"good", "bad"}  # each goes first at times
    assert all(o.success == (o.policy == "good") for o in done.outcomes)
    assert {o.model["model_sha256"][:2] for o in done.outcomes if o.policy == "good"} == {"ab"}
    assert {o.model["model_sha256"][:2] for o in done.outcomes if o.policy == "bad"} == {"cd"}
    assert "good" not in output
    assert "bad" not in output

    told = read_story(Bag(tmp_path / "set" / "trial_000"))
    assert (told.source, told.operator, told.policy["name"]) == ("policy", "ann", done.outcomes[0].policy)
    assert {"resip", "python", "numpy"} <= told.versions.keys()
    assert (tmp_path / "set" / "starts" / "002_front.jpg").is_file()


def test_an_operator_judges_on_the_page_and_takes_a_trial_back(trials, tmp_path):
    popen = trials(verdict="none", own={"judge": "operator", "page_port": 0})
    page = OperatorsPage(next(line for line in popen.stdout if OperatorsPage.PRINTED in line))

    page.wait_for(lambda state: "begin" in state["sayable"] and "operator" in state["phase"])
    assert page.ask("/wanted/front") is None
    page.say("begin")
    page.wait_for(lambda state: state["running"])
    assert page.ask("/live/wrist")[:2] == b"\xff\xd8"  # a JPEG
    page.say("corner")
    page.say("abort")
    page.wait_for(lambda state: "begin" in state["sayable"] and not state["marks"])
    page.say("begin")
    page.wait_for(lambda state: state["running"])
    for word in ("corner", "insert", "undo", "grasp", "failure"):
        page.say(word)
    status, output = finish(popen)

    assert status == 0, output
    (outcome,) = read(tmp_path).outcomes
    assert (outcome.result, outcome.reason, outcome.judge) == ("failure", "judged by the operator", "operator")
    assert list(outcome.reached) == ["corner", "grasp"]
    aside = json.loads((tmp_path / "set" / "trial_000_aborted_1" / "outcome.json").read_text())
    assert (aside["result"], aside["reason"]) == ("aborted", "aborted by the operator")
    assert services_called(tmp_path)[-2:] == [topics.POLICY_STOP, topics.DISARM]


def test_an_interrupted_trial_leaves_a_closed_bag_and_is_run_again_when_resumed(trials, tmp_path):
    popen = trials(verdict="success", time_limit_s=20.0)
    wait_until_running(popen)
    popen.send_signal(signal.SIGINT)
    status, output = finish(popen)

    assert status == 1, output
    assert "Traceback" not in output
    assert read(tmp_path).outcomes[0].reason == "interrupted"
    assert Bag(tmp_path / "set" / "trial_000").complete

    status, output = finish(trials(verdict="success"))
    assert status == 0, output
    assert read(tmp_path).outcomes[0].result == "success"
    aside = json.loads((tmp_path / "set" / "trial_000_aborted_1" / "outcome.json").read_text())
    assert aside["reason"] == "interrupted"


def wait_until_running(popen):
    deadline_s = time.monotonic() + 30.0
    for line in popen.stdout:
        assert time.monotonic() < deadline_s
        if " of 20 s" in line:
            return
    raise AssertionError("the trial never ran")
