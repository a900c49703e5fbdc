"""A worker that serves MuJoCo: what the protocol is tested with, and a way to try a remote environment out.

python -m resip_training.sim.remote.mujoco_worker --task one_leg --num-envs 4
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip.errors import ResipError

from resip_training.sim import tasks
from resip_training.sim.remote import worker
from resip_training.sim.worlds import Worlds


class MujocoSimulation:
    """``Worlds`` as a worker's ``Simulation``."""

    simulator = f"mujoco {mujoco.__version__}"

    def __init__(self, task: str, num_envs: int, randomness: str) -> None:
        self.task, self.num_envs, self.randomness = task, num_envs, randomness
        chosen = tasks.get(task)
        self._worlds = Worlds(chosen, num_envs, tasks.randomness(chosen, randomness))

    def reset(self, ids: NDArray[np.int64], seeds: NDArray[np.uint64]) -> None:
        """Start new episodes in the worlds ``ids``, from a seed each."""
        every = [0] * self.num_envs
        for i, seed in zip(ids, seeds, strict=True):
            every[int(i)] = int(seed)
        self._worlds.reset(np.isin(np.arange(self.num_envs), ids), every)

    def step(self, actions: NDArray[np.float64]) -> None:
        """Advance all worlds by one control step with actions ``(num_envs, 10)``."""
        self._worlds.step(actions)

    def observe(self) -> dict[str, NDArray[np.float64]]:
        """Return what the protocol carries, float64."""
        return {
            "robot_state": self._worlds.robot_state(),
            "part_poses": self._worlds.part_poses().reshape(self.num_envs, -1),
            "joint_positions": self._worlds.joint_positions(),
        }


def _start(task: str, num_envs: int, randomness: str) -> MujocoSimulation:
    try:
        return MujocoSimulation(task, num_envs, randomness)
    except ResipError as error:
        raise worker.SetupError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve MuJoCo."""
    chosen = worker.parser(tuple(tasks.TASKS)).parse_args(arguments)
    worker.run(partial(_start, chosen.task, chosen.num_envs, chosen.randomness), chosen.address)


if __name__ == "__main__":
    main()
