"""Each row of the real server's table of codes and texts, through gRPC; time is the test's own clock."""

from __future__ import annotations

import threading

import grpc
import numpy as np
import pytest
import torch
from fake_cell import wait_for
from resip.control import panda
from resip.polymetis import archives, messages, wire
from resip.polymetis.client import ArmClient, PolymetisError
from resip.polymetis.endpoint import Endpoint
from resip.polymetis.messages import Interval, RobotState
from resip.polymetis.server import ControllerServer, Status
from resip.polymetis.simulated import simulated_metadata
from torch_modules import Answers, Counting, FailsAfter, NeverAsked

CODE = grpc.StatusCode
STEP_S = 0.001
NOT_RUNNING = "Tried to terminate controller with no controller running."
NO_UPDATE = "Tried to perform a controller update with no controller running."


def archive(module) -> bytes:
    return archives.save(archives.script(module))


def parameters(name="torque", value=(1.0,) * 7) -> bytes:
    return archives.UpdateArchive(name, len(value)).encode(value)


class Rig:
    """A server on a free port with the test as its robot client and its clock."""

    def __init__(self):
        torch.set_num_threads(1)
        self.time_s = 100.0
        self.server = ControllerServer(clock=lambda: self.time_s, log_capacity=50)
        self.endpoint = Endpoint(self.server)
        self.endpoint.start()
        self.client = ArmClient(port=self.endpoint.port, deadline_s=20.0)

    def connect(self):
        self.client.init_robot_client(simulated_metadata(1000))

    def update(self, count=1):
        """Send control updates as the robot client; the torques of the last one."""
        for _ in range(count):
            self.time_s += STEP_S
            q = np.array(panda.RESET_RAD)
            torques = self.client.control_update(RobotState(round(self.time_s * 1e9), q, np.zeros(7)))
        return torques

    def set(self, module) -> Interval:
        """Set a controller while control updates come."""
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.client.set_controller(archive(module))))
        thread.start()
        wait_for(lambda: self.server.status is Status.READY or not thread.is_alive(), "the controller is ready")
        self.update()
        thread.join()
        return answers[0]

    def refusal(self, call, *arguments) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(PolymetisError) as caught:
            call(*arguments)
        assert f"127.0.0.1:{self.endpoint.port}" in str(caught.value)
        assert caught.value.method in str(caught.value)
        return caught.value.code, caught.value.text


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.client.close()
    made.endpoint.stop()


@pytest.fixture
def live(rig):
    rig.connect()
    rig.update(3)
    return rig


@pytest.fixture
def running(live):
    live.set(Counting(1000))
    return live


def test_state_of_an_empty_log(rig):
    assert rig.refusal(rig.client.state) == (
        CODE.FAILED_PRECONDITION,
        "Cannot retrieve robot state from empty buffer!",
    )


def test_metadata_without_a_robot_client_and_with_a_stale_one(rig):
    refused = (CODE.CANCELLED, "Robot context not valid when calling GetRobotClientMetadata!")
    assert rig.refusal(rig.client.metadata) == refused
    rig.connect()
    rig.update()
    assert rig.client.metadata().dof == 7
    rig.time_s += 1.01
    assert rig.refusal(rig.client.metadata) == refused
    rig.update()
    assert rig.client.metadata().ee_link_name == "panda_link8"


def test_the_episode_can_always_be_asked_for(rig):
    assert rig.client.episode() == Interval(-1, -1)


def test_terminate_with_nothing_running_and_while_ready(live):
    assert live.refusal(live.client.terminate_controller) == (CODE.CANCELLED, NOT_RUNNING)
    live.set(Counting(2))
    live.update(3)
    assert live.refusal(live.client.terminate_controller) == (CODE.CANCELLED, NOT_RUNNING)


def test_update_after_the_end(live):
    live.set(Counting(2))
    live.update(3)
    assert live.refusal(live.client.update_controller, parameters()) == (CODE.CANCELLED, NO_UPDATE)
    assert live.server.protocol_violations == 0


