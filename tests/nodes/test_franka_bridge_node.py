"""The bridge against the simulated robot: what it says and does when the server or the robot fails it."""

import numpy as np
import pytest
from resip import topics
from resip.control import panda
from resip.nodes import messages, runtime
from ros_harness import Observer, free_port, node
from sensor_msgs.msg import JointState


@pytest.fixture
def observer():
    observer = Observer()
    observer.watch(topics.ROBOT_STATUS, topics.CELL_STATUS)
    observer.hear(topics.JOINT_STATES, JointState)
    yield observer
    observer.close()


@pytest.fixture
def ports():
    return {"arm_port": free_port(), "gripper_port": free_port()}


@pytest.fixture
def start(tmp_path, ports):
    """Start the cell or the bridge on the same ports; they are gone after the test."""
    programs = []

    def start_node(name):
        own = {
            "sim_cell": {"images": False},
            # longer than the cell waits for a silent commander
            "franka_bridge_node": {
                "stamp_source": "robot",
                "use_sim_time": True,
                "stale_after_s": 5.0,
                "supervised": False,
            },
        }
        programs.append(node(name, tmp_path / f"{name}{len(programs)}.log", **ports, **own[name]))
        return programs[-1]

    yield start_node
    for program in programs:
        program.kill()


def test_a_server_that_is_not_there_is_named_once_and_waited_for(start, observer, ports):
    bridge = start("franka_bridge_node")
    observer.wait_for_status(topics.ROBOT_STATUS, mode="disconnected")
    refused = observer.call(topics.BRIDGE_ARM)
    assert not refused.success
    assert f"127.0.0.1:{ports['arm_port']}" in refused.message

    start("sim_cell")
    observer.wait_for_status(topics.ROBOT_STATUS, gripper_connected="true")
    observer.wait_for(lambda: observer.call(topics.BRIDGE_ARM).success, "arming once the server is there")
    observer.wait_for_status(topics.ROBOT_STATUS, armed="true")
    assert bridge.log.count("waiting, one try a second") == 1
    assert bridge.end() == 0
    assert "Traceback" not in bridge.log


def test_a_server_that_dies_is_a_fault_until_it_is_armed_again(start, observer, ports):
    bridge = start("franka_bridge_node")
    cell = start("sim_cell")
    observer.wait_for_status(topics.ROBOT_STATUS, mode="idle")
    assert observer.call(topics.BRIDGE_ARM).success
    cell.kill()
    observer.wait_for_status(topics.ROBOT_STATUS, mode="faulted", armed="false")
    (line,) = [line for line in bridge.log.splitlines() if "faulted" in line]
    assert f"127.0.0.1:{ports['arm_port']}" in line

    start("sim_cell")
    observer.wait_for(lambda: float(observer.status[topics.CELL_STATUS].get("time_s", 9)) < 5, "the new cell")
    assert observer.status[topics.ROBOT_STATUS]["armed"] == "false"
    observer.wait_for(lambda: observer.call(topics.BRIDGE_ARM).success, "arming again")
    assert "Traceback" not in bridge.log


def test_commands_move_the_arm_only_when_armed_and_sound(start, observer):
    bridge = start("franka_bridge_node")
    start("sim_cell")
    commands = observer.node.create_publisher(JointState, topics.JOINT_COMMAND, runtime.COMMAND_QOS)
    observer.wait_for_status(topics.ROBOT_STATUS, mode="idle", gripper_connected="true")
    observer.wait_for(lambda: topics.JOINT_STATES in observer.newest, "robot state")

    def joints():
        return np.array(observer.newest[topics.JOINT_STATES].position[: panda.DOF])

    def command(q):
        """Command joints for a while, as often as states come."""
        for _ in range(60):
            stamp_ns = messages.stamp_ns(observer.newest[topics.JOINT_STATES].header.stamp)
            commands.publish(messages.joint_state(panda.JOINT_NAMES, q, stamp_ns))
            observer.spin(0.01)

    start_rad = joints()
    goal_rad = start_rad + np.array([0.1, 0.0, 0.0, -0.1, 0.0, 0.1, 0.0])
    command(goal_rad)
    np.testing.assert_allclose(joints(), start_rad, atol=0.01)

    assert observer.call(topics.BRIDGE_ARM).success
    command(np.full(panda.DOF, np.nan))
    np.testing.assert_allclose(joints(), start_rad, atol=0.01)
    assert "not finite at panda_joint1" in observer.status[topics.ROBOT_STATUS]["reason"]

    def moved():
        command(goal_rad)
        return np.abs(joints() - goal_rad).max() < 0.02

    observer.wait_for(moved, "the commanded joints")
    assert observer.call(topics.BRIDGE_DISARM).success
    observer.wait_for_status(topics.ROBOT_STATUS, mode="idle")
    assert observer.status[topics.CELL_STATUS]["protocol_violations"] == "0"
    assert bridge.log.count("holding:") == 1


def test_the_state_is_the_contracts(start, observer):
    start("franka_bridge_node")
    start("sim_cell")
    observer.wait_for(lambda: topics.JOINT_STATES in observer.newest, "robot state")
    message = observer.newest[topics.JOINT_STATES]
    assert tuple(message.name) == (*panda.JOINT_NAMES, *panda.FINGER_NAMES)
    assert len(message.position) == len(message.velocity) == len(message.effort) == 9
    assert message.position[7] == message.position[8] > 0.0
    assert messages.stamp_ns(message.header.stamp) % 2_000_000 < 1000  # the cell's steps are 2 ms
