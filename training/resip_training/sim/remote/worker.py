"""Serve FurnitureSim (Isaac Gym) to resip: the one file that a lab copies to where Isaac Gym is installed.

    python worker.py --task one_leg --num-envs 1024

It runs on Python 3.8 or later and needs numpy, isaacgym, torch and the fork of furniture-bench: docs/isaac.md of
resip has the set-up. The trainer's end is ``resip_training.sim.remote.client``, which shares the protocol here.

**Protocol.** The worker listens at a local address and serves one trainer at a time. A frame is a header (magic
``RSIP``, version u16, kind u16, length of the payload u64) and a payload; everything is little-endian:

    GREETING  worker, once    JSON: task, randomness, num_envs, simulator, arrays as [name, dtype, shape] in order
    RESET     trainer         k world numbers, then as many seeds, uint64
    STEP      trainer         actions (num_envs, 10), float64
    STATE     worker's answer to RESET and STEP: the greeting's arrays, one after the other
    FAILURE   worker's answer instead, if the simulation failed: why, in UTF-8; the worker then ends
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from typing import Protocol

    import torch
    from furniture_bench.envs.furniture_rl_sim_env import FurnitureRLSimEnv
    from isaacgym import gymapi

    class Simulation(Protocol):
        """What can be served: ``num_envs`` worlds of a task. What the trainer makes of them is no matter here."""

        task: str
        randomness: str
        num_envs: int
        simulator: str
        """Which simulator, and how it is set, in words."""

        def reset(self, ids: np.ndarray, seeds: np.ndarray) -> None:
            """Start new episodes in the worlds ``ids`` ``(k,)``."""

        def step(self, actions: np.ndarray) -> None:
            """Advance all worlds by 0.1 s with actions ``(num_envs, 10)``."""

        def observe(self) -> dict[str, np.ndarray]:
            """Return ``ARRAYS``, each ``(num_envs, ...)``, float32 or float64."""
            ...


VERSION = 1
GREETING, RESET, STEP, STATE, FAILURE = range(1, 6)

#: What a worker observes, in this order. Lengths in m, angles in rad, everything in the robot base frame:
#: robot_state (n, 16) as in ``resip.spaces``; part_poses (n, 7 * (parts + 1)), m and xyzw in either hemisphere, the
#: obstacle's front wall last; joint_positions (n, 7).
ARRAYS = ("robot_state", "part_poses", "joint_positions")
ACTION_DIM = 10

_MAGIC = b"RSIP"
_HEADER = struct.Struct("<4sHHQ")
#: Longer payloads than this are no message of ours: 1024 worlds take half a megabyte.
_MAX_BYTES = 1 << 30

DEFAULT_ADDRESS = "unix:/tmp/resip-worker.sock"


# ---- the protocol, which both ends use ----


class ProtocolError(Exception):
    """The other end is gone, does not answer in time, or says what makes no sense."""


class VersionError(ProtocolError):
    """The other end speaks another version of the protocol."""


class SetupError(Exception):
    """Something that whoever starts the worker can mend; said in one line."""


def parse_address(address: str) -> tuple[socket.AddressFamily, Any]:
    """Split ``unix:/path`` or ``tcp:HOST:PORT`` into what ``socket`` wants.

    Raises:
      SetupError: it is neither.
    """
    kind, _, place = address.partition(":")
    if kind == "unix" and place:
        return socket.AF_UNIX, place
    host, _, port = place.rpartition(":")
    if kind == "tcp" and host and port.isdigit() and int(port) < 1 << 16:
        return socket.AF_INET, (host, int(port))
    raise SetupError(f"an address is unix:/path or tcp:HOST:PORT, not {address!r}")


def send(peer: socket.socket, kind: int, payload: bytes) -> None:
    """Send one frame.

    Raises:
      ProtocolError: the other end is gone, or takes nothing for as long as the socket's timeout.
    """
    try:
        peer.sendall(_HEADER.pack(_MAGIC, VERSION, kind, len(payload)) + payload)
    except OSError as error:
        raise ProtocolError(_reason(error)) from error


def receive(peer: socket.socket) -> tuple[int, bytearray]:
    """Wait for one frame; return its kind and payload.

    Raises:
      VersionError: the frame is of another version of the protocol.
      ProtocolError: it is no frame, the other end is gone, or sends nothing for as long as the socket's timeout.
    """
    magic, version, kind, length = _HEADER.unpack(_read(peer, _HEADER.size))
    if magic != _MAGIC:
        raise ProtocolError(f"it does not speak the protocol of resip's workers (it said {magic!r})")
    if version != VERSION:
        raise VersionError(f"it speaks version {version} of the protocol, this end version {VERSION}")
    if length > _MAX_BYTES:
        raise ProtocolError(f"it announced a message of {length} bytes")
    return kind, _read(peer, length)


def _read(peer: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view, got = memoryview(data), 0
    while got < length:
        try:
            count = peer.recv_into(view[got:])
        except OSError as error:
            raise ProtocolError(_reason(error)) from error
        if not count:
            raise ProtocolError("it closed the connection" + (" in the middle of a message" if got else ""))
        got += count
    return data


def _reason(error: OSError) -> str:
    return "it did not answer in time" if isinstance(error, socket.timeout) else error.strerror or str(error)


# ---- serving ----


def serve(make: Callable[[], Simulation], address: str) -> None:
    """Make a simulation and serve it at ``address``, to one trainer after the other, for ever.

    Raises:
      SetupError: the address cannot be listened at, which is found out first, or the simulation cannot be made.
      Exception: whatever the simulation raises.
    """
    with listening(address) as (server, place):
        simulation = make()
        print(f"resip worker: serving {simulation.task}, {simulation.num_envs} worlds, at {place}", flush=True)
        while True:
            trainer, _ = server.accept()
            with trainer:
                print("resip worker: a trainer came", flush=True)
                try:
                    converse(trainer, simulation)
                except ProtocolError as error:
                    print(f"resip worker: the trainer left: {error}", flush=True)


@contextlib.contextmanager
def listening(address: str) -> Iterator[tuple[socket.socket, str]]:
    """Listen at ``address``; yield the socket and the address, with the port that was given for port 0.

    Raises:
      SetupError: it is no address of this machine's own, or in use.
    """
    family, place = parse_address(address)
    with socket.socket(family) as server:
        try:
            if family == socket.AF_UNIX:
                _remove_stale(place)
            else:
                _check_local(place[0])
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(place)
            server.listen(1)
        except OSError as error:
            raise SetupError(f"cannot listen at {address}: {error}") from error
        if family == socket.AF_UNIX:
            try:
                yield server, address
            finally:
                os.unlink(place)
        else:
            host, port = server.getsockname()
            yield server, f"tcp:{host}:{port}"


def _remove_stale(path: str) -> None:
    """Remove the socket that a killed worker left at ``path``; whatever else is there is an error."""
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise SetupError(f"{path} is a file, not the socket of a worker: choose another --address")
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise SetupError(f"another worker serves at unix:{path}")


def _check_local(host: str) -> None:
    if not ipaddress.ip_address(socket.gethostbyname(host)).is_loopback:
        raise SetupError(
            f"{host} is not on this machine's loopback, and nothing here asks who connects: serve at "
            "tcp:127.0.0.1:PORT, and reach it from elsewhere with ssh -L PORT:127.0.0.1:PORT"
        )


def converse(trainer: socket.socket, simulation: Simulation) -> None:
    """Serve one trainer until it leaves.

    Raises:
      ProtocolError: the trainer is gone, or says what makes no sense.
      Exception: whatever the simulation raises; the trainer has been told.
    """
    layout = _layout(simulation)
    send(trainer, GREETING, json.dumps(_greeting(simulation, layout)).encode())
    while True:
        act = _decode(simulation, *receive(trainer))
        try:
            act()
            answer = _pack(simulation.observe(), layout)
        except Exception as error:
            with contextlib.suppress(ProtocolError):  # what went wrong here matters more
                send(trainer, FAILURE, f"{type(error).__name__}: {error}".encode())
            raise
        send(trainer, STATE, answer)


def _layout(simulation: Simulation) -> list[tuple[str, str, list[int]]]:
    seen = simulation.observe()
    return [(name, f"<f{seen[name].itemsize}", list(seen[name].shape)) for name in ARRAYS]


def _greeting(simulation: Simulation, layout: list[tuple[str, str, list[int]]]) -> dict[str, Any]:
    return {
        "task": simulation.task,
        "randomness": simulation.randomness,
        "num_envs": simulation.num_envs,
        "simulator": simulation.simulator,
        "arrays": layout,
    }


def _decode(simulation: Simulation, kind: int, payload: bytearray) -> Callable[[], None]:
    """Turn a request into the call that it asks for."""
    if kind == RESET and len(payload) % 16 == 0:
        ids, seeds = np.frombuffer(payload, "<u8").reshape(2, -1)
        return partial(simulation.reset, ids.astype(np.int64), seeds)
    if kind == STEP and len(payload) == 8 * simulation.num_envs * ACTION_DIM:
        actions = np.frombuffer(payload, "<f8").reshape(simulation.num_envs, ACTION_DIM)
        return partial(simulation.step, actions)
    raise ProtocolError(f"it sent a message of kind {kind} and {len(payload)} bytes")


def _pack(seen: dict[str, np.ndarray], layout: list[tuple[str, str, list[int]]]) -> bytes:
    return b"".join(np.ascontiguousarray(seen[name], dtype).tobytes() for name, dtype, _ in layout)


# ---- FurnitureSim ----

#: FurnitureBench's name of a task, where it is not resip's.
_FURNITURE = {"peg_hole": "factory_peg_hole"}
_TASKS = ("one_leg", "round_table", "lamp", "peg_hole")
_LEVELS = ("low", "med", "high")
_CONTROL_PERIOD_S = 0.1
#: What is asked of the environment: the contract's robot state and the joints. Part poses are read on their own.
_STATE_KEYS = ("ee_pos", "ee_quat", "ee_pos_vel", "ee_ori_vel", "gripper_width", "joint_positions")
#: The environment lets the lamp's bulb go after half of this; the trainer ends episodes long before.
_ENDLESS_STEPS = 10**8


class FurnitureSim:
    """FurnitureBench's environment for reinforcement learning, in resip's frames and conventions.

    Its own rewards and dones are not used: the trainer judges all simulators by the same rules. Its part poses
    come in the AprilTag frame, and its option for the robot's frame applies the transform the wrong way round, so
    they are taken in the frame of the world and moved to the robot's base, whose axes are the world's.
    """

    def __init__(self, env: FurnitureRLSimEnv, task: str, randomness: str) -> None:
        self.task, self.randomness = task, randomness
        self.num_envs = env.num_envs
        self._env = env
        params = cast("gymapi.SimParams", env.isaac_gym.get_sim_params(env.sim))
        period_s = env.sim_steps * params.dt
        if abs(period_s - _CONTROL_PERIOD_S) > 1e-3:
            raise SetupError(f"this furniture-bench steps {period_s:.3f} s instead of 0.1 s: it is not the fork")
        self.simulator = (
            f"FurnitureSim on Isaac Gym, {env.sim_steps} steps of {1e3 * params.dt:.2f} ms, {params.substeps} substeps"
        )

    def reset(self, ids: np.ndarray, seeds: np.ndarray) -> None:
        """Start new episodes in the worlds ``ids``; the simulator moves the others on by one of its steps."""
        import torch

        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
        with self._bulbs_kept(ids):
            self._env.reset(torch.as_tensor(ids, dtype=torch.int32, device=self._env.device))

    @contextlib.contextmanager
    def _bulbs_kept(self, ids: np.ndarray) -> Iterator[None]:
        """Keep what is known of the other worlds' bulbs, which the environment forgets: whether held, and where."""
        env = self._env
        if not hasattr(env, "_moving_bulbs"):  # not the lamp, or its first reset
            yield
            return
        moving, rest = env._moving_bulbs, env.lb_rest_poses
        yield
        others = np.setdiff1d(np.arange(self.num_envs), ids)
        env._moving_bulbs[others] = moving[others]
        env.lb_rest_poses[others] = rest[others]

    def step(self, actions: np.ndarray) -> None:
        """Advance all worlds by 0.1 s."""
        import torch

        self._env.step(torch.as_tensor(actions, dtype=torch.float32, device=self._env.device))

    def observe(self) -> dict[str, np.ndarray]:
        """Return ``ARRAYS``, float32 as the simulator has them."""
        seen = {name: _numpy(value) for name, value in self._env.get_observation()["robot_state"].items()}
        rows = _rotation_rows(seen["ee_quat"])
        velocity = (seen["ee_pos_vel"], seen["ee_ori_vel"])
        state = np.concatenate([seen["ee_pos"], rows, *velocity, seen["gripper_width"]], axis=1)
        return {
            "robot_state": state.astype(np.float32),
            "part_poses": self._part_poses().reshape(self.num_envs, -1),
            "joint_positions": seen["joint_positions"],
        }

    def _part_poses(self) -> np.ndarray:
        env = self._env
        parts = _numpy(env.get_parts_poses(sim_coord=True)).reshape(self.num_envs, -1, 7)
        obstacle = _numpy(env.get_obstacle_pose(sim_coord=True)).reshape(self.num_envs, 1, 7)
        poses = np.concatenate([parts, obstacle], axis=1)
        poses[..., :3] -= _numpy(env.rb_states[env.base_idxs, :3])[:, None]
        poses[:, -1, 3:] = (0.0, 0.0, 0.0, 1.0)  # its mesh lies along x, resip's wall along y; it never turns
        return poses


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().numpy().astype(np.float32)


