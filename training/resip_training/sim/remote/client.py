"""The trainer's end of a simulation in another process: ``AssemblyEnv`` over a worker (see ``worker``)."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from resip import rotation, spaces
from resip.control import limits, panda
from resip.errors import ResipError

from resip_training.sim import tasks
from resip_training.sim.env import STATES, AssemblyEnv
from resip_training.sim.remote import worker
from resip_training.sim.task import Task, nominal_poses

Array = NDArray[np.float64]

#: A worker greets at once, unless it is still starting or another trainer has it.
_GREETING_TIMEOUT_S: Final = 10.0
#: A step of a thousand worlds takes a second or so; a reset that lets parts come to rest takes several.
_ANSWER_TIMEOUT_S: Final = 120.0
_LIMITS: Final = limits.Limits()
_DTYPES: Final = MappingProxyType({"<f4": np.dtype("<f4"), "<f8": np.dtype("<f8")})
_BUSY: Final = "is that its address, has it said that it serves, and is no other trainer connected to it?"
_RESTART: Final = "the worker's terminal says more; start it again, then this command"
_COPY: Final = "copy training/resip_training/sim/remote/worker.py of this version to where the worker runs"


class RemoteEnv(AssemblyEnv):
    """``AssemblyEnv`` whose physics runs in the worker at ``address``, such as Isaac Gym's (docs/isaac.md).

    Spaces, rewards and ends of episodes are those of ``AssemblyEnv``, judged here. What a seed means, and whether
    a reset leaves the other worlds alone, is the worker's simulator's.
    """

    def __init__(
        self,
        address: str,
        task: str = "one_leg",
        num_envs: int | None = None,
        randomness: str = "low",
        *,
        observe: Sequence[str] = STATES,
        timeout_s: float = _ANSWER_TIMEOUT_S,
        dump_dir: Path = Path("runs/diverged"),
    ) -> None:
        """Connect to a worker.

        Args:
          address: unix:/path or tcp:HOST:PORT.
          task: its name.
          num_envs: how many worlds; as many as the worker serves if not given.
          randomness: level of the task's random starts.
          observe: names among ``env.OBSERVATIONS``; images are rendered here.
          timeout_s: longest wait for the answer to a reset or step.
          dump_dir: where the last good observation before a divergence is saved.

        Raises:
          ResipError: unknown names, no worker at the address, or one that serves something else.
        """
        chosen = tasks.get(task)
        tasks.randomness(chosen, randomness)  # an unknown name is no mismatch
        remote = RemoteWorlds(address, chosen, randomness, num_envs, timeout_s)
        self.simulator = remote.simulator
        self._leave = remote.close
        super().__init__(task, remote.count, randomness, observe=observe, dump_dir=dump_dir, worlds=remote)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start episodes as ``AssemblyEnv`` does, but not from snapshots.

        Raises:
          ResipError: a snapshot is given, or the worker is gone or failed.
        """
        if "snapshot" in (options or {}):
            raise ResipError("a worker starts no episode from a snapshot: use the simulator here for that")
        return super().reset(seed=seed, options=options)

    def close_extras(self, **kwargs: Any) -> None:
        """Leave the worker, which waits for the next trainer."""
        super().close_extras(**kwargs)
        self._leave()


class RemoteWorlds:
    """The worlds that a worker serves: ``Physics`` over a socket, one exchange for each reset or step."""

    def __init__(self, address: str, task: Task, randomness: str, count: int | None, timeout_s: float) -> None:
        """Connect, and check that the worker serves what is wanted.

        Raises:
          ResipError: it does not, or there is none.
        """
        self._nominal = nominal_poses(task)
        self._connection = _Connection(address, timeout_s)
        try:
            self._served = self._connection.greeting()
            self._served.check(address, task, randomness, count)
        except ResipError:
            self.close()
            raise
        self.count, self.simulator = self._served.num_envs, self._served.simulator
        self._seen = {name: np.zeros(shape) for name, (_, shape) in self._served.arrays.items()}

    def close(self) -> None:
        """Leave the worker."""
        self._connection.close()

    def reset(self, mask: NDArray[np.bool_], seeds: Sequence[int]) -> None:
        """Start new episodes where ``mask`` holds, each world from its seed.

        Raises:
          ResipError: the worker is gone, or failed.
        """
        ids = np.flatnonzero(mask)
        chosen = [seeds[int(i)] for i in ids]
        if len(ids):
            self._ask("the reset", worker.RESET, np.array([ids, chosen], dtype="<u8").tobytes())

    def step(self, actions: ArrayLike) -> None:
        """Advance all worlds by one control step with actions ``(count, 10)``, kept inside the workspace.

        Raises:
          ResipError: the worker is gone, or failed.
          ValueError: the actions' shape is wrong or a 6D part is no rotation.
        """
        told = np.array(actions, dtype="<f8")
        if told.shape != (self.count, spaces.ACTION_DIM):
            raise ValueError(f"a step takes actions {(self.count, spaces.ACTION_DIM)}, got shape {told.shape}")
        position = spaces.action_pose(told).position
        told[:, spaces.ACTION_POSITION] = np.clip(position, _LIMITS.lower_m, _LIMITS.upper_m)
        told[:, spaces.ACTION_GRIPPER] = spaces.gripper_command(told)[:, None]
        self._ask("the step", worker.STEP, told.tobytes())

    def _ask(self, doing: str, kind: int, request: bytes) -> None:
        answer = self._connection.ask(doing, kind, request, self._served.size)
        offset = 0
        for name, (dtype, shape) in self._served.arrays.items():
            values = np.frombuffer(answer, dtype, math.prod(shape), offset)
            self._seen[name] = values.reshape(shape).astype(np.float64)
            offset += values.nbytes

    def push(self) -> None:
        """Refuse: the protocol has no pushes.

        Raises:
          ResipError: always.
        """
        raise ResipError("a worker's parts cannot be pushed: use the simulator here for pushes")

    def joint_positions(self) -> Array:
        """Arm joints, rad, ``(count, 7)``."""
        return self._seen["joint_positions"].copy()

    def robot_state(self) -> Array:
        """The contract's robot state, ``(count, 16)``."""
        return self._seen["robot_state"].copy()

    def part_poses(self) -> Array:
        """Part poses and the obstacle's, base frame, ``(count, n_parts + 1, 7)``, quaternions in a fixed hemisphere."""
        poses = self._seen["part_poses"].reshape(self.count, -1, spaces.PART_POSE_DIM).copy()
        poses[..., 3:] = rotation.quat_in_hemisphere(poses[..., 3:], self._nominal[:, 3:])
        return poses

    def finite(self) -> NDArray[np.bool_]:
        """Which worlds' observations are numbers, ``(count,)``."""
        return np.all([np.isfinite(values).all(axis=1) for values in self._seen.values()], axis=0)

    def snapshot(self) -> dict[str, Array]:
        """What is observed now; the simulator's own state stays with the worker."""
        return {name: values.copy() for name, values in self._seen.items()}

    def restore(self, state: Mapping[str, Array], mask: NDArray[np.bool_]) -> None:
        """Show the worlds where ``mask`` holds as they were at a snapshot, until the next step or reset."""
        for name, values in state.items():
            self._seen[name][mask] = values[mask]


