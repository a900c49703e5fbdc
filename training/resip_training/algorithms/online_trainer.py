"""What the algorithms that learn in worlds have in common: a run that acts, learns, and is measured beside its base."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import torch
from torch import Tensor

from resip_training.algorithms.settings import OnlineConfig
from resip_training.models.base_policy import BasePolicy
from resip_training.rollout.episodes import BaseAgent, Outcome, StateAgent, run_episodes
from resip_training.runs import prefixed, with_prefix
from resip_training.sim.env import AssemblyEnv

#: Validation, by which the best checkpoint is chosen, has these seeds; what is reported is measured on others.
FIRST_VALIDATION_SEED: Final = 40_000


class OnlineAlgorithm(Protocol):
    """Learns in worlds."""

    def iterate(self, progress: float) -> dict[str, float]:
        """Act for some control steps, then update; what is logged."""
        ...

    @property
    def steps_per_iteration(self) -> int:
        """Control steps, of all worlds together, that an iteration takes."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """What acting needs beside the base, by name."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name."""
        ...

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Invert `tensors`."""


class LearningWorlds(Protocol):
    """Worlds that are learned in, and go on where they were."""

    @property
    def simulation_s(self) -> float:
        """Wall time spent in them so far."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Invert `state`."""


class OnlineTrainer:
    """A run of such an algorithm; see `runs.Trainer`.

    Args:
      algorithm: what learns.
      env: where it learns.
      base: the policy that it began with.
      make_agent: what acts best by now, in that many worlds.
      validation_env: worlds of the task for validation.
      config: what the algorithm and this have in common.
    """

    unit = "control steps"
    samples_per_step = 1

    def __init__(
        self,
        algorithm: OnlineAlgorithm,
        env: LearningWorlds,
        base: BasePolicy,
        make_agent: Callable[[int], StateAgent],
        validation_env: AssemblyEnv,
        config: OnlineConfig,
    ) -> None:
        self.step, self.validations = 0, config.validations
        self._algorithm, self._env, self._validation_env = algorithm, env, validation_env
        self._base, self._make_agent = base, make_agent
        self._seeds = range(FIRST_VALIDATION_SEED, FIRST_VALIDATION_SEED + config.validation_episodes)
        self._base_successes = self._best = -1  # not measured yet

    def train_step(self, progress: float) -> dict[str, float]:
        """One iteration of the algorithm; ``simulation_share`` is the worlds' part of its wall time."""
        began_s, simulated_s = time.perf_counter(), self._env.simulation_s
        figures = self._algorithm.iterate(progress)
        spent_s = time.perf_counter() - began_s
        self.step += self._algorithm.steps_per_iteration
        return {**figures, "simulation_share": (self._env.simulation_s - simulated_s) / spent_s}

    def validate(self) -> dict[str, float]:
        """The base alone and what is learned, on the same seeds.

        ``improved`` is 1 where that did better than at any validation before, and not worse than its base.
        """
        worlds = self._validation_env.num_envs
        if self._base_successes < 0:
            self._base_successes = self._successes(BaseAgent(self._base, worlds))
        successes = self._successes(self._make_agent(worlds))
        improved = successes > self._best and successes >= self._base_successes
        self._best = successes if improved else self._best
        n = len(self._seeds)
        return {"success": successes / n, "success/base": self._base_successes / n, "improved": float(improved)}

    def weights(self) -> dict[str, Tensor]:
        """Of the base and of what is learned."""
        return prefixed("base.", self._base.state_dict()) | self._algorithm.weights()

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name."""
        measured = {"validated": torch.tensor([self._base_successes, self._best])}
        return self.weights() | self._algorithm.tensors() | prefixed("env.", self._env.state()) | measured

    def load_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from `tensors` of the same configuration, saved after ``step`` control steps."""
        self._algorithm.load_tensors(tensors)
        self._env.load_state(with_prefix(tensors, "env."))
        self._base_successes, self._best = tensors["validated"].tolist()
        self.step = step

    def _successes(self, agent: StateAgent) -> int:
        outcomes: list[Outcome] = run_episodes(self._validation_env, agent, self._seeds)
        return sum(outcome.success for outcome in outcomes)