def _rotation_rows(quat: np.ndarray) -> np.ndarray:
    """First two rows of the rotation matrices of quaternions (n, 4), xyzw: (n, 6)."""
    x, y, z, w = (quat / np.linalg.norm(quat, axis=1, keepdims=True)).T
    first = (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w))
    second = (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w))
    return np.stack(first + second, axis=1)


def start_furniture_sim(task: str, num_envs: int, randomness: str, gpu: int) -> FurnitureSim:
    """Create Isaac Gym's worlds on GPU number ``gpu``: some minutes for a thousand."""
    try:
        from furniture_bench.envs.furniture_rl_sim_env import FurnitureRLSimEnv
    except ImportError as error:
        raise SetupError(f"{error}: run this in the environment that docs/isaac.md of resip sets up") from error
    env = FurnitureRLSimEnv(
        furniture=_FURNITURE.get(task, task),
        num_envs=num_envs,
        randomness=randomness,
        obs_keys=["robot_state/" + key for key in _STATE_KEYS],
        concat_robot_state=False,
        act_rot_repr="rot_6d",
        action_type="pos",
        ctrl_mode="diffik",
        headless=True,
        max_env_steps=_ENDLESS_STEPS,
        compute_device_id=gpu,
        graphics_device_id=gpu,
    )
    return FurnitureSim(env, task, randomness)


