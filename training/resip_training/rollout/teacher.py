"""A base with its residual as one policy, and the measurement that pairs it with its base."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from resip_training.models.base_policy import BasePolicy
from resip_training.rollout.chunks import in_blocks
from resip_training.rollout.episodes import BaseAgent, Outcome, run_episodes
from resip_training.rollout.residual_env import Correction, Corrector
from resip_training.sim.env import AssemblyEnv

#: (observation with base action) -> residual before alpha, both with leading world dimension.
Residual = Callable[[Tensor], Tensor]


class ResidualAgent:
    """A frozen base whose actions a residual corrects, in ``num_envs`` worlds."""

    def __init__(self, policy: BasePolicy, residual: Residual, correction: Correction, num_envs: int) -> None:
        self._corrector = Corrector(policy, num_envs, correction)
        self._residual = residual

    @property
    def base_action(self) -> Tensor:
        """What the base wanted ``(n, 10)`` where the agent acted last."""
        return self._corrector.base_action

    def start(self, mask: np.ndarray, seeds: Sequence[int | None]) -> None:
        """Begin episodes in the worlds where ``mask`` holds."""
        self._corrector.start(mask, seeds)

    def act(self, observation: Tensor) -> Tensor:
        """Corrected absolute actions ``(n, 10)``."""
        return self._corrector.corrected(in_blocks(self._residual, self._corrector.observation(observation)))


def evaluate_pair(
    env: AssemblyEnv, policy: BasePolicy, residual: Residual, correction: Correction, seeds: Sequence[int]
) -> tuple[list[Outcome], list[Outcome]]:
    """Episodes of the base alone and of base and residual, on the same seeds and with the same noise."""
    base = run_episodes(env, BaseAgent(policy, env.num_envs), seeds)
    return base, run_episodes(env, ResidualAgent(policy, residual, correction, env.num_envs), seeds)
