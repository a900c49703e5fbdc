"""Run a task's expert over many seeds, in parallel worlds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from resip import arrays, rotation, spaces
from resip.errors import UnknownNameError

from resip_training.experts import lamp, motion, one_leg, peg_hole, round_table
from resip_training.sim import snapshots
from resip_training.sim.env import AssemblyEnv

Array = NDArray[np.float64]

EXPERTS: Final[Mapping[str, motion.Expert]] = MappingProxyType(
    {"one_leg": one_leg.act, "round_table": round_table.act, "lamp": lamp.act, "peg_hole": peg_hole.act}
)


_SLIP_STEPS: Final = 8


@dataclass(frozen=True)
class Disturbance:
    """Random errors in what the arm is told, so that demonstrations show how to recover from them.

    The error wanders (a first-order process) and grows with the motion that is asked for: a person's aim is
    off on the way, not on arrival. What is recorded is the expert's own action, the right one at the place
    that the error led to. Source: DART, Laskey et al. 2017.
    """

    share: float = 0.05
    """Standard deviation on each axis, as a share of the commanded displacement, and about it, of the rotation."""
    memory: float = 0.85
    """Share of the error that lasts from one step to the next."""
    slip: float = 0.002
    """Chance at each step that the hand opens, for as long as that takes, whatever it was told."""


@dataclass(frozen=True)
class Trajectory:
    """One episode of T control steps; row t is what was seen at step t and the expert's action."""

    seed: int
    success: bool
    fallen: bool
    robot_state: Array
    """``(T, 16)``."""
    part_poses: Array
    """``(T, 7 * (parts + 1))``."""
    joint_positions: Array
    """``(T, 7)``, rad."""
    action: Array
    """``(T, 10)``."""
    reward: Array
    """``(T,)``."""
    world: Array | None = None
    """``(T, W)``, the simulator's state before each step, if it was asked for (see ``sim.snapshots``)."""

    def __len__(self) -> int:
        return len(self.action)


class _World:
    """One environment's expert and what it has recorded so far."""

    def __init__(
        self,
        task: str,
        part_names: tuple[str, ...],
        seed: int,
        state: Array,
        parts: Array,
        disturbance: Disturbance | None,
    ) -> None:
        self.seed = seed
        self._disturbance = disturbance
        self._rng = np.random.default_rng([seed, 1])
        self._error = np.zeros(6)
        self._slipping_steps = 0
        self._names = part_names
        self._expert = EXPERTS[task]
        self.act(state, parts)
        self._rows: list[tuple[Array, Array, Array, Array, float]] = []
        self._worlds: list[Array] = []

    def record(self, state: Array, parts: Array, joints: Array, reward: float, world: Array | None) -> None:
        """Keep what was seen at this step, with the expert's action, and the simulator's state if it is given."""
        self._rows.append((state, parts, joints, self.action, reward))
        if world is not None:
            self._worlds.append(world)

    def act(self, state: Array, parts: Array) -> None:
        """Decide the next action from what is seen."""
        self.action = self._expert(motion.unpack(state, parts, self._names))

    def told(self, state: Array) -> Array:
        """What the arm at ``state`` is told: the expert's action with the error that has built up."""
        if self._disturbance is None:
            return self.action
        memory = self._disturbance.memory
        self._error = memory * self._error + np.sqrt(1 - memory**2) * self._rng.standard_normal(6)
        pose = spaces.action_pose(self.action)
        ahead_m = np.linalg.norm(pose.position - state[spaces.STATE_POSITION])
        ahead_rad = rotation.angle_between(rotation.matrix_from_rot6d(state[spaces.STATE_ROT6D]), pose.matrix)
        offset_m, turn_rad = self._disturbance.share * self._error.reshape(2, 3) * [[ahead_m], [ahead_rad]]
        turned = rotation.matrix_from_rotvec(turn_rad) @ pose.matrix
        return spaces.pack_action(pose.position + offset_m, turned, self._gripper_told())

    def _gripper_told(self) -> float:
        assert self._disturbance is not None
        if self._rng.random() < self._disturbance.slip:
            self._slipping_steps = _SLIP_STEPS
        self._slipping_steps = max(0, self._slipping_steps - 1)
        return spaces.GRIPPER_OPEN if self._slipping_steps else self.action[spaces.ACTION_GRIPPER.start]

    def trajectory(self, success: bool, fallen: bool) -> Trajectory:
        """Everything recorded, as one episode."""
        state, parts, joints, action, reward = (np.array(column) for column in zip(*self._rows, strict=True))
        worlds = np.array(self._worlds) if self._worlds else None
        return Trajectory(self.seed, success, fallen, state, parts, joints, action, reward, worlds)