def test_an_undecodable_update_is_refused_before_the_server_looks_for_a_controller(live):
    refused = (CODE.CANCELLED, "Failed to load new controller params.")
    assert live.refusal(live.client.update_controller, b"no archive") == refused
    assert live.server.protocol_violations == 0


def test_an_update_that_raises_leaves_the_controller_running(running):
    code, text = running.refusal(running.client.update_controller, parameters("nonsense"))
    assert code is CODE.CANCELLED
    assert text.startswith("Failed to update controller: ")
    assert "unknown parameter" in text
    running.update()
    assert running.client.episode().running


@pytest.mark.parametrize(
    "bad",
    [
        lambda: b"no archive",
        lambda: archive(FailsAfter(0)),
        lambda: archive(Answers("torques", 7)),
        lambda: archive(Answers("joint_torques", 6)),
    ],
    ids=["undecodable", "forward raises", "missing key", "too few elements"],
)
def test_a_bad_controller_is_refused_and_the_previous_one_keeps_running(running, bad):
    before = running.client.episode()
    code, text = running.refusal(running.client.set_controller, bad())
    assert code is CODE.CANCELLED
    assert text.startswith("Failed to load new controller: ")
    running.update()
    assert running.client.episode() == before


def test_a_controller_without_is_terminated_is_set_but_fails_every_control_update(live):
    answers = []
    call = threading.Thread(target=lambda: answers.append(live.client.set_controller(archive(NeverAsked()))))
    call.start()
    wait_for(lambda: live.server.status is Status.READY, "the controller is ready")
    for _ in range(3):
        assert live.refusal(live.update) == (CODE.UNKNOWN, "Unexpected error in RPC handling")
    call.join()
    assert answers[0].start == 3


def test_a_controller_that_raises_mid_run_fails_until_the_stale_rule_ends_it(live):
    live.set(FailsAfter(6))  # the warm-up's five calls pass
    live.update(5)
    code, text = live.refusal(live.update)
    assert code is CODE.CANCELLED
    assert text.startswith("Failed to run controller forward function: ")
    assert "deliberate failure" in text
    assert live.client.episode().running
    live.time_s += 1.01
    live.update()
    assert live.client.episode() == Interval(3, 8)
    assert live.server.status is Status.TERMINATED


def test_what_crashes_the_real_server_is_a_protocol_violation(rig):
    code, text = rig.refusal(rig.client.set_controller, archive(Counting(1)))
    assert (code, text) == (
        CODE.FAILED_PRECONDITION,
        "protocol violation: SetController before InitRobotClient",
    )
    assert rig.refusal(rig.update)[0] is CODE.FAILED_PRECONDITION
    rig.connect()
    rig.update()
    assert rig.refusal(rig.client.update_controller, parameters()) == (
        CODE.FAILED_PRECONDITION,
        "protocol violation: UpdateController before any SetController",
    )
    assert rig.server.protocol_violations == 3


def test_setting_a_controller_on_a_stalled_robot_is_a_protocol_violation(live):
    live.time_s += 1.01
    code, _ = live.refusal(live.client.set_controller, archive(Counting(1)))
    assert code is CODE.FAILED_PRECONDITION
    assert live.server.protocol_violations == 1


def test_a_set_that_waits_in_vain_reaches_its_deadline_and_is_a_protocol_violation(live):
    call = live.client._calls["SetController"]
    with pytest.raises(grpc.RpcError) as caught:
        call(wire.archive_message(archive(Counting(9))), timeout=0.5)
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED
    wait_for(lambda: live.server.protocol_violations == 1, "the server noticed that the caller gave up")
    live.time_s += 1.01
    live.update()
    assert live.client.episode() == Interval(-1, -1)
    assert live.server.status is Status.TERMINATED


def test_a_terminate_on_a_stalled_robot_reaches_its_deadline_and_takes_effect_on_resume(running):
    with pytest.raises(grpc.RpcError) as caught:
        running.client._calls["TerminateController"](wire.Empty(), timeout=0.3)
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED
    assert running.client.episode().running
    running.update()
    assert running.client.episode() == Interval(3, 3)


def test_an_update_on_a_stalled_robot_works(running):
    running.time_s += 5.0
    assert running.client.update_controller(parameters()) == Interval(4, -1)


