"""The session node before a graph without physics: an operator begins, marks, keeps and discards."""

import json
from pathlib import Path

import pytest
from operators_page import OperatorsPage
from resip import topics
from resip.nodes.session_node import AUDIT_FILE
from resip.recording.reader import Bag
from resip.recording.writer import DEMONSTRATION_KEY
from resip.trials import records
from ros_harness import Observer, Program

FAKE_GRAPH = str(Path(__file__).with_name("fake_graph.py"))


@pytest.fixture
def observer():
    observer = Observer()
    observer.watch(topics.TRIAL_STATUS)
    yield observer
    observer.close()


@pytest.fixture
def session(tmp_path):
    """Start a session of n demonstrations before the fake graph."""
    programs = []

    def start(n, **more):
        programs.append(Program([FAKE_GRAPH], tmp_path / "graph.log"))
        own = more | {"n": n, "out_dir": tmp_path / "demos", "policy": "teleop:spacemouse", "operator": "'ann'"}
        options = [word for name, value in own.items() for word in ("-p", f"{name}:={value}")]
        command = ["-m", "resip.nodes.session_node", "--ros-args", "-p", "use_sim_time:=true", *options]
        programs.append(Program(command, tmp_path / "session.log"))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


def begin_running(observer):
    observer.wait_for(lambda: "begin" in observer.status[topics.TRIAL_STATUS].get("message", ""), "the operator's turn")
    assert not observer.call(topics.TRIAL_MARK).success  # nothing runs yet
    assert observer.call(topics.TRIAL_BEGIN).success
    observer.wait_for(lambda: " of 70 s" in observer.status[topics.TRIAL_STATUS].get("message", ""), "the run")


def about(directory):
    return json.loads(Bag(directory).custom[DEMONSTRATION_KEY])


def test_demonstrations_are_recorded_marked_kept_and_audited(session, observer, tmp_path):
    program = session(n=1)
    begin_running(observer)
    assert observer.call(topics.TRIAL_MARK).message == "mark 1"
    observer.spin(1.0)
    assert observer.call(topics.TRIAL_MARK).message == "mark 2"
    assert observer.call(topics.TRIAL_SUCCESS).success
    assert program.popen.wait(60) == 0, program.log

    (outcome,) = records.read_set(tmp_path / "demos").outcomes
    assert (outcome.result, outcome.reason) == ("success", "judged by the operator")
    directory = records.trial_directory(tmp_path / "demos", 0)
    told = about(directory)
    assert (told["task"], told["operator"], told["source"]) == ("one_leg", "ann", "teleop:spacemouse")
    assert (told["result"], told["seed"]) == ("success", 0)
    assert outcome.run_s[0] < told["marks_s"][0] < told["marks_s"][1] <= outcome.run_s[1] + 1.0
    assert told["calibration"].keys() == {"front", "wrist"}
    assert {"resip", "python", "numpy"} <= told["versions"].keys()
    marks = [record.decode() for record in Bag(directory).records([topics.TRIAL_STATUS])]
    assert [m.status[0].message for m in marks if m.status[0].message.startswith("mark")] == ["mark 1", "mark 2"]
    audit = json.loads((directory / AUDIT_FILE).read_text())
    assert (audit["complete"], audit["n_lost"], audit["missing_topics"]) == (True, 0, [])
    assert audit["camera_skew_s"] == {"median": 0.0, "max": 0.0}
    assert "audit: whole" in program.log
    assert "cameras apart by 0.0 ms" in program.log


def test_the_page_shows_what_the_cameras_see_and_takes_words_but_no_keys(session, observer, tmp_path):
    program = session(n=1, page_port=0)
    observer.wait_for(lambda: OperatorsPage.PRINTED in program.log, "the page's address")
    page = OperatorsPage(next(line for line in program.log.splitlines() if OperatorsPage.PRINTED in line))
    assert b"<kbd>" not in page.ask("/")  # the keyboard moves the robot, and its space stops it
    page.wait_for(lambda state: "begin" in state["sayable"] and "operator" in state["phase"])
    page.say("begin")
    page.wait_for(lambda state: state["running"])
    assert page.ask("/live/front")[:2] == b"\xff\xd8"  # a JPEG
    page.say("corner")
    page.say("complete")
    assert program.popen.wait(60) == 0, program.log
    (outcome,) = records.read_set(tmp_path / "demos").outcomes
    assert (outcome.result, outcome.reached["corner"] > 0) == ("success", True)


def test_a_discarded_demonstration_is_set_aside_and_repeated(session, observer, tmp_path):
    program = session(n=1)
    begin_running(observer)
    assert observer.call(topics.TRIAL_DISCARD).success
    observer.wait_for(lambda: "begin" in observer.status[topics.TRIAL_STATUS].get("message", ""), "the second attempt")
    begin_running(observer)
    assert observer.call(topics.TRIAL_FAILURE).success  # kept, as a failure
    assert program.popen.wait(60) == 0, program.log

    aside = tmp_path / "demos" / "trial_000_aborted_1"
    assert about(aside)["reason"] == "discarded by the operator"
    assert (aside / AUDIT_FILE).is_file()
    (outcome,) = records.read_set(tmp_path / "demos").outcomes
    assert (outcome.result, outcome.seed) == ("failure", 0)
