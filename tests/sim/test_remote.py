"""Simulation in another process: the same episodes to the last bit, and every way in which a worker can fail."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from resip import spaces
from resip.errors import ResipError
from resip_training.experts.rollout import run_expert, run_expert_in
from resip_training.sim import tasks
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.remote import client, worker
from resip_training.sim.remote.client import RemoteEnv
from resip_training.sim.task import nominal_poses

NUM_ENVS = 3


@contextmanager
def mujoco_worker(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A worker process that serves MuJoCo: its address, once it serves, and the process."""
    address = f"unix:{folder}/w.sock"
    command = [sys.executable, "-m", "resip_training.sim.remote.mujoco_worker", "--address", address]
    with subprocess.Popen([*command, "--num-envs", str(NUM_ENVS)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"resip worker: serving one_leg, {NUM_ENVS} worlds, at {address}\n"
        try:
            yield address, process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mujoco_worker(tmp_path_factory.mktemp("worker")) as (address, _):
        yield address


class StandingStill:
    """A simulation in which nothing moves, in float32; ``broken`` says what goes wrong at the next step."""

    task, randomness, simulator, num_envs = "one_leg", "low", "nothing at all", 2

    def __init__(self) -> None:
        poses = nominal_poses(tasks.ONE_LEG).reshape(1, -1)
        self.seen = {
            "robot_state": np.zeros((2, spaces.STATE_DIM), np.float32),
            "part_poses": np.tile(poses, (2, 1)).astype(np.float32),
            "joint_positions": np.zeros((2, 7), np.float32),
        }
        self.broken: Exception | None = None

    def reset(self, ids: np.ndarray, seeds: np.ndarray) -> None:
        self.last_reset = ids.tolist(), seeds.tolist()

    def step(self, actions: np.ndarray) -> None:
        self.last_actions = actions.copy()
        if self.broken is not None:
            raise self.broken

    def observe(self) -> dict[str, np.ndarray]:
        return self.seen


@pytest.fixture
def still(tmp_path: Path) -> Iterator[tuple[str, StandingStill]]:
    """The address of a worker in this process, and what it serves."""
    simulation = StandingStill()
    with listening(tmp_path, lambda trainer: worker.converse(trainer, simulation)) as address:
        yield address, simulation


@contextmanager
def answering(server: socket.socket, answer: Callable[[socket.socket], None]) -> Iterator[None]:
    """Let ``answer`` talk to whoever connects to ``server`` first, until one of them breaks off."""

    def talk() -> None:
        with server.accept()[0] as trainer, suppress(worker.ProtocolError, RuntimeError):
            answer(trainer)

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    yield
    thread.join(timeout=10)
    assert not thread.is_alive()


@contextmanager
def listening(folder: Path, answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """An address where ``answer`` talks."""
    with worker.listening(f"unix:{folder}/w.sock") as (server, address), answering(server, answer):
        yield address


def greeting(**changes: object) -> bytes:
    """The greeting of a worker of one_leg, with some fields changed."""
    arrays = [["robot_state", "<f8", [2, 16]], ["part_poses", "<f8", [2, 42]], ["joint_positions", "<f8", [2, 7]]]
    said = {"task": "one_leg", "randomness": "low", "num_envs": 2, "simulator": "none", "arrays": arrays}
    return json.dumps(said | changes).encode()


def actions_for(env: AssemblyEnv) -> np.ndarray:
    """Actions that move every arm a little, and one to below the table; grippers close, open and neither."""
    state = env.robot_state()
    actions = np.concatenate([state[:, :9], np.array([[1.0], [-1.0], [0.0]])], axis=1)
    actions[:, :3] += [0.02, -0.03, -0.04]
    actions[2, 2] = -0.9
    return actions


# ---- what works ----


def assert_same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name, values in left.items():
        assert values.dtype == right[name].dtype
        np.testing.assert_array_equal(values, right[name])


def test_a_remote_environment_is_bitwise_the_one_in_process(address: str) -> None:
    here, there = AssemblyEnv("one_leg", NUM_ENVS, threads=1), RemoteEnv(address)
    assert there.single_observation_space == here.single_observation_space
    assert there.single_action_space == here.single_action_space
    assert_same(here.reset(seed=7)[0], there.reset(seed=7)[0])
    for step in range(8):
        actions = actions_for(here)
        (seen, *judged, info), (seen_there, *judged_there, info_there) = here.step(actions), there.step(actions)
        assert_same(seen, seen_there)
        assert_same(info, info_there)
        for values, values_there in zip(judged, judged_there, strict=True):
            np.testing.assert_array_equal(values, values_there)
        np.testing.assert_array_equal(here.joint_positions(), there.joint_positions())
        if step in (2, 5):
            options = {"reset_mask": np.array([False, step == 2, True])}
            seeds = [None, 100 + step, 200 + step]
            assert_same(here.reset(seed=seeds, options=options)[0], there.reset(seed=seeds, options=options)[0])
    there.close()


def test_a_worker_serves_the_next_trainer_when_one_leaves_or_talks_nonsense(address: str) -> None:
    starts = []
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(address.removeprefix("unix:"))
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        env = RemoteEnv(address, "one_leg", NUM_ENVS)
        starts.append(env.reset(seed=3)[0])
        env.close()
    assert_same(*starts)


def test_tcp_works_like_a_unix_socket() -> None:
    def serve(trainer: socket.socket) -> None:
        worker.converse(trainer, StandingStill())

    with worker.listening("tcp:127.0.0.1:0") as (server, address), answering(server, serve):
        assert address.startswith("tcp:127.0.0.1:")
        env = RemoteEnv(address)
        assert np.isfinite(env.reset(seed=0)[0]["part_poses"]).all()
        env.close()


def test_single_precision_and_either_hemisphere_become_the_contracts(still: tuple[str, StandingStill]) -> None:
    address, simulation = still
    simulation.seen["part_poses"].reshape(2, -1, 7)[1, :, 3:] *= -1
    env = RemoteEnv(address)
    seen, _ = env.reset(seed=0)
    assert env.num_envs == 2
    assert env.simulator == "nothing at all"
    assert seen["part_poses"].dtype == np.float64
    np.testing.assert_allclose(seen["part_poses"], np.tile(nominal_poses(tasks.ONE_LEG).ravel(), (2, 1)), atol=1e-7)
    env.close()


def test_targets_stay_in_the_workspace_and_the_gripper_opens_or_closes(still: tuple[str, StandingStill]) -> None:
    address, simulation = still
    env = RemoteEnv(address)
    env.reset(seed=[4, 5])
    assert simulation.last_reset == ([0, 1], [4, 5])
    pose = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    env.step(np.array([[0.5, 0.0, -0.5, *pose, 0.3], [0.5, 0.0, 0.2, *pose, 0.0]]))
    assert simulation.last_actions[:, -1].tolist() == [spaces.GRIPPER_CLOSE, spaces.GRIPPER_OPEN]
    assert simulation.last_actions[:, 2].tolist() == [-0.01, 0.2]
    env.close()


def test_a_world_that_diverges_ends_its_episode(still: tuple[str, StandingStill], tmp_path: Path) -> None:
    address, simulation = still
    env = RemoteEnv(address, dump_dir=tmp_path / "diverged")
    before, _ = env.reset(seed=0)
    simulation.seen["part_poses"][1, 0] = np.nan
    action = np.tile([0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0], (2, 1))
    seen, _, terminated, _, info = env.step(action)
    assert terminated.tolist() == info["diverged"].tolist() == [False, True]
    assert_same(seen, before)
    env.close()


def test_an_experts_episodes_through_a_worker_are_those_in_process(address: str) -> None:
    seeds = [400, 401]  # one world more than there are seeds
    here = {run.seed: run for run in run_expert("one_leg", "low", seeds, threads=1)}
    there = {run.seed: run for run in run_expert_in(RemoteEnv(address), seeds)}
    assert list(there) == list(here)
    for seed, run in there.items():
        assert run.success
        for name in ("robot_state", "part_poses", "joint_positions", "action", "reward"):
            np.testing.assert_array_equal(getattr(run, name), getattr(here[seed], name))


# ---- what fails ----


def refused(address: str, *expected: str, **arguments: object) -> None:
    """Connecting fails with one line that contains all that is ``expected``."""
    with pytest.raises(ResipError) as caught:
        RemoteEnv(address, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    for words in expected:
        assert words in message


@pytest.mark.parametrize(
    ("wanted", "option"),
    [({"task": "peg_hole"}, "--task peg_hole"), ({"num_envs": 4}, "--num-envs 4")],
    ids=["task", "num_envs"],
)
def test_a_worker_that_serves_something_else_is_told_by_the_field(address: str, wanted: dict, option: str) -> None:
    refused(address, next(iter(wanted)), option, **wanted)


def test_a_worker_of_another_randomness_is_told_by_the_field(tmp_path: Path) -> None:
    with listening(tmp_path, lambda trainer: worker.send(trainer, worker.GREETING, greeting(randomness="med"))) as peer:
        refused(peer, "serves randomness 'med', not 'low'", "--randomness low")


ARRAYS = json.loads(greeting())["arrays"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"arrays": [["robot_state", "<f8", [2, 14]], *ARRAYS[1:]]}, "robot_state (2, 14), not (2, 16)"),
        ({"arrays": ARRAYS[:2]}, "joint_positions None, not (2, 7)"),
        ({"arrays": [*ARRAYS, ["forces", "<f8", [2, 3]]]}, "forces (2, 3), not None"),
        ({"arrays": [["robot_state", "|O", [2, 16]], *ARRAYS[1:]]}, "does not greet as one should"),
        ({"arrays": 3}, "does not greet as one should"),
    ],
)
def test_other_observations_are_named(tmp_path: Path, changes: dict, expected: str) -> None:
    with listening(tmp_path, lambda trainer: worker.send(trainer, worker.GREETING, greeting(**changes))) as peer:
        refused(peer, expected, "copy", "worker.py")


HEADER = struct.Struct("<4sHHQ")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the protocol of resip's workers"),
        (HEADER.pack(b"RSIP", worker.VERSION + 1, worker.GREETING, 2) + b"{}", "copy training/resip_training"),
        (HEADER.pack(b"RSIP", worker.VERSION, worker.GREETING, 100) + b"{", "in the middle of a message"),
        (HEADER.pack(b"RSIP", worker.VERSION, worker.GREETING, 1 << 60), "message of 1152921504606846976 bytes"),
        (HEADER.pack(b"RSIP", worker.VERSION, worker.GREETING, 2) + b"\xff{", "does not greet as one should"),
        (b"", "closed the connection"),
    ],
    ids=["http", "version", "half", "huge", "no json", "silence"],
)
def test_a_peer_that_is_no_worker_is_refused(tmp_path: Path, said: bytes, expected: str) -> None:
    with listening(tmp_path, lambda trainer: trainer.sendall(said)) as peer:
        refused(peer, expected)


