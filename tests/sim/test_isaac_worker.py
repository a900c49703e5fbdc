"""The Isaac Gym worker: a file that stands alone, and FurnitureSim's numbers in resip's terms.

Isaac Gym itself is not here: a stand-in gives what FurnitureBench's environment gives, in its frames.
"""

from __future__ import annotations

import ast
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from resip import rotation
from resip_training.sim import tasks
from resip_training.sim.remote import worker
from resip_training.sim.remote.client import RemoteEnv
from resip_training.sim.task import Task, nominal_poses

SOURCE = Path(worker.__file__)
BASE_IN_WORLD_M = np.array([-0.3, 0.0, 0.415])
QUARTER_TURN = np.array([0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)])


class FakeFurnitureSim:
    """FurnitureRLSimEnv as far as the worker uses it: poses in the frame of the world, on torch tensors."""

    def __init__(self, task: Task, num_envs: int = 2, sim_steps: int = 6) -> None:
        self.num_envs, self.sim_steps, self.device = num_envs, sim_steps, torch.device("cpu")
        self.sim = object()
        params = SimpleNamespace(dt=1 / 60, substeps=2)
        self.isaac_gym = SimpleNamespace(get_sim_params=lambda sim: params)
        self.base_idxs = [3] * num_envs
        self.rb_states = torch.zeros((4, 13))
        self.rb_states[3, :3] = torch.as_tensor(BASE_IN_WORLD_M)
        poses = np.tile(nominal_poses(task), (num_envs, 1, 1))
        poses[..., :3] += BASE_IN_WORLD_M
        poses[:, -1, 3:] = QUARTER_TURN
        self.poses = torch.as_tensor(poses, dtype=torch.float32)
        generator = torch.Generator().manual_seed(0)
        widths = {"ee_pos": 3, "ee_quat": 4, "ee_pos_vel": 3, "ee_ori_vel": 3, "gripper_width": 1, "joint_positions": 7}
        self.state = {name: torch.rand((num_envs, n), generator=generator) for name, n in widths.items()}

    def reset(self, env_idxs: torch.Tensor) -> None:
        assert env_idxs.dtype == torch.int32
        self.last_reset, self.last_draw = env_idxs.tolist(), torch.rand(3)

    def step(self, action: torch.Tensor) -> None:
        self.last_action = action.clone()

    def get_observation(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"robot_state": self.state}

    def get_parts_poses(self, sim_coord: bool) -> torch.Tensor:
        assert sim_coord
        return self.poses[:, :-1].reshape(self.num_envs, -1)

    def get_obstacle_pose(self, sim_coord: bool) -> torch.Tensor:
        assert sim_coord
        return self.poses[:, -1]


def furniture_sim(env: FakeFurnitureSim, task: str = "one_leg") -> worker.FurnitureSim:
    return worker.FurnitureSim(env, task, "low")  # type: ignore[arg-type]


@pytest.fixture
def remote() -> Iterator[tuple[RemoteEnv, FakeFurnitureSim]]:
    """The learning environment over a worker that serves the stand-in."""
    fake = FakeFurnitureSim(tasks.ONE_LEG)

    def serve(server: socket.socket) -> None:
        with server.accept()[0] as trainer, pytest.raises(worker.ProtocolError, match="closed the connection"):
            worker.converse(trainer, furniture_sim(fake))

    with worker.listening("tcp:127.0.0.1:0") as (server, address):
        thread = threading.Thread(target=serve, args=[server], daemon=True)
        thread.start()
        env = RemoteEnv(address)
        yield env, fake
        env.close()
        thread.join(timeout=10)


# ---- the file ----


def test_the_worker_is_written_for_python_3_8() -> None:
    ast.parse(SOURCE.read_text(), feature_version=(3, 8))


