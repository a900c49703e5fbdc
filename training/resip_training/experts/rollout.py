"""Run a task's expert over many seeds, in parallel worlds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from resip import arrays, spaces
from resip.errors import UnknownNameError

from resip_training.experts import lamp, motion, one_leg, peg_hole, round_table
from resip_training.experts.variety import Disturbance, Manner, Mistakes, Style
from resip_training.sim import snapshots
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.task import Task

Array = NDArray[np.float64]

EXPERTS: Final[Mapping[str, motion.Expert]] = MappingProxyType(
    {"one_leg": one_leg.act, "round_table": round_table.act, "lamp": lamp.act, "peg_hole": peg_hole.act}
)


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
        self, task: Task, seed: int, state: Array, parts: Array, style: Style | None, disturbance: Disturbance | None
    ) -> None:
        self.seed = seed
        self._names = task.part_names
        self._expert = EXPERTS[task.name]
        self._manner = None if style is None else Manner(style, seed, task.part_names)
        self._mistakes = None if disturbance is None else Mistakes(disturbance, seed)
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
        scene = motion.unpack(state, parts, self._names)
        if self._manner is None:
            self.action = self._expert(scene)
        else:
            self.action = self._manner.does(scene, self._expert(self._manner.sees(scene)))

    def told(self, state: Array) -> Array:
        """What the arm at ``state`` is told: the expert's action, or what a mistake makes of it."""
        return self.action if self._mistakes is None else self._mistakes.told(self.action, state)

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
    style: Style | None = None,
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
    yield from run_expert_in(env, seeds, style, disturbance, record_worlds)


def run_expert_in(
    env: AssemblyEnv,
    seeds: Sequence[int],
    style: Style | None = None,
    disturbance: Disturbance | None = None,
    record_worlds: bool = False,
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
            worlds[i] = None
        if starting.any() and waiting:
            for i, seed, state, parts in _start(env, starting, waiting):
                worlds[i] = _World(env.task, seed, state, parts, style, disturbance)
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
    env: AssemblyEnv, starting: NDArray[np.bool_], waiting: list[int]
) -> Iterator[tuple[int, int, Array, Array]]:
    """Reset the environments that are ``starting`` to the next seeds, as many as there are.

    Yields the place, the seed, the robot's state and the part poses of each that has started.
    """
    started = dict(zip(np.flatnonzero(starting).tolist(), reversed(waiting), strict=False))
    del waiting[len(waiting) - len(started) :]
    starting[:] = np.isin(np.arange(env.num_envs), list(started))
    seeds = [started.get(i) for i in range(env.num_envs)]
    observation, _ = _on_host(env.reset(seed=seeds, options={"reset_mask": starting}))
    for i, seed in started.items():
        yield i, seed, observation["robot_state"][i], observation["part_poses"][i]


def _on_host(outcome: tuple[Any, ...]) -> tuple[Any, ...]:
    """What an environment returned, as numpy arrays."""
    return tuple(
        {name: arrays.to_host(values) for name, values in entry.items()}
        if isinstance(entry, dict)
        else arrays.to_host(entry)
        for entry in outcome
    )