def test_a_self_terminating_controller_yields_exactly_its_steps(live):
    episode = live.set(Counting(5))
    assert episode == Interval(3, -1)
    live.update(6)
    assert live.client.episode() == Interval(3, 7)
    log = live.client.state_log(live.client.episode())
    # the warm-up was on a copy, so the count starts at one
    np.testing.assert_array_equal([state.joint_torques_computed[0] for state in log], [1, 2, 3, 4, 5])


def test_terminate_answers_with_the_interval_and_the_default_controller_takes_over(running):
    running.update(4)
    answers = []
    call = threading.Thread(target=lambda: answers.append(running.client.terminate_controller()))
    call.start()
    wait_for(lambda: running.server.status is Status.TERMINATING, "the controller terminates")
    torques = running.update()
    call.join()
    assert answers == [Interval(3, 7)]
    np.testing.assert_array_equal(torques, np.zeros(7))


def test_a_running_controller_is_replaced_without_an_end(running):
    assert running.set(Counting(1000)) == Interval(4, -1)


def test_a_gap_of_more_than_a_second_ends_the_controller(running):
    running.time_s += 1.01
    running.update()
    assert running.client.episode() == Interval(3, 3)


def test_updates_reach_the_controller(running):
    assert running.client.update_controller(parameters(value=(0.5,) * 7)) == Interval(4, -1)
    np.testing.assert_array_equal(running.update(), np.full(7, 2.5))


def test_an_archive_in_small_chunks_is_accepted(live):
    data = archive(Counting(1000))
    parts = (wire.ControllerChunk(torchscript_binary_chunk=data[i : i + 1024]) for i in range(0, len(data), 1024))
    path = wire.method_path(wire.ARM_SERVICE, "SetController")
    call = live.client._channel.stream_unary(path, response_deserializer=wire.LogInterval.FromString)
    pending = call.future((part.SerializeToString() for part in parts), timeout=20.0)
    wait_for(lambda: live.server.status is Status.READY, "the controller is ready")
    live.update()
    assert messages.interval_from_wire(pending.result()) == Interval(3, -1)


def test_the_log_is_a_ring_and_skips_what_it_does_not_hold(live):
    live.update(57)  # 60 in all, of which the ring holds 50
    times = [state.timestamp_ns for state in live.client.state_log(Interval(0, 1000))]
    assert len(times) == 50
    assert times == sorted(times)
    assert len(live.client.state_log(Interval(55, -1))) == 5
    assert live.client.state_log(Interval(-1, -1)) == []
    assert live.client.state().timestamp_ns == times[-1]


def test_the_stream_gives_every_state_from_now_on(live):
    stream = live.client._calls["GetRobotStateStream"](wire.Empty(), timeout=20.0)
    received = []
    reader = threading.Thread(target=lambda: received.extend(next(stream) for _ in range(5)))
    reader.start()
    while reader.is_alive():
        live.update()
    stream.cancel()
    times = np.array([wire.timestamp_ns(state.timestamp) for state in received])
    np.testing.assert_array_equal(np.diff(times), np.full(4, round(STEP_S * 1e9)))


def test_a_state_travels_whole(live):
    state = live.client.state()
    assert state.timestamp_ns == round(live.time_s * 1e9)
    np.testing.assert_allclose(state.joint_positions, panda.RESET_RAD, atol=1e-6)
    np.testing.assert_array_equal(state.joint_torques_computed, np.zeros(7))


def test_a_port_that_is_taken_is_named(rig):
    with pytest.raises(Exception, match=f"cannot listen on 127.0.0.1:{rig.endpoint.port}"):
        Endpoint(ControllerServer(), port=rig.endpoint.port)


def test_a_server_that_is_not_there_is_named():
    endpoint = Endpoint(ControllerServer())
    endpoint.start()
    endpoint.stop()
    client = ArmClient(port=endpoint.port, deadline_s=5.0)
    with pytest.raises(
        PolymetisError, match=rf"127.0.0.1:{endpoint.port}: GetRobotState failed, UNAVAILABLE: .*running"
    ):
        client.state()
    client.close()
