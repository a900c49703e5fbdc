"""The arm's session against a simulated robot over gRPC: normal use, and everything that can go wrong."""

from __future__ import annotations

import threading
import time

import grpc
import numpy as np
import pytest
import torch
from fake_cell import FakeCell, wait_for
from resip import rotation
from resip.control import panda
from resip.polymetis import archives
from resip.polymetis.archives import ImpedanceSettings
from resip.polymetis.client import ArmClient
from resip.polymetis.server import ServerError
from resip.polymetis.session import ArmSession, Mode, SessionSettings, check_target, clip_joints
from resip.polymetis.simulated import SimulatedRobot

COMMAND_PERIOD_NS = 10_000_000


class Rig:
    """A simulated robot, a session with it, and a bridge's loop in cell time."""

    def __init__(self, stale_after_s=20.0):
        torch.set_num_threads(1)
        self.cell = FakeCell()
        self.robot = SimulatedRobot(self.cell)
        self.robot.start()
        self.port = self.robot.arm_port
        client = ArmClient(port=self.port, deadline_s=20.0)
        self.session = ArmSession(client, SessionSettings(stale_after_s=stale_after_s))

    def poll_until(self, mode):
        wait_for(lambda: self.session.poll().mode is mode, f"the session is {mode.value}")
        return self.session.poll()

    def arm(self):
        self.poll_until(Mode.IDLE)
        status = self.session.arm()
        assert status.mode is Mode.ARMED, status.reason
        return status

    def command_for(self, duration_s, q):
        """Command ``q`` at 100 Hz of cell time; the last status."""
        end_s = self.cell.time_s + duration_s
        due_ns = 0
        while self.cell.time_s < end_s:
            status = self.session.poll()
            if status.mode is not Mode.ARMED:
                return status
            if status.state.timestamp_ns >= due_ns:
                due_ns = status.state.timestamp_ns + COMMAND_PERIOD_NS
                status = self.session.command(q)
            else:
                time.sleep(0.002)  # the robot's thread gets the processor
        return status


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.session.close()
    made.robot.stop()


def test_the_arm_is_driven_to_5_mm_and_1_degree_with_the_default_gains(rig):
    goal = panda.RESET_RAD + np.array([0.3, -0.2, 0.2, 0.25, -0.3, 0.2, 0.4])
    with rig.robot.ticking():
        rig.arm()
        assert rig.command_for(2.5, goal).mode is Mode.ARMED
        reached = panda.ee_pose(rig.session.poll().state.joint_positions)
    wanted = panda.ee_pose(goal)
    assert np.linalg.norm(reached.position - wanted.position) < 0.005
    assert np.rad2deg(rotation.angle_between(reached.matrix, wanted.matrix)) < 1.0
    assert rig.robot.protocol_violations == 0
    assert rig.robot.faults == []


def test_arming_holds_the_arm_where_it_is(rig):
    with rig.robot.ticking():
        rig.arm()
        start_s = rig.cell.time_s
        wait_for(lambda: rig.cell.time_s > start_s + 0.5, "half a second passes")
    np.testing.assert_allclose(rig.cell.joint_positions, panda.RESET_RAD, atol=1e-5)


def test_nothing_moves_before_it_is_armed(rig):
    with rig.robot.ticking():
        rig.poll_until(Mode.IDLE)
        status = rig.session.command(panda.RESET_RAD + 0.2)
    assert status.mode is Mode.IDLE
    assert status.reason == "not armed: the command was ignored"
    np.testing.assert_allclose(rig.cell.joint_positions, panda.RESET_RAD, atol=1e-9)
    assert rig.robot.protocol_violations == 0


def test_silence_is_a_hold_within_the_watchdogs_time(rig):
    goal = panda.RESET_RAD.copy()
    goal[0] += 1.2
    with rig.robot.ticking():
        rig.arm()
        rig.command_for(0.2, goal)
        stopped_s = rig.cell.time_s
        wait_for(lambda: rig.cell.time_s > stopped_s + 1.5, "the arm settles")
        settled = rig.cell.joint_positions[0]
        wait_for(lambda: rig.cell.time_s > stopped_s + 2.0, "more time passes")
    slew = ImpedanceSettings().slew_rad_s[0]
    assert settled - panda.RESET_RAD[0] < slew * 0.6  # 0.2 s of commands, 0.2 s of patience, and what was under way
    assert abs(rig.cell.joint_positions[0] - settled) < 1e-3


