"""The gripper: the server's cache, the hand's way with commands, and the session on top."""

from __future__ import annotations

import grpc
import pytest
from fake_cell import FakeCell, run_for, wait_for
from resip.polymetis.client import GripperClient, PolymetisError
from resip.polymetis.endpoint import Endpoint
from resip.polymetis.gripper import GripperServer, HandClient
from resip.polymetis.messages import GripperCommand, GripperMetadata, GripperState
from resip.polymetis.session import GripperSession, GripperSettings
from resip.polymetis.simulated import SimulatedRobot

POLL_NS = 33_000_000


class Bench:
    """A hand polled by the test, with a server it reports to."""

    def __init__(self, object_width_m=0.0):
        self.cell = FakeCell(object_width_m=object_width_m)
        self.server = GripperServer()
        self.client = HandClient(self.cell, self.server.control_update)
        self.time_ns = 0

    def poll(self, count=1):
        for _ in range(count):
            for _ in range(16):
                self.cell.step()
            self.time_ns += POLL_NS
            self.client.poll(self.time_ns)
        return self.server.state()


def test_a_server_that_heard_of_no_gripper():
    endpoint = Endpoint(GripperServer())
    endpoint.start()
    client = GripperClient(port=endpoint.port, deadline_s=20.0)
    assert client.state() == GripperState()
    with pytest.raises(PolymetisError) as caught:
        client.metadata()
    assert (caught.value.code, caught.value.text) == (grpc.StatusCode.INTERNAL, "Failed to serialize response!")
    client.close()
    endpoint.stop()


def test_goto_returns_at_once_whatever_the_hand_does():
    server = GripperServer()
    server.init_robot_client(GripperMetadata(30, 0.08))
    endpoint = Endpoint(server)
    endpoint.start()
    client = GripperClient(port=endpoint.port, deadline_s=20.0)
    assert client.metadata().hz == 30
    client.goto(0.05, 0.1)
    first = server.control_update(GripperState(timestamp_ns=5))
    client.grasp(0.1, 70.0)
    second = server.control_update(GripperState(timestamp_ns=6))
    assert (first.grasp, second.grasp) == (False, True)
    assert first.width_m == pytest.approx(0.05)
    assert second.force_n == pytest.approx(70.0)
    assert first.timestamp_ns % 10**9 not in (0, second.timestamp_ns % 10**9)
    client.close()
    endpoint.stop()


def test_a_command_is_new_only_with_other_nanoseconds():
    bench = Bench()
    bench.server.goto(GripperCommand(1_000_000_000, width_m=0.02))  # nanoseconds are zero: never seen
    bench.poll(3)
    assert bench.cell.gripper_calls == []
    bench.server.goto(GripperCommand(1_000_000_007, width_m=0.02))
    bench.poll(40)
    bench.server.goto(GripperCommand(2_000_000_007, width_m=0.06))  # same nanoseconds: taken for the old one
    bench.poll(3)
    assert bench.cell.gripper_calls == [("move", 0.02)]


def test_during_a_motion_only_the_latest_command_is_kept():
    bench = Bench()
    bench.server.goto(GripperCommand(1, width_m=0.01))
    bench.poll(2)
    assert bench.server.state().is_moving
    bench.server.goto(GripperCommand(2, width_m=0.03))
    bench.poll()
    bench.server.goto(GripperCommand(3, width_m=0.05))
    bench.poll(60)
    assert bench.cell.gripper_calls == [("move", 0.01), ("move", 0.05)]
    state = bench.poll()
    assert not state.is_moving
    assert state.width_m == pytest.approx(0.05)
    assert state.prev_command_successful


@pytest.mark.parametrize("object_width_m", [0.0, 0.03])
def test_a_grasp_succeeds_only_around_something(object_width_m):
    bench = Bench(object_width_m)
    bench.server.goto(GripperCommand(1, speed_m_s=0.1, grasp=True))
    state = bench.poll(60)
    assert bench.cell.gripper_calls == [("grasp", 0.1)]
    assert state.is_grasped == state.prev_command_successful == (object_width_m > 0)
    assert state.width_m == pytest.approx(object_width_m)


def test_the_session_closes_and_opens_and_sends_each_wish_once():
    cell = FakeCell(object_width_m=0.03)
    robot = SimulatedRobot(cell)
    robot.start()
    session = GripperSession(
        GripperClient(port=robot.gripper_port, deadline_s=20.0), GripperSettings(stale_after_s=20.0)
    )
    with robot.ticking():
        wait_for(lambda: session.poll().connected, "the gripper answers")
        session.command(close=True)
        wait_for(lambda: session.poll().state.is_moving, "the gripper closes")
        session.command(close=False)  # has to wait until the hand is free
        session.poll()
        session.command(close=True)
        session.command(close=False)
        wait_for(lambda: session.poll().state.is_moving and len(cell.gripper_calls) == 2, "the gripper opens")
        wait_for(lambda: not session.poll().state.is_moving, "the gripper is open")
        for _ in range(20):
            session.poll()
    assert cell.gripper_calls == [("grasp", 0.1), ("move", 0.065)]
    assert cell.gripper_width_m == pytest.approx(0.065)
    session.close()
    robot.stop()


def test_the_session_says_what_is_wrong_and_never_raises():
    robot = SimulatedRobot(FakeCell())
    robot.start()
    clock = [0.0]
    session = GripperSession(GripperClient(port=robot.gripper_port, deadline_s=20.0), clock=lambda: clock[0])
    run_for(robot, 0.1)
    assert session.poll().connected
    clock[0] += 1.5
    assert session.poll().reason.endswith("has not advanced for 1.5 s")
    run_for(robot, 0.1)
    assert session.poll().reason == ""
    robot.stop()
    status = session.poll()
    assert not status.connected
    assert f"127.0.0.1:{robot.gripper_port}" in status.reason
    session.close()


def test_a_hand_whose_motion_does_not_end_is_stuck_until_it_is_free():
    robot = SimulatedRobot(FakeCell())
    robot.start()
    settings = GripperSettings(stale_after_s=20.0, longest_motion_s=0.5)
    session = GripperSession(GripperClient(port=robot.gripper_port, deadline_s=20.0), settings)
    run_for(robot, 0.1)
    robot.hand.stick()
    for _ in range(8):
        run_for(robot, 0.1)
        session.poll()
    stuck = session.poll()
    assert stuck.connected
    assert stuck.reason.startswith("stuck: it has been moving for 0.")
    robot.hand.stick(False)
    run_for(robot, 0.1)
    assert session.poll().reason == ""
    session.close()
    robot.stop()


class StubbornHand:
    """The client of a hand that says of every motion that it failed, at a width that it keeps."""

    address = "127.0.0.1:50052"

    def __init__(self, width_m):
        self.width_m, self.time_ns, self.orders = width_m, 0, 0

    def state(self):
        self.time_ns += 300_000_000
        return GripperState(timestamp_ns=self.time_ns, width_m=self.width_m, prev_command_successful=False)

    def goto(self, width_m, speed_m_s):
        self.orders += 1


@pytest.mark.parametrize(
    ("width_m", "orders", "reason"),
    [(0.02, 2, "stuck: it did not open in 2 attempts"), (0.075, 1, "")],
    ids=["held shut", "pressed wide open"],
)
def test_a_hand_that_does_not_open_is_stuck_unless_it_is_open_all_the_same(width_m, orders, reason):
    hand = StubbornHand(width_m)
    session = GripperSession(hand)
    session.command(close=False)
    statuses = [session.poll() for _ in range(6)]
    assert statuses[-1].reason == reason
    assert hand.orders == orders