class _Connection:
    """The socket to a worker; whatever goes wrong there is one line with the remedy."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        try:
            family, place = worker.parse_address(address)
        except worker.SetupError as error:
            raise ResipError(str(error)) from error
        self._socket = socket.socket(family)
        try:
            self._socket.settimeout(_GREETING_TIMEOUT_S)
            self._socket.connect(place)
        except OSError as error:
            self.close()
            raise ResipError(f"no worker answers at {address} ({error}): start one first, see docs/isaac.md") from error
        if family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def greeting(self) -> _Served:
        """Wait for the worker's greeting."""
        try:
            _, payload = worker.receive(self._socket)
            served = _Served.parse(payload)
        except worker.VersionError as error:
            raise ResipError(f"the worker at {self._address}: {error}; {_COPY}") from error
        except worker.ProtocolError as error:
            raise ResipError(f"no worker greets at {self._address}: {error}; {_BUSY}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ResipError(f"the worker at {self._address} does not greet as one should; {_COPY}") from error
        self._socket.settimeout(self._timeout_s)
        return served

    def ask(self, doing: str, kind: int, request: bytes, size: int) -> bytearray:
        """Send a request and wait for the state that answers it, ``size`` bytes."""
        if self._socket.fileno() < 0:
            raise ResipError(f"the connection to the worker at {self._address} is closed: {_RESTART}")
        try:
            worker.send(self._socket, kind, request)
            answer, payload = worker.receive(self._socket)
        except worker.ProtocolError as error:
            self.close()
            raise ResipError(f"the worker at {self._address} failed {doing}: {error}; {_RESTART}") from error
        if answer == worker.STATE and len(payload) == size:
            return payload
        self.close()
        said = " ".join(payload.decode(errors="replace").split())
        reason = said if answer == worker.FAILURE else f"its answer is of kind {answer} and {len(payload)} bytes"
        raise ResipError(f"the worker at {self._address} failed {doing}: {reason}; {_RESTART}")


@dataclass(frozen=True)
class _Served:
    """What a worker says that it serves."""

    task: str
    randomness: str
    num_envs: int
    simulator: str
    arrays: dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
    """Type and shape of what it observes, by name, in the order in which it sends them."""

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.arrays.values())

    @staticmethod
    def parse(greeting: bytes | bytearray) -> _Served:
        """Read a greeting.

        Raises:
          KeyError, TypeError, ValueError: it is none.
        """
        said = json.loads(greeting)
        arrays = {name: (_DTYPES[dtype], tuple(shape)) for name, dtype, shape in said["arrays"]}
        return _Served(said["task"], said["randomness"], said["num_envs"], said["simulator"], arrays)

    def check(self, address: str, task: Task, randomness: str, num_envs: int | None) -> None:
        """Compare with what is wanted, field by field.

        Raises:
          ResipError: naming the first field that differs.
        """
        for field, wanted in {"task": task.name, "randomness": randomness, "num_envs": num_envs}.items():
            given = getattr(self, field)
            if wanted not in (given, None):
                raise ResipError(
                    f"the worker at {address} serves {field} {given!r}, not {wanted!r}: "
                    f"start it with --{field.replace('_', '-')} {wanted}, or ask for what it serves"
                )
        widths = {
            "robot_state": spaces.STATE_DIM,
            "part_poses": spaces.PART_POSE_DIM * (len(task.parts) + 1),
            "joint_positions": panda.DOF,
        }
        for name in widths | self.arrays:
            given = self.arrays[name][1] if name in self.arrays else None
            wanted = (self.num_envs, widths[name]) if name in widths else None
            if given != wanted:
                raise ResipError(f"the worker at {address} observes {name} {given}, not {wanted}: {_COPY}")
