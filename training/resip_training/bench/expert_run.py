"""Worlds driven by the expert without end: the load that speed and memory are measured under."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from resip_training.bench.figures import CpuClock
from resip_training.experts import motion
from resip_training.experts.rollout import EXPERTS
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.worlds import Worlds

Array = NDArray[np.float64]

_FIRST_SEED: Final = 90_000


class _TimedBatch:
    """A batch whose steps are timed."""

    def __init__(self, batch: Batch, clock: CpuClock) -> None:
        self._batch, self._clock = batch, clock

    def step(self, *args: Any, **kwargs: Any) -> None:
        with self._clock.measure("physics"):
            self._batch.step(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)


class ExpertRun:
    """Worlds that a task's expert drives, in one thread; one whose episode ends begins the next.

    ``clock`` measures "expert", "step" (of the environment), "physics" (the part of "step" in the simulator) and
    "reset".
    """

    def __init__(self, task: str, worlds: int) -> None:
        self.clock = CpuClock()
        self.resets = 0
        self.env = AssemblyEnv(task, worlds, threads=1)
        assert isinstance(self.env.worlds, Worlds)
        self.worlds = self.env.worlds
        self._batch = self.worlds.batch
        self._timed: Any = _TimedBatch(self._batch, self.clock)
        self._expert = EXPERTS[task]
        self._seed = _FIRST_SEED
        self._start(np.ones(worlds, dtype=bool))

    def stagger(self) -> None:
        """Run until the worlds are at different moments of their episodes, as they are in training."""
        length, worlds = self.env.task.max_steps // 2, self.env.num_envs
        for k in range(length):
            self.step()
            starting = np.arange(worlds) * length // worlds == k
            if starting.any():
                self._start(starting)

    def step(self) -> None:
        """Advance all worlds by one control step."""
        with self.clock.measure("expert"):
            actions = np.array([self._act(i) for i in range(self.env.num_envs)])
        self.worlds.batch = self._timed
        with self.clock.measure("step"):
            self._seen, _, terminated, truncated, _ = self.env.step(actions)
        self.worlds.batch = self._batch
        if (terminated | truncated).any():
            self._start(terminated | truncated)

    def _act(self, i: int) -> Array:
        scene = motion.unpack(self._seen["robot_state"][i], self._seen["part_poses"][i], self.env.task.part_names)
        return self._expert(scene)

    def _start(self, starting: NDArray[np.bool_]) -> None:
        seeds = range(self._seed, self._seed + self.env.num_envs)
        with self.clock.measure("reset"):
            self._seen, _ = self.env.reset(seed=list(seeds), options={"reset_mask": starting})
        self._seed += self.env.num_envs
        self.resets += int(starting.sum())
