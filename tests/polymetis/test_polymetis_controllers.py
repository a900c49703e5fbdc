"""The uploaded controller as the server runs it: loaded from its archive, stepped at 1 kHz."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from resip.control import panda
from resip.polymetis import archives, hardware
from resip.polymetis.archives import ImpedanceSettings

STEP_NS = 1_000_000
Q = panda.RESET_RAD

# Operators that ran on libtorch 1.13, and older ones of the language itself: arithmetic, indexing, containers.
VERIFIED = {"sin", "cos", "matmul", "mv", "stack", "cat", "linalg_cross", "minimum", "maximum", "div", "clone"}
ARITHMETIC = {"add", "sub", "mul", "neg", "dot", "sum", "min", "max", "gt", "le", "lt", "ne", "isfinite", "Float", "to"}
CONTAINERS = {"__contains__", "__getitem__", "append", "items", "keys", "len", "list", "numel", "TupleUnpack"}
VIEWS = {"select", "slice", "t", "unbind", "view"}


class Bench:
    """A controller and the state it is fed; time advances by one step a call."""

    def __init__(self, settings: ImpedanceSettings | None = None):
        torch.set_num_threads(1)
        self.module = archives.load(archives.controller_archive(settings or ImpedanceSettings()))
        self.time_ns = 5_999_990_000_000  # a second's boundary is near
        self.state = {
            "timestamp": torch.zeros(2, dtype=torch.int32),
            "joint_positions": torch.zeros(7),
            "joint_velocities": torch.zeros(7),
            "motor_torques_measured": torch.zeros(7),
            "motor_torques_external": torch.zeros(7),
        }

    def step(self, q=Q, qd=None, elapsed_ns=STEP_NS):
        """One control step; returns torques and the commanded joints."""
        self.time_ns += elapsed_ns
        self.state["timestamp"].copy_(torch.tensor(divmod(self.time_ns, 10**9), dtype=torch.int32))
        self.state["joint_positions"].copy_(torch.as_tensor(q))
        self.state["joint_velocities"].copy_(torch.zeros(7) if qd is None else torch.as_tensor(qd))
        with torch.no_grad():
            answer = self.module.forward(self.state)
        return answer["joint_torques"].double().numpy(), answer["joint_pos_commanded"].double().numpy().copy()

    def target(self, q):
        self.module.update({"joint_pos_desired": torch.as_tensor(q, dtype=torch.float32)})


def test_the_law_is_the_hybrid_impedance_about_the_flange():
    bench = Bench()
    bench.step()
    q, qd = Q + 0.02 * np.arange(-3, 4), 0.05 * np.arange(7)
    torques, _ = bench.step(q, qd)
    jacobian = panda.flange_jacobian(q)
    gains = ImpedanceSettings().gains
    stiffness = jacobian.T @ np.diag(gains.cartesian_stiffness) @ jacobian + np.diag(gains.joint_stiffness)
    damping = jacobian.T @ np.diag(gains.cartesian_damping) @ jacobian + np.diag(gains.joint_damping)
    expected = np.clip(stiffness @ (Q - q) - damping @ qd, -hardware.TORQUE_NM, hardware.TORQUE_NM)
    np.testing.assert_allclose(torques, expected, atol=2e-4)


def test_the_first_set_point_is_where_the_arm_is():
    torques, commanded = Bench().step(Q)
    np.testing.assert_allclose(torques, 0.0, atol=1e-6)
    np.testing.assert_allclose(commanded, Q, atol=1e-6)


def test_five_warm_up_calls_on_a_stretched_out_arm_give_finite_torques():
    bench = Bench()
    for _ in range(5):
        torques, _ = bench.step(np.zeros(7), elapsed_ns=0)
        assert np.all(np.isfinite(torques))


def test_a_target_is_approached_in_a_straight_line_and_reached_in_time():
    bench = Bench(ImpedanceSettings(interpolation_s=0.02))
    bench.step()
    goal = Q + 0.01
    bench.target(goal)
    path = np.array([bench.step()[1] for _ in range(25)])
    np.testing.assert_allclose(path[:20, 0], Q[0] + 0.01 * np.arange(1, 21) / 20, atol=1e-6)
    np.testing.assert_allclose(path[20:], np.tile(goal, (5, 1)), atol=1e-6)


@pytest.mark.parametrize("period_steps", [10, 50])
def test_the_set_point_is_continuous_under_a_stream_of_targets(period_steps):
    bench = Bench()
    bench.step()
    path = []
    for step in range(400):
        if step % period_steps == 0:
            bench.target(Q + 0.1 * np.sin(2 * np.pi * step / 400))
        path.append(bench.step()[1])
    steps = np.abs(np.diff(path, axis=0))
    assert steps.max() <= max(ImpedanceSettings().slew_rad_s) * 1e-3 + 1e-6
    assert np.ptp(np.array(path)[:, 0]) > 0.19


def test_the_set_point_never_runs_faster_than_the_slew_limit():
    slew = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
    bench = Bench(ImpedanceSettings(slew_rad_s=slew, watchdog_s=1.0))
    bench.step()
    bench.target(Q + 0.4)
    path = np.array([bench.step()[1] for _ in range(100)])
    np.testing.assert_allclose(np.diff(path, axis=0)[10:], np.tile(np.array(slew) * 1e-3, (89, 1)), rtol=2e-3)


def test_silence_is_a_hold_where_the_arm_comes_to_rest_soonest():
    settings = ImpedanceSettings(slew_rad_s=(0.5,) * 7, watchdog_s=0.2)
    bench = Bench(settings)
    bench.step()
    bench.target(Q + 1.0)
    path = np.array([bench.step(Q, 0.3 * np.ones(7))[1] for _ in range(600)])
    np.testing.assert_allclose(path[199] - Q, 0.5 * 0.2, atol=2e-3)
    np.testing.assert_allclose(path[-1] - Q, settings.brake_s * 0.3, atol=1e-6)
    np.testing.assert_allclose(path[-1], path[450], atol=0)  # and moves no more, whatever the arm does


def test_a_new_target_ends_the_hold():
    bench = Bench()
    bench.step()
    for _ in range(300):
        bench.step()
    bench.target(Q + 0.01)
    for _ in range(30):
        _, commanded = bench.step()
    np.testing.assert_allclose(commanded, Q + 0.01, atol=1e-6)


def test_a_gap_in_time_does_not_make_the_set_point_jump():
    bench = Bench(ImpedanceSettings(slew_rad_s=(1.0,) * 7, watchdog_s=10.0))
    bench.step()
    bench.target(Q + 1.0)
    _, commanded = bench.step(elapsed_ns=900_000_000)
    assert np.max(commanded - Q) <= 0.02 + 1e-6


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"joint_pos_desired": [float("nan")] + [0.0] * 6}, "not finite"),
        ({"joint_pos_desired": [float("inf")] * 7}, "not finite"),
        ({"joint_pos_desired": [0.0] * 6}, "needs 7 numbers, got 6"),
        ({"Kq": [-1.0] * 7}, "Kq is negative"),
        ({"joint_pos": [0.0] * 7}, "unknown parameter joint_pos"),
        ({"joint_pos_desired": [0.3] * 7, "Kx": [float("nan")] * 6}, "Kx is not finite"),
    ],
)
def test_a_bad_update_is_refused_whole_and_said_so(params, complaint):
    bench = Bench()
    bench.step()
    with pytest.raises(torch.jit.Error, match=complaint):
        bench.module.update({name: torch.tensor(value) for name, value in params.items()})
    for _ in range(50):
        torques, commanded = bench.step()
    np.testing.assert_allclose(commanded, Q, atol=1e-6)
    np.testing.assert_allclose(torques, 0.0, atol=1e-5)


def test_an_unreadable_state_fades_the_torque_out_and_leaves_the_set_point():
    bench = Bench()
    bench.step()
    before, commanded = bench.step(Q + 0.05)
    bad = Q.copy()
    bad[3] = np.nan
    first, held = bench.step(bad)
    np.testing.assert_allclose(first, 0.9 * before, rtol=1e-5)
    for _ in range(100):
        last, held = bench.step(Q, np.full(7, np.inf))
    assert np.max(np.abs(last)) < 0.01
    np.testing.assert_array_equal(held, commanded)
    recovered, _ = bench.step(Q + 0.05)
    np.testing.assert_allclose(recovered, before, atol=1e-4)


def test_torques_are_clamped():
    bench = Bench(ImpedanceSettings(watchdog_s=10.0))
    bench.step()
    bench.target(Q + 1.5)
    for _ in range(1600):
        torques, _ = bench.step()
    assert np.all(np.abs(torques) <= hardware.TORQUE_NM + 1e-5)
    assert np.any(np.abs(torques) >= hardware.TORQUE_NM - 1e-5)


def test_gains_can_be_changed_while_it_runs():
    bench = Bench()
    bench.step()
    bench.module.update({"Kq": torch.zeros(7), "Kx": torch.zeros(6)})
    torques, _ = bench.step(Q + 0.05)
    np.testing.assert_allclose(torques, 0.0, atol=1e-6)


def test_it_never_writes_into_the_state_nor_keeps_its_tensors():
    bench = Bench()
    bench.step()
    _, commanded = bench.step(Q + 0.3)
    np.testing.assert_allclose(commanded, Q, atol=1e-6)
    np.testing.assert_allclose(bench.state["joint_positions"].numpy(), Q + 0.3, atol=1e-6)


def test_reset_latches_the_arm_anew():
    bench = Bench()
    bench.step()
    bench.module.reset()
    torques, commanded = bench.step(Q + 0.3)
    np.testing.assert_allclose(commanded, Q + 0.3, atol=1e-6)
    np.testing.assert_allclose(torques, 0.0, atol=1e-5)
    assert not bench.module.is_terminated()


def test_the_default_controller_holds_the_joints_until_it_is_reset():
    module = archives.load(archives.hold_archive())
    state = {"joint_positions": torch.tensor(Q).float(), "joint_velocities": torch.zeros(7)}
    assert torch.all(module.forward(state)["joint_torques"] == 0)
    state["joint_positions"].add_(0.1)
    np.testing.assert_allclose(module.forward(state)["joint_torques"], -0.1 * np.array(archives.HOLD_KQ), rtol=1e-4)
    module.reset()
    assert torch.all(module.forward(state)["joint_torques"] == 0)


@pytest.mark.parametrize("archive", ["controller", "hold", "update"])
def test_archives_contain_no_operator_newer_than_torch_1_13(archive):
    made = {
        "controller": lambda: archives.controller_archive(ImpedanceSettings()),
        "hold": archives.hold_archive,
        "update": lambda: archives.UpdateArchive().encode(Q),
    }[archive]()
    names = {name.split("::")[1].split(".")[0] for name in torch.jit.export_opnames(archives.load(made))}
    assert names <= VERIFIED | ARITHMETIC | CONTAINERS | VIEWS


def test_an_update_archive_carries_the_numbers():
    update = archives.UpdateArchive("Kx", 6)
    update.encode(np.ones(6))
    second = archives.load(update.encode([1, 2, 3, 4, 5, 6]))()
    assert list(second) == ["Kx"]
    np.testing.assert_array_equal(second["Kx"].numpy(), [1, 2, 3, 4, 5, 6])


class Negated(torch.nn.Module):
    """An update that is not ours, with our parameter's name and size."""

    def __init__(self):
        super().__init__()
        self.register_buffer("value", torch.tensor(Q, dtype=torch.float32))

    def forward(self) -> dict[str, torch.Tensor]:
        return {"joint_pos_desired": -self.value}