def test_the_worker_needs_nothing_of_ours() -> None:
    tree = ast.parse(SOURCE.read_text())
    imported: dict[str, set[int]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                imported.setdefault(alias.name.split(".")[0], set()).add(node.col_offset)
        elif isinstance(node, ast.ImportFrom):
            imported.setdefault(str(node.module).split(".")[0], set()).add(node.col_offset)
    foreign = {name for name in imported if name not in sys.stdlib_module_names}
    assert foreign == {"numpy", "torch", "isaacgym", "furniture_bench"}
    assert all(0 not in imported[name] for name in foreign - {"numpy"}), "they are imported where they are used"


def test_a_copy_without_isaac_gym_says_what_to_do(tmp_path: Path) -> None:
    shutil.copy(SOURCE, tmp_path / "worker.py")
    command = [sys.executable, "worker.py", "--task", "one_leg", "--address", f"unix:{tmp_path}/w.sock"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("resip worker: No module named")
    assert "docs/isaac.md" in done.stderr
    assert done.stderr.count("\n") == 1


# ---- FurnitureSim ----


@pytest.mark.parametrize("task", list(tasks.TASKS))
def test_parts_are_seen_from_the_robots_base(task: str) -> None:
    nominal = nominal_poses(tasks.get(task))
    seen = furniture_sim(FakeFurnitureSim(tasks.get(task)), task).observe()["part_poses"]
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, np.tile(nominal.ravel(), (2, 1)), atol=1e-6)


def test_the_robots_state_is_the_contracts() -> None:
    fake = FakeFurnitureSim(tasks.ONE_LEG)
    seen = furniture_sim(fake).observe()
    given = {name: value.numpy() for name, value in fake.state.items()}
    matrix = rotation.matrix_from_quat(given["ee_quat"])
    np.testing.assert_array_equal(seen["robot_state"][:, :3], given["ee_pos"])
    np.testing.assert_allclose(seen["robot_state"][:, 3:9], rotation.rot6d_from_matrix(matrix), atol=1e-6)
    np.testing.assert_array_equal(seen["robot_state"][:, 9:12], given["ee_pos_vel"])
    np.testing.assert_array_equal(seen["robot_state"][:, 12:15], given["ee_ori_vel"])
    np.testing.assert_array_equal(seen["robot_state"][:, 15:], given["gripper_width"])
    np.testing.assert_array_equal(seen["joint_positions"], given["joint_positions"])


def test_actions_arrive_as_they_are(remote: tuple[RemoteEnv, FakeFurnitureSim]) -> None:
    env, fake = remote
    env.reset(seed=0)
    action = np.tile([0.5, 0.1, 0.2, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0], (2, 1))
    env.step(action)
    assert fake.last_action.dtype == torch.float32
    np.testing.assert_array_equal(fake.last_action.numpy(), action.astype(np.float32))


def test_an_assembled_pair_pays_once_by_our_rules(remote: tuple[RemoteEnv, FakeFurnitureSim]) -> None:
    env, fake = remote
    env.reset(seed=0)
    hold = np.tile([0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0], (2, 1))
    assert env.step(hold)[1].tolist() == [0.0, 0.0]
    top = fake.poses[1, 0].numpy()
    seat_m = rotation.matrix_from_quat(top[3:]) @ tasks.ONE_LEG.relations[0].target_positions_m[2]
    fake.poses[1, 4] = torch.as_tensor(np.concatenate([top[:3] + seat_m, top[3:]]))
    fake.poses[0, 2, 2] = 0.1  # a leg on the floor
    _, reward, terminated, _, info = env.step(hold)
    assert reward.tolist() == [0.0, 1.0]
    assert terminated.tolist() == [True, True]
    assert info["success"].tolist() == [False, True]
    assert info["fallen"].tolist() == [True, False]
    assert env.step(hold)[1].tolist() == [0.0, 0.0]


def test_seeds_decide_what_the_simulator_draws() -> None:
    fake = FakeFurnitureSim(tasks.ONE_LEG)
    simulation = furniture_sim(fake)
    draws = []
    for seeds in ([5, 6], [5, 6], [6, 6]):
        simulation.reset(np.array([0, 1]), np.array(seeds, dtype=np.uint64))
        draws.append(fake.last_draw.tolist())
    assert fake.last_reset == [0, 1]
    assert draws[0] == draws[1] != draws[2]


class FakeLamp(FakeFurnitureSim):
    """The lamp, whose reset of any world forgets what was known of every world's bulb."""

    def reset(self, env_idxs: torch.Tensor) -> None:
        super().reset(env_idxs)
        self._moving_bulbs = torch.zeros(self.num_envs, dtype=torch.bool)
        self.lb_rest_poses = torch.full((self.num_envs, 7), 9.0)


def test_a_reset_leaves_the_other_worlds_bulbs_as_they_were() -> None:
    fake = FakeLamp(tasks.ONE_LEG, num_envs=3)
    simulation = furniture_sim(fake)
    simulation.reset(np.arange(3), np.arange(3, dtype=np.uint64))
    fake._moving_bulbs[:2] = True
    fake.lb_rest_poses[:] = 1.0
    simulation.reset(np.array([1]), np.array([7], dtype=np.uint64))
    assert fake._moving_bulbs.tolist() == [True, False, False]
    assert fake.lb_rest_poses[:, 0].tolist() == [1.0, 9.0, 1.0]


def test_a_furniture_bench_of_other_timing_is_refused() -> None:
    with pytest.raises(worker.SetupError, match=r"steps 0\.050 s instead of 0\.1 s"):
        furniture_sim(FakeFurnitureSim(tasks.ONE_LEG, sim_steps=3))
