"""The whole graph on a simulated cell, started as `resip up` starts it: every node, real DDS, real gRPC."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from resip import spaces, topics
from resip.control import panda
from resip.nodes import messages, runtime
from resip.policy.replay import save_actions
from ros_harness import Observer, Program, alive, children, free_port
from sensor_msgs.msg import JointState

NODES = 5
GOAL_OFFSET_M = np.array([0.04, -0.03, 0.06])


@pytest.fixture
def observer():
    observer = Observer()
    observer.watch(
        topics.ROBOT_STATUS, topics.POLICY_STATUS, topics.IK_STATUS, topics.CELL_STATUS, topics.SAFETY_STATUS
    )
    observer.hear(topics.EE_POSE, PoseStamped)
    observer.hear(topics.TARGET_POSE, PoseStamped)
    yield observer
    observer.close()


@pytest.fixture
def up(tmp_path):
    """Start `resip up one_leg` with a recording of actions; nothing of it is left after the test."""
    programs = []

    def start(actions, *options):
        save_actions(tmp_path / "actions.npz", actions)
        command = ["-m", "resip.cli", "up", "one_leg", "--headless", "--policy", f"replay:{tmp_path / 'actions.npz'}"]
        ports = ["--arm-port", str(free_port()), "--gripper-port", str(free_port())]
        programs.append(Program([*command, *ports, *options], tmp_path / "up.log"))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()


def ramp(n_moving=15, n_still=10, gripper=spaces.GRIPPER_OPEN):
    """Actions from the reset pose to one a few centimetres away, then staying there."""
    home = panda.ee_pose(panda.RESET_RAD)
    shares = np.minimum(np.arange(1, n_moving + n_still + 1) / n_moving, 1.0)
    return np.array([spaces.pack_action(home.position + s * GOAL_OFFSET_M, home.matrix, gripper) for s in shares])


def set_going(observer, first=True):
    """Arm the robot and start the policy once everybody is there."""
    if first:
        observer.wait_for_status(topics.ROBOT_STATUS, mode="idle", gripper_connected="true")
    observer.wait_for(lambda: topics.EE_POSE in observer.newest, "robot state")
    observer.wait_for_status(topics.POLICY_STATUS, phase="idle")
    armed = observer.call(topics.ARM)
    assert armed.success, armed.message
    assert observer.call(topics.POLICY_START).success


def reached_m(observer):
    return messages.pose_from_msg(observer.newest[topics.EE_POSE].pose).position


def test_recorded_actions_move_the_arm_and_the_graph_ends_in_order(up, observer):
    actions = ramp(gripper=spaces.GRIPPER_CLOSE)
    program = up(actions)
    set_going(observer)
    observer.wait_for_status(topics.POLICY_STATUS, phase="finished")

    assert np.linalg.norm(reached_m(observer) - actions[-1, :3]) < 0.006
    status = observer.status[topics.POLICY_STATUS]
    assert (status["missed_ticks"], status["chunk"]) == ("0", "1")
    assert int(status["ticks"]) >= len(actions) + 1  # the last one found the recording at its end
    stamps_ns = np.array([messages.stamp_ns(message.header.stamp) for message in observer.seen[topics.TARGET_POSE]])
    assert np.all(stamps_ns % 100_000_000 == 0)
    assert np.all(np.diff(stamps_ns) > 0)
    assert observer.status[topics.CELL_STATUS]["protocol_violations"] == "0"
    assert observer.status[topics.CELL_STATUS]["faults"] == "0"

    nodes = children(program.popen.pid)
    assert len(nodes) == NODES
    began_s = time.monotonic()
    assert program.end(signal.SIGINT) == 0, program.log
    assert time.monotonic() - began_s < 6.0  # 3 s where the machine is idle
    assert alive(nodes) == []
    assert "Traceback" not in program.log


def test_a_cell_that_dies_in_mid_motion_is_named_and_ends_the_graph(up, observer):
    program = up(ramp(n_moving=200))
    set_going(observer)
    observer.wait_for_status(topics.IK_STATUS, holding="false")
    nodes = children(program.popen.pid)
    (cell,) = [pid for pid in nodes if "resip.nodes.sim_cell" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(cell, signal.SIGKILL)

    assert program.popen.wait(20) == 1
    lines = program.log.splitlines()
    assert lines[-1].startswith("resip: error: the graph was stopped: sim_cell was killed by SIGKILL")
    assert any(
        "franka_bridge_node" in line and "faulted: the robot's server was lost: Polymetis server 127.0.0.1:" in line
        for line in lines
    )
    assert alive(nodes) == []
    assert "Traceback" not in program.log


def check_rivals(why, node, topic):
    """A stop for two publishers names both; it does not wait until discovery tells the second one's name."""
    assert "/observer" in why or runtime.UNNAMED in why
    assert node in why
    assert topic in why


def test_a_second_publisher_of_commands_is_named_and_the_arm_holds(up, observer):
    program = up(ramp(n_moving=300))
    set_going(observer)
    observer.wait_for_status(topics.IK_STATUS, holding="false")

    intruder = observer.node.create_publisher(PoseStamped, topics.TARGET_POSE, runtime.COMMAND_QOS)
    observer.wait_for_status(topics.SAFETY_STATUS, state="stopped")
    check_rivals(observer.status[topics.SAFETY_STATUS]["reason"], "/policy_node", topics.TARGET_POSE)
    observer.wait_for_status(topics.ROBOT_STATUS, armed="false")
    observer.wait_for_status(topics.POLICY_STATUS, phase="idle")
    observer.node.destroy_publisher(intruder)
    set_going(observer, first=False)
    observer.wait_for_status(topics.IK_STATUS, holding="false")

    intruder = observer.node.create_publisher(JointState, topics.JOINT_COMMAND, runtime.COMMAND_QOS)
    observer.wait_for_status(topics.ROBOT_STATUS, armed="false")
    check_rivals(observer.status[topics.ROBOT_STATUS]["message"], "/diff_ik_node", topics.JOINT_COMMAND)
    held_m = reached_m(observer)
    q = panda.RESET_RAD
    for _ in range(50):
        intruder.publish(messages.joint_state(panda.JOINT_NAMES, q, 0))
        observer.spin()
    assert np.linalg.norm(reached_m(observer) - held_m) < 0.003
    assert not observer.call(topics.ARM).success

    observer.node.destroy_publisher(intruder)
    observer.wait_for(lambda: observer.call(topics.ARM).success, "arming again")
    assert "Traceback" not in program.log


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["one_legg"], ["one_legg", "did you mean 'one_leg'"]),
        (["one_leg", "--robot", "polymetis"], ["robot_ip"]),
        (["one_leg", "--headless", "--policy", "replay:nowhere.npz"], ["policy_node", "nowhere.npz"]),
        (["one_leg", "--policy", "nowhere"], ["policy_node", "nowhere", "not a model folder"]),
    ],
)
def test_what_cannot_run_is_one_line_and_status_1(tmp_path, command, words):
    ports = ["--arm-port", str(free_port()), "--gripper-port", str(free_port())]
    program = Program(["-m", "resip.cli", "up", *command, *ports], tmp_path / "up.log")
    try:
        assert program.popen.wait(60) == 1
    finally:
        program.kill()
    last = program.log.splitlines()[-1]
    assert last.startswith("resip: error: ")
    assert all(word in last for word in words), last
    assert "Traceback" not in program.log