def run_expert(
    task: str,
    randomness: str,
    seeds: Sequence[int],
    num_envs: int = 8,
    threads: int = 0,
    disturbance: Disturbance | None = None,
    device: str = "cpu",
    record_worlds: bool = False,
) -> Iterator[Trajectory]:
    """Yield one trajectory for each seed, as its episode ends (not in the order of the seeds).

    With ``record_worlds`` trajectories have the simulator's states. The expert runs on the host, wherever ``device``
    has the physics run (see ``env.DEVICES``).

    Raises:
      ResipError: unknown task or randomness, or a task without an expert.
    """
    env = AssemblyEnv(task, min(num_envs, len(seeds)), randomness, device=device, threads=threads)
    yield from run_expert_in(env, seeds, disturbance, record_worlds)


def run_expert_in(
    env: AssemblyEnv, seeds: Sequence[int], disturbance: Disturbance | None = None, record_worlds: bool = False
) -> Iterator[Trajectory]:
    """Do what ``run_expert`` does in an environment that there is, and close it.

    Raises:
      ResipError: a task without an expert.
    """
    if env.task.name not in EXPERTS:
        raise UnknownNameError("expert", env.task.name, tuple(EXPERTS))
    num_envs = env.num_envs
    waiting = list(seeds)[::-1]
    worlds: list[_World | None] = [None] * num_envs
    starting = np.ones(num_envs, dtype=bool)
    actions = np.zeros((num_envs, spaces.ACTION_DIM))
    while True:
        for i in np.flatnonzero(starting):
            starting[i] = bool(waiting)
            worlds[i] = None
        if starting.any():
            _start(env, worlds, starting, waiting, disturbance)
        if not any(worlds):
            env.close()
            return
        seen = env.robot_state(), env.part_poses().reshape(num_envs, -1), env.joint_positions()
        state, parts, joints = map(arrays.to_host, seen)
        states = snapshots.flatten(env.worlds.snapshot()) if record_worlds else [None] * num_envs
        actions[:, :9] = state[:, :9]  # a world that is done holds still
        for i, world in enumerate(worlds):
            if world is not None:
                actions[i] = world.told(state[i])
        observation, reward, terminated, truncated, info = _on_host(env.step(actions))
        starting = np.zeros(num_envs, dtype=bool)
        for i, world in enumerate(worlds):
            if world is None:
                continue
            world.record(state[i], parts[i], joints[i], float(reward[i]), states[i])
            if terminated[i] or truncated[i]:
                yield world.trajectory(bool(info["success"][i]), bool(info["fallen"][i]))
                starting[i] = True
            else:
                world.act(observation["robot_state"][i], observation["part_poses"][i])


def _start(
    env: AssemblyEnv,
    worlds: list[_World | None],
    starting: NDArray[np.bool_],
    waiting: list[int],
    disturbance: Disturbance | None,
) -> None:
    """Reset the environments that are ``starting`` to the next seeds, as many as there are."""
    seeds: list[int | None] = [None] * env.num_envs
    for i in np.flatnonzero(starting):
        if waiting:
            seeds[i] = waiting.pop()
        else:
            starting[i] = False
    observation, _ = _on_host(env.reset(seed=seeds, options={"reset_mask": starting}))
    for i in np.flatnonzero(starting):
        seed = seeds[i]
        assert seed is not None
        worlds[i] = _World(
            env.task.name,
            env.task.part_names,
            seed,
            observation["robot_state"][i],
            observation["part_poses"][i],
            disturbance,
        )


def _on_host(outcome: tuple[Any, ...]) -> tuple[Any, ...]:
    """What an environment returned, as numpy arrays."""
    return tuple(
        {name: arrays.to_host(values) for name, values in entry.items()}
        if isinstance(entry, dict)
        else arrays.to_host(entry)
        for entry in outcome
    )