# ---- the command ----


def parser(tasks: Sequence[str]) -> argparse.ArgumentParser:
    """Return the options that every worker has."""
    options = argparse.ArgumentParser(description="Serve a simulation to resip.")
    options.add_argument("--task", choices=tasks, default=tasks[0])
    options.add_argument("--num-envs", type=_count, default=1, help="worlds to serve")
    options.add_argument("--randomness", choices=_LEVELS, default="low", help="how far episodes start from nominal")
    options.add_argument("--address", default=DEFAULT_ADDRESS, help="unix:/path or tcp:127.0.0.1:PORT")
    return options


def _count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of worlds")
    return int(text)


def run(make: Callable[[], Simulation], address: str) -> None:
    """Do what ``serve`` does until Ctrl-C; what can be mended is said in one line."""
    try:
        serve(make, address)
    except KeyboardInterrupt:
        pass
    except SetupError as error:
        sys.exit(f"resip worker: {error}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve FurnitureSim."""
    options = parser(_TASKS)
    options.add_argument("--gpu", type=int, default=0, help="number of the GPU")
    chosen = options.parse_args(arguments)
    start = partial(start_furniture_sim, chosen.task, chosen.num_envs, chosen.randomness, chosen.gpu)
    run(start, chosen.address)


if __name__ == "__main__":
    main()