def test_disarming_lets_the_servers_own_controller_hold(rig):
    with rig.robot.ticking():
        rig.arm()
        assert rig.session.disarm().mode is Mode.IDLE
        assert rig.poll_until(Mode.IDLE).reason == ""
        assert rig.session.arm().mode is Mode.ARMED
        assert rig.session.arm().mode is Mode.ARMED
    assert rig.robot.protocol_violations == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (np.array([0, 0, np.nan, 0, 0, 0, 0]), "panda_joint3 is not finite"),
        (np.zeros(6), r"it has shape \(6,\), not \(7,\)"),
        (np.array([1.2, 0.2, 0, 0.3, 0, 0, 0]), r"fingertip y = 0\.\d+ m is outside the robot's box, -0.4 to 0.4 m"),
    ],
)
def test_an_unsound_command_is_refused_and_the_arm_holds(rig, change, complaint):
    q = panda.RESET_RAD[: len(change)] + change
    with rig.robot.ticking():
        rig.arm()
        status = rig.session.command(q)
    assert status.mode is Mode.ARMED
    with pytest.raises(AssertionError, match=f"the command was refused: {complaint}"):
        raise AssertionError(status.reason)
    np.testing.assert_allclose(rig.cell.joint_positions, panda.RESET_RAD, atol=1e-4)


def test_joint_targets_stay_out_of_the_robots_soft_limits():
    np.testing.assert_allclose(clip_joints(np.full(7, 9.0)), [2.6, 1.46, 2.6, -0.37, 2.6, 3.45, 2.6])
    np.testing.assert_allclose(clip_joints(np.full(7, -9.0)), [-2.6, -1.46, -2.6, -2.77, -2.6, 0.28, -2.6])
    assert check_target(panda.RESET_RAD) == ""


def test_no_server_is_a_status_that_names_the_address(rig):
    rig.robot.stop()
    status = rig.session.poll()
    assert status.mode is Mode.DISCONNECTED
    assert f"127.0.0.1:{rig.port}" in status.reason
    status = rig.session.arm()
    assert status.mode is Mode.FAULTED
    assert status.reason.startswith("arming failed: Polymetis server 127.0.0.1")
    assert "GetRobotClientMetadata" in status.reason


def test_a_robot_that_does_not_advance_is_not_armed():
    rig = Rig(stale_after_s=0.1)
    rig.robot.tick()
    status = rig.session.arm()
    assert status.mode is Mode.FAULTED
    assert "does not advance" in status.reason
    assert rig.robot.protocol_violations == 0
    rig.session.close()
    rig.robot.stop()


def test_a_server_that_dies_in_mid_motion_is_a_fault_and_no_exception(rig):
    with rig.robot.ticking():
        rig.arm()
        stopper = threading.Timer(0.2, rig.robot.stop)
        stopper.start()
        status = rig.command_for(1000.0, panda.RESET_RAD + 0.1)
        stopper.join()
    assert status.mode is Mode.FAULTED
    assert f"127.0.0.1:{rig.port}" in status.reason
    assert rig.session.command(panda.RESET_RAD).mode is Mode.FAULTED


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_lost_server_is_named_whether_it_died_before_a_call_or_during_one(rig, monkeypatch, code):
    def lose():
        raise ServerError(code, code.name)

    with rig.robot.ticking():
        rig.arm()
        monkeypatch.setattr(rig.robot.server, "state", lose)
        status = rig.session.poll()
    assert status.mode is Mode.FAULTED
    assert "the robot's server was lost" in status.reason
    assert code.name in status.reason


def test_after_a_restart_the_fault_stays_until_the_arm_is_armed_again(rig):
    with rig.robot.ticking():
        rig.arm()
    rig.robot.stop()
    assert rig.poll_until(Mode.FAULTED).reason
    second = SimulatedRobot(FakeCell(), port=rig.port)
    second.start()
    with second.ticking():
        wait_for(lambda: rig.session.poll().state.timestamp_ns < 10**9, "the session reads the new robot")
        for _ in range(3):
            assert rig.session.poll().mode is Mode.FAULTED
            assert rig.session.command(panda.RESET_RAD).mode is Mode.FAULTED
        wait_for(lambda: rig.session.arm().mode is Mode.ARMED, "the session is armed again")
        assert rig.session.command(panda.RESET_RAD).reason == ""
        assert rig.session.settle().reason == ""
    assert second.protocol_violations == 0
    second.stop()


def test_an_ended_episode_is_a_fault_until_it_is_armed_again(rig):
    with rig.robot.ticking():
        rig.arm()
        rig.robot.server.interrupt()
        status = rig.command_for(5.0, panda.RESET_RAD)
        assert status.mode is Mode.FAULTED
        assert "ended the controller" in status.reason
        assert rig.session.arm().mode is Mode.ARMED
    assert rig.robot.protocol_violations == 0


