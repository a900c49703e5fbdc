"""A demonstration by keyboard on the simulated cell, as `resip up teleop` starts it: keys in, a whole bag out."""

import json
import os
import pty

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from resip import topics
from resip.nodes import messages
from resip.recording.reader import Bag
from resip.recording.story import read_story
from resip.trials import records
from ros_harness import Observer, Program, free_port


@pytest.fixture
def observer():
    observer = Observer()
    observer.watch(topics.ROBOT_STATUS, topics.POLICY_STATUS, topics.CELL_STATUS, topics.TRIAL_STATUS)
    observer.hear(topics.EE_POSE, PoseStamped)
    yield observer
    observer.close()


@pytest.fixture
def keyboard():
    """The operator's end of a terminal, and its file's name."""
    operator, terminal = pty.openpty()
    yield operator, os.ttyname(terminal)
    os.close(operator)
    os.close(terminal)


@pytest.fixture
def up(tmp_path, keyboard):
    ports = ["--arm-port", str(free_port()), "--gripper-port", str(free_port())]
    options = ["--source", "keyboard", "--terminal", keyboard[1], "--trials", "1", "--record", str(tmp_path / "demos")]
    program = Program(["-m", "resip.cli", "up", "teleop", "--headless", *options, *ports], tmp_path / "up.log")
    yield program
    program.kill()


def height_m(observer):
    return float(messages.pose_from_msg(observer.newest[topics.EE_POSE].pose).position[2])


def pass_cell_time(observer, duration_s):
    def stamp_ns():
        return messages.stamp_ns(observer.newest[topics.EE_POSE].header.stamp)

    until_ns = stamp_ns() + round(duration_s * 1e9)
    observer.wait_for(lambda: stamp_ns() >= until_ns, f"{duration_s} s of the cell's time")


def test_an_operator_records_a_demonstration_with_keys_alone(up, observer, keyboard, tmp_path):
    def press(keys):
        os.write(keyboard[0], keys.encode())

    def says(words):
        return lambda: words in observer.status[topics.TRIAL_STATUS].get("message", "")

    observer.wait_for(says("begin"), "the operator's turn")

    def running():
        press("b")  # the node that reads the keys may not know yet whom to ask
        observer.spin(0.5)
        return says(" of 3600 s")()

    observer.wait_for(running, "the run")
    observer.wait_for_status(topics.POLICY_STATUS, phase="waiting")
    observer.wait_for(lambda: topics.EE_POSE in observer.newest, "the hand's pose")
    before_m = height_m(observer)

    def risen():
        press("q")
        observer.spin(0.1)
        return height_m(observer) > before_m + 0.03

    observer.wait_for(risen, "the arm to rise")
    observer.wait_for_status(topics.POLICY_STATUS, phase="waiting")
    pass_cell_time(observer, 1.0)
    at_rest_m = height_m(observer)
    pass_cell_time(observer, 1.0)
    assert height_m(observer) == pytest.approx(at_rest_m, abs=1e-3)  # no key, no motion
    press("m")
    observer.wait_for(lambda: "mark 1" in up.log, "the mark")
    press("t")
    assert up.popen.wait(60) == 0, up.log

    directory = records.trial_directory(tmp_path / "demos", 0)
    bag = Bag(directory)
    told = read_story(bag)
    assert (told.result, told.source, len(told.marks_s)) == ("success", "teleop:keyboard", 1)
    assert told.versions
    targets = [record.decode().pose.position for record in bag.records([topics.TARGET_POSE])]
    assert targets[-1].z > targets[0].z + 0.02
    assert np.ptp([target.x for target in targets]) < 5e-3
    assert json.loads((directory / "audit.json").read_text())["n_lost"] == 0
    assert observer.status[topics.CELL_STATUS]["faults"] == "0"
    assert "Traceback" not in up.log