def test_a_target_is_read_as_running_its_archive_would_give_it(monkeypatch):
    archive = archives.UpdateArchive().encode(Q)
    loaded = archives.load(archive)()
    monkeypatch.setattr(archives, "load", lambda _: pytest.fail("compiled"))
    read = archives.parameters(archive)
    assert list(read) == list(loaded) == ["joint_pos_desired"]
    assert read["joint_pos_desired"].dtype == loaded["joint_pos_desired"].dtype
    assert torch.equal(read["joint_pos_desired"], loaded["joint_pos_desired"])


def test_any_other_update_is_run():
    negated = archives.parameters(archives.save(archives.script(Negated())))["joint_pos_desired"]
    np.testing.assert_array_equal(negated.numpy(), -np.array(Q, dtype=np.float32))
    assert list(archives.parameters(archives.UpdateArchive("Kx", 6).encode(np.ones(6)))) == ["Kx"]
    assert archives.parameters(archives.UpdateArchive(size=6).encode(np.ones(6)))["joint_pos_desired"].shape == (6,)


@pytest.mark.parametrize("spoil", [lambda a: a[: len(a) // 2], lambda _: b"", lambda _: b"no archive"])
def test_an_update_that_is_no_archive_is_an_error(spoil):
    with pytest.raises(RuntimeError):
        archives.parameters(spoil(archives.UpdateArchive().encode(Q)))


def test_scripting_and_loading_do_not_warn(recwarn):
    archives.controller_archive.cache_clear()
    archives.load(archives.controller_archive(ImpedanceSettings()))
    archives.UpdateArchive().encode(Q)
    assert not [warning for warning in recwarn if issubclass(warning.category, DeprecationWarning)]