def test_a_worker_that_has_another_trainer_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client, "_GREETING_TIMEOUT_S", 0.1)
    with listening(tmp_path, lambda trainer: trainer.recv(1)) as peer:
        refused(peer, "did not answer in time", "no other trainer")


@pytest.mark.parametrize("peer", ["unix:/nowhere/w.sock", "tcp:127.0.0.1:9"])
def test_no_worker_at_all(peer: str) -> None:
    refused(peer, f"no worker answers at {peer}", "docs/isaac.md")


@pytest.mark.parametrize("peer", ["localhost:5555", "tcp:localhost", "tcp:host:99999", "unix:"])
def test_an_address_must_be_one(peer: str) -> None:
    refused(peer, "unix:/path or tcp:HOST:PORT")


def test_unknown_names_are_not_asked_of_the_worker() -> None:
    refused("unix:/nowhere", "one_leg", task="two_legs")
    refused("unix:/nowhere", "low", randomness="extreme")


def hold(env: RemoteEnv) -> np.ndarray:
    return np.concatenate([env.robot_state()[:, :9], -np.ones((env.num_envs, 1))], axis=1)


def test_a_worker_that_dies_in_the_middle_of_a_step_is_one_line_and_no_hang(tmp_path: Path) -> None:
    with mujoco_worker(tmp_path) as (address, process):
        env = RemoteEnv(address)
        env.reset(seed=0)
        process.send_signal(signal.SIGSTOP)  # it can't answer before it dies
        threading.Timer(0.1, process.kill).start()
        with pytest.raises(ResipError, match=r"failed the step: .*; the worker's terminal says more; start it again"):
            env.step(hold(env))
        with pytest.raises(ResipError, match=r"is closed: .*start it again"):
            env.reset(seed=1)
        env.close()
        process.wait()
        with mujoco_worker(tmp_path) as (again, _):  # the dead one's socket is in nobody's way
            assert again == address
            RemoteEnv(address).reset(seed=0)


