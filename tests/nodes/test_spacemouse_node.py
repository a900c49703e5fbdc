"""The SpaceMouse node alone, with a fake device, clock and robot: when it speaks and when it holds."""

import os
import pty
import socket
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from resip import spaces, topics
from resip.control import panda
from resip.nodes import messages, runtime
from ros_harness import TICK_NS, Program, Surroundings, free_port, node
from sensor_msgs.msg import Joy

FAKE = Path(__file__).with_name("fake_spacemouse.py")
HOME = panda.ee_pose(panda.RESET_RAD)
AT_REST = bytes([1, *[0] * 12])  # as wireless models report: all axes at once
PULLED = bytes([1, 0, 0, 0x5E, 1, *[0] * 8])
SILENCE_S = 2.0  # long, so that a slow test is no silent device


class Desk(Surroundings):
    """With a SpaceMouse whose cap reports all the while."""

    def __init__(self):
        super().__init__()
        self.watch(topics.DIAGNOSTICS)
        self.hear(topics.JOY, Joy)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port = free_port()
        self.cap = None  # the report that the cap keeps sending

    def send(self, report):
        self._socket.sendto(report, ("127.0.0.1", self.port))

    def unplug(self):
        self.cap = None
        self.send(b"")

    def say(self):
        if self.cap is not None:
            self.send(self.cap)

    def pass_time_until_holding_because(self, reason):
        def as_wanted():
            self.pass_time()
            return self.status[topics.POLICY_STATUS].get("phase") == "holding" and reason in self.reason

        self.wait_for(as_wanted, f"holding because {reason}")

    def at_rest_and_started(self):
        """Plug the cap in, untouched, and start the node."""
        self.cap = AT_REST
        self.pass_time_until(phase="idle", reason="")
        assert self.call(topics.POLICY_START).success
        self.pass_time_until(phase="waiting")


@pytest.fixture
def surroundings():
    surroundings = Desk()
    yield surroundings
    surroundings.close()


@pytest.fixture
def start(tmp_path, surroundings):
    """Start the node with its fake device; it is gone after the test."""
    programs = []

    def start_node(**parameters):
        parameters = {"use_sim_time": "true", "retry_period_s": 0.1, "silence_s": SILENCE_S, **parameters}
        options = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
        command = [str(FAKE), str(surroundings.port), "--ros-args", *options]
        programs.append(Program(command, tmp_path / "spacemouse.log"))
        return programs[-1]

    yield start_node
    for program in programs:
        program.kill()


def test_a_pull_moves_the_target_towards_the_operator_and_letting_go_ends_the_targets(start, surroundings):
    start()
    surroundings.cap = AT_REST
    surroundings.pass_time_until(phase="idle", reason="")
    surroundings.cap = PULLED
    assert surroundings.silent()  # not started
    surroundings.cap = AT_REST
    surroundings.at_rest_and_started()
    assert surroundings.silent()  # no motion, and no deadman without it
    surroundings.cap = PULLED
    surroundings.pass_time_until(phase="running")
    surroundings.pass_time(5)

    target = messages.pose_from_msg(surroundings.newest[topics.TARGET_POSE].pose)
    np.testing.assert_allclose(target.position, HOME.position + [0.025, 0, 0], atol=1e-6)
    np.testing.assert_allclose(target.matrix, HOME.matrix, atol=1e-6)
    assert surroundings.newest[topics.TARGET_GRIPPER].position[0] == spaces.GRIPPER_OPEN
    assert all(messages.stamp_ns(m.header.stamp) % TICK_NS == 0 for m in surroundings.seen[topics.TARGET_POSE])
    assert list(surroundings.newest[topics.JOY].axes)[1] == pytest.approx(350 / 300)

    surroundings.cap = AT_REST
    surroundings.pass_time_until(phase="waiting")
    assert surroundings.silent()


def test_a_deflected_cap_that_falls_silent_is_a_hold_and_says_so(start, surroundings):
    program = start()
    surroundings.at_rest_and_started()
    surroundings.cap = PULLED
    surroundings.pass_time_until(phase="running")
    surroundings.cap = None
    surroundings.pass_time_until_holding_because("deflected SpaceMouse has said nothing")
    heard = len(surroundings.seen[topics.JOY])
    assert surroundings.silent()
    assert len(surroundings.seen[topics.JOY]) == heard  # no zeros are made up
    surroundings.pass_time(10)
    assert "has said nothing" in surroundings.status[topics.DIAGNOSTICS]["message"]
    assert program.log.count("holding: the deflected") == 1

    surroundings.cap = PULLED
    surroundings.pass_time_until_holding_because("let go")
    assert surroundings.silent()
    surroundings.cap = AT_REST
    surroundings.pass_time_until(phase="waiting")
    surroundings.cap = PULLED
    surroundings.pass_time_until(phase="running")


