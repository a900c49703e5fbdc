"""The simulated robot around the server: limits, faults, recovery, stalls, and its description of itself."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from fake_cell import TIMESTEP_S, FakeCell, run_for
from resip import rotation
from resip.control import panda
from resip.polymetis import archives, hardware
from resip.polymetis.server import ServerError
from resip.polymetis.simulated import LimitMonitor, SimulatedRobot, soft_limit_torques
from resip.polymetis.urdf import kinematic_urdf

ELSEWHERE_RAD = panda.RESET_RAD + np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3])  # within all limits


@pytest.fixture
def robot():
    torch.set_num_threads(1)
    made = SimulatedRobot(FakeCell())
    made.start()
    yield made
    made.stop()


def test_the_default_controller_holds_the_arm(robot):
    robot._cell.joint_velocities = np.full(7, 0.05)
    run_for(robot, 5.0)
    np.testing.assert_allclose(robot._cell.joint_positions, panda.RESET_RAD, atol=1e-3)


def test_states_are_logged_with_the_cells_time(robot):
    run_for(robot, 0.1)
    state = robot.server.state()
    assert state.timestamp_ns == round((0.1 - TIMESTEP_S) * 1e9)
    np.testing.assert_allclose(state.joint_positions, panda.RESET_RAD, atol=1e-6)


def test_torques_are_cut_as_the_robot_client_cuts_them(robot):
    robot.tick()
    robot._cell.joint_positions = panda.RESET_RAD - 0.1
    robot.server._default.Kq.fill_(1e6)
    robot.tick()
    np.testing.assert_allclose(robot._cell.applied, hardware.TORQUE_NM)


@pytest.mark.parametrize(
    ("joint", "position", "velocity", "reason"),
    [
        (0, 2.81, 0.0, "panda_joint1's position limit"),
        (3, -2.98, 0.0, "panda_joint4's position limit"),
        (6, 0.0, 2.6, "panda_joint7's velocity limit"),
    ],
)
def test_each_hard_limit_is_named(joint, position, velocity, reason):
    q, qd = panda.RESET_RAD.copy(), np.zeros(7)
    q[joint], qd[joint] = position, velocity
    assert reason in LimitMonitor().check(q, qd, 0.0)
    assert LimitMonitor().check(panda.RESET_RAD, np.zeros(7), 0.0) is None


def test_the_end_effectors_box_is_a_hard_limit():
    q = panda.RESET_RAD.copy()
    q[0] = 1.2
    assert LimitMonitor().check(q, np.zeros(7), 0.0) == "end effector's y limit"


def test_a_limit_still_exceeded_after_the_recovery_is_overlooked_until_it_was_left():
    q, still, monitor = panda.RESET_RAD.copy(), np.zeros(7), LimitMonitor()
    q[6] = 2.81
    assert monitor.check(q, still, 0.0)
    monitor.forgive(q, still, 1.0)
    assert monitor.check(q, still, 1.1) is None
    assert monitor.check(panda.RESET_RAD, still, 1.2) is None
    assert monitor.check(q, still, 1.3)


def test_the_robot_pushes_back_before_its_limits():
    q, qd = panda.RESET_RAD.copy(), np.zeros(7)
    np.testing.assert_array_equal(soft_limit_torques(q, qd), np.zeros(7))
    q[0], q[3], qd[6] = 2.80, -2.87, 2.51
    expected = np.zeros(7)
    expected[0], expected[3], expected[6] = -10.0, 5.0, -10.0
    np.testing.assert_allclose(soft_limit_torques(q, qd), expected, atol=1e-9)


def test_a_hard_limit_stops_the_robot_for_more_than_a_second_and_it_recovers(robot):
    run_for(robot, 0.1)
    robot._cell.joint_velocities = np.array([0, 0, 0, 0, 0, 0, 2.6])
    robot.tick()
    assert robot.faulted
    assert robot.faults == ["panda_joint7's velocity limit"]
    frozen = robot.server.state().timestamp_ns
    run_for(robot, 1.0)
    assert robot.server.state().timestamp_ns == frozen
    run_for(robot, 0.05)
    with pytest.raises(ServerError, match="context not valid"):
        robot.server.metadata()
    run_for(robot, 0.1)
    assert not robot.faulted
    assert robot.server.state().timestamp_ns - frozen > 1e9
    assert np.max(np.abs(robot._cell.joint_velocities)) < 0.05
    assert len(robot.faults) == 1


def test_a_stall_holds_the_updates_back_for_its_time(robot):
    run_for(robot, 0.1)
    before = robot.server.state().timestamp_ns
    robot.stall(0.5)
    run_for(robot, 0.4)
    assert robot.server.state().timestamp_ns == before
    run_for(robot, 0.2)
    assert robot.server.state().timestamp_ns - before > 0.5e9
    assert robot.faults == []


def test_a_relocated_arm_is_held_where_it_was_put(robot):
    run_for(robot, 0.1)
    robot._cell.joint_positions = ELSEWHERE_RAD
    robot.relocated()
    assert robot.server.episode().start == -1
    run_for(robot, 0.2)
    np.testing.assert_allclose(robot._cell.joint_positions, ELSEWHERE_RAD, atol=1e-6)
    assert robot.faults == []


def test_relocating_takes_a_running_fault_back(robot):
    robot.inject_fault("a reflex")
    robot.tick()
    assert robot.faulted
    robot.relocated()
    assert not robot.faulted


def test_the_metadatas_urdf_is_the_arm_of_the_core():
    root = ET.fromstring(kinematic_urdf())
    q = panda.RESET_RAD
    frame = np.eye(4)
    angles = iter(q)
    for joint in root.findall("joint"):
        origin = joint.find("origin")
        assert origin is not None
        step = np.eye(4)
        roll = float(origin.attrib["rpy"].split()[0])
        step[:3, :3] = rotation.matrix_from_rotvec([roll, 0, 0])
        step[:3, 3] = [float(value) for value in origin.attrib["xyz"].split()]
        if joint.attrib["type"] == "revolute":
            step[:3, :3] = step[:3, :3] @ rotation.matrix_from_rotvec([0, 0, next(angles)])
        frame = frame @ step
    np.testing.assert_allclose(frame[:3, 3], panda.flange_pose(q).position, atol=1e-12)
    np.testing.assert_allclose(frame[:3, :3], panda.flange_pose(q).matrix, atol=1e-12)
    assert root.findall("link")[-1].attrib["name"] == hardware.EE_LINK_NAME


def test_an_arm_relocated_after_a_controller_has_ended_is_held_where_it_was_put(robot):
    with robot.ticking():
        robot.server.set_controller(archives.hold_archive())
        robot.server.terminate_controller()
    run_for(robot, 0.1)
    robot._cell.joint_positions = ELSEWHERE_RAD
    robot._cell.joint_velocities = np.zeros(7)
    robot.relocated()
    run_for(robot, 0.2)
    np.testing.assert_allclose(robot._cell.joint_positions, ELSEWHERE_RAD, atol=1e-6)
    assert robot.faults == []