def test_a_worker_that_hangs_is_given_up(tmp_path: Path) -> None:
    with mujoco_worker(tmp_path) as (address, process):
        env = RemoteEnv(address, timeout_s=0.2)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(ResipError, match="failed the reset: it did not answer in time"):
            env.reset(seed=0)


def test_a_worker_starts_no_episode_from_a_snapshot(still: tuple[str, StandingStill]) -> None:
    env = RemoteEnv(still[0], "one_leg")
    env.reset(seed=0)
    with pytest.raises(ResipError, match="no episode from a snapshot"):
        env.reset(options={"snapshot": env.worlds.snapshot()})
    env.close()


def test_what_fails_in_the_simulator_is_told_to_the_trainer(still: tuple[str, StandingStill]) -> None:
    address, simulation = still
    env = RemoteEnv(address)
    env.reset(seed=0)
    simulation.broken = RuntimeError("CUDA error:\n  out of memory")
    action = np.tile([0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0], (2, 1))
    with pytest.raises(ResipError, match=r"failed the step: RuntimeError: CUDA error: out of memory; the worker's"):
        env.step(action)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (HEADER.pack(b"RSIP", worker.VERSION, worker.STATE, 1040) + bytes(100), "in the middle of a message"),
        (HEADER.pack(b"RSIP", worker.VERSION, worker.STATE, 8) + bytes(8), "kind 4 and 8 bytes"),
        (bytes(64), "does not speak the protocol"),
    ],
    ids=["half", "short", "garbage"],
)
def test_an_answer_that_is_none_is_one_line(tmp_path: Path, answer: bytes, expected: str) -> None:
    def talk(trainer: socket.socket) -> None:
        worker.send(trainer, worker.GREETING, greeting())
        worker.receive(trainer)
        trainer.sendall(answer)

    with listening(tmp_path, talk) as peer:
        env = RemoteEnv(peer)
        with pytest.raises(ResipError, match=f"failed the reset: .*{expected}"):
            env.reset(seed=0)


@pytest.mark.parametrize(
    "shape", [(NUM_ENVS + 1, spaces.ACTION_DIM), (NUM_ENVS, spaces.ACTION_DIM - 1)], ids=["worlds", "numbers"]
)
def test_actions_of_another_shape_are_not_sent(address: str, shape: tuple[int, int]) -> None:
    env = RemoteEnv(address)
    with pytest.raises(ValueError, match="shape"):
        env.step(np.ones(shape))
    env.reset(seed=0)
    env.close()


# ---- where a worker may listen ----


def test_a_worker_listens_on_this_machine_only() -> None:
    with pytest.raises(worker.SetupError, match="ssh -L"), worker.listening("tcp:0.0.0.0:0"):
        pass


def test_a_worker_takes_no_place_that_is_in_use(address: str, tmp_path: Path) -> None:
    with pytest.raises(worker.SetupError, match="another worker serves"), worker.listening(address):
        pass
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(worker.SetupError, match="not the socket of a worker"), worker.listening(f"unix:{notes}"):
        pass
    assert notes.read_text() == "mine"