def test_unplugging_is_a_hold_until_it_is_back_and_at_rest(start, surroundings):
    program = start()
    surroundings.at_rest_and_started()
    surroundings.cap = PULLED
    surroundings.pass_time_until(phase="running")
    surroundings.unplug()
    surroundings.pass_time_until(phase="holding")
    assert "SpaceMouse" in surroundings.reason
    assert surroundings.silent()
    assert program.log.count("SpaceMouse Compact was unplugged; trying again") == 1

    surroundings.cap = PULLED
    surroundings.pass_time_until_holding_because("let go")
    assert surroundings.silent()
    surroundings.cap = AT_REST
    surroundings.pass_time_until(phase="waiting")
    assert "Traceback" not in program.log


def test_without_the_deadmans_button_nothing_moves(start, surroundings):
    start(deadman="button")
    surroundings.at_rest_and_started()
    surroundings.cap = PULLED
    surroundings.pass_time(5)
    assert surroundings.silent()
    surroundings.send(bytes.fromhex("03 02 00"))
    surroundings.pass_time_until(phase="running")
    surroundings.send(bytes.fromhex("03 00 00"))
    surroundings.pass_time_until(phase="waiting")
    assert surroundings.silent()


def test_another_publisher_of_targets_is_named_and_silences_it(start, surroundings):
    start()
    surroundings.at_rest_and_started()
    surroundings.cap = PULLED
    surroundings.pass_time_until(phase="running")
    rival = surroundings.node.create_publisher(PoseStamped, topics.TARGET_POSE, runtime.COMMAND_QOS)
    surroundings.pass_time_until(phase="holding")
    assert "more than one publisher" in surroundings.reason
    assert "/observer" in surroundings.reason
    assert surroundings.silent()
    assert surroundings.call(topics.POLICY_STOP).success
    refused = surroundings.call(topics.POLICY_START)
    assert not refused.success
    assert "/observer" in refused.message
    surroundings.node.destroy_publisher(rival)


def test_a_robot_whose_state_is_old_is_not_moved(start, surroundings):
    start()
    surroundings.at_rest_and_started()
    surroundings.cap = PULLED
    surroundings.pass_time_until(phase="running")
    surroundings.robot_is_there = False
    surroundings.pass_time_until_holding_because("the robot's state is")
    assert surroundings.silent()


def test_the_keyboard_of_a_terminal_does_the_same(surroundings, tmp_path):
    operator, terminal = pty.openpty()
    program = node(
        "spacemouse_node",
        tmp_path / "keyboard.log",
        source="keyboard",
        terminal=os.ttyname(terminal),
        use_sim_time=True,
    )
    try:
        surroundings.pass_time_until(phase="idle", reason="")
        surroundings.call(topics.POLICY_START)
        surroundings.pass_time_until(phase="waiting")
        os.write(operator, b"q")
        surroundings.wait_for(lambda: surroundings.pass_time() or surroundings.seen[topics.TARGET_POSE], "a target")
        assert surroundings.silent()
        (message,) = surroundings.seen[topics.TARGET_POSE]
        target = messages.pose_from_msg(message.pose)
        np.testing.assert_allclose(target.position, HOME.position + [0, 0, 0.01], atol=1e-6)
        os.write(operator, b"p")
        surroundings.pass_time_until(phase="paused")
        os.close(operator)
        surroundings.wait_for(lambda: surroundings.pass_time() or "was closed" in program.log, "the terminal is lost")
    finally:
        program.kill()
        os.close(terminal)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"source": "joystick"}, "choose from spacemouse, keyboard"),
        ({"profile": "keyboard"}, "choose from wired, wireless, fine"),
        ({"source": "keyboard", "deadman": "button"}, "deadman button needs source spacemouse"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, parameters, message):
    program = node("spacemouse_node", tmp_path / "refused.log", **parameters)
    try:
        assert program.popen.wait(60) == 1
        assert len(program.log.strip().splitlines()) == 1
        assert message in program.log
    finally:
        program.kill()