def test_another_clients_controller_gets_none_of_our_commands(rig):
    other = ArmClient(port=rig.port, deadline_s=20.0)
    with rig.robot.ticking():
        rig.arm()
        theirs = other.set_controller(archives.controller_archive(ImpedanceSettings()))
        status = rig.command_for(5.0, panda.RESET_RAD)
        assert status.mode is Mode.FAULTED
        assert "another client" in status.reason
        rig.session.disarm()
        assert other.episode() == theirs
    other.close()


def test_a_hard_fault_freezes_the_state_then_ends_the_episode_and_can_be_armed_again(rig):
    with rig.robot.ticking():
        rig.arm()
        rig.command_for(0.1, panda.RESET_RAD)
        rig.robot.inject_fault("a reflex")
        wait_for(lambda: rig.robot.faulted, "the robot stopped")
        frozen = rig.session.poll().state.timestamp_ns
        assert rig.session.poll().state.timestamp_ns == frozen
        status = rig.poll_until(Mode.FAULTED)
        assert "ended the controller" in status.reason
        wait_for(lambda: not rig.robot.faulted, "the robot recovered")
        assert rig.session.arm().mode is Mode.ARMED
        assert rig.command_for(0.1, panda.RESET_RAD).reason == ""
    assert rig.robot.faults == ["a reflex"]
    assert rig.session.poll().state.timestamp_ns - frozen > 1.0e9
    assert rig.robot.protocol_violations == 0


def test_a_state_that_stands_still_is_a_fault():
    rig = Rig(stale_after_s=0.3)
    with rig.robot.ticking():
        rig.arm()
    status = rig.poll_until(Mode.FAULTED)
    assert "has not advanced for" in status.reason
    with rig.robot.ticking():
        assert rig.session.disarm().mode is Mode.IDLE
        rig.arm()
    rig.session.close()
    rig.robot.stop()


def test_an_idle_session_heals_by_itself():
    rig = Rig(stale_after_s=0.2)
    with rig.robot.ticking():
        rig.poll_until(Mode.IDLE)
    assert "has not advanced" in rig.poll_until(Mode.DISCONNECTED).reason
    with rig.robot.ticking():
        assert rig.poll_until(Mode.IDLE).reason == ""
    rig.session.close()
    rig.robot.stop()


def test_a_server_that_refuses_every_update_is_a_fault(rig, monkeypatch):
    def refuse(archive):
        raise ServerError(grpc.StatusCode.CANCELLED, "Failed to update controller: refused")

    with rig.robot.ticking():
        rig.arm()
        monkeypatch.setattr(rig.robot.server, "update_controller", refuse)
        status = rig.command_for(1000.0, panda.RESET_RAD + 0.1)
        assert status.mode is Mode.FAULTED
        assert "refuses every update" in status.reason
        monkeypatch.undo()
        assert rig.session.arm().mode is Mode.ARMED
    assert rig.robot.protocol_violations == 0


def test_a_command_does_not_wait_for_the_server_whose_refusal_is_told_later(rig, monkeypatch):
    answer = threading.Event()

    def refuse_at_leisure(archive):
        answer.wait(60.0)
        raise ServerError(grpc.StatusCode.CANCELLED, "Failed to update controller: refused")

    with rig.robot.ticking():
        rig.arm()
        monkeypatch.setattr(rig.robot.server, "update_controller", refuse_at_leisure)
        assert rig.session.command(panda.RESET_RAD).reason == ""
        assert rig.session.poll().reason == ""
        answer.set()
        refused = "Failed to update controller: refused"
        assert refused in rig.session.settle().reason
        rig.session.poll()
        assert refused in rig.session.command(panda.RESET_RAD).reason


def test_a_hold_brakes_a_moving_arm_where_it_is(rig):
    goal = panda.RESET_RAD.copy()
    goal[0] += 1.2
    with rig.robot.ticking():
        rig.arm()
        rig.command_for(0.3, goal)
        moving = rig.session.hold()
        began_s = rig.cell.time_s
        wait_for(lambda: rig.cell.time_s > began_s + 1.0, "the arm settles")
    assert moving.mode is Mode.ARMED
    assert abs(rig.cell.joint_positions[0] - moving.state.joint_positions[0]) < 0.1
    assert abs(rig.cell.joint_velocities[0]) < 1e-2


def test_servers_that_were_killed_and_started_again_are_armed_again(rig):
    with rig.robot.ticking():
        rig.arm()
        rig.robot.die()
        rig.poll_until(Mode.FAULTED)
        rig.robot.restart()
        wait_for(lambda: rig.session.arm().mode is Mode.ARMED, "arming again")
    assert rig.robot.protocol_violations == 0
