"""What the residual algorithms have in common."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from resip_training.algorithms.online_trainer import OnlineAlgorithm, OnlineTrainer
from resip_training.algorithms.settings import ResidualConfig
from resip_training.rollout.residual_env import ResidualEnv
from resip_training.rollout.teacher import ResidualAgent
from resip_training.sim.env import AssemblyEnv


class ResidualAlgorithm(OnlineAlgorithm, Protocol):
    """Learns a residual in a `ResidualEnv`."""

    def act(self, observation: Tensor) -> Tensor:
        """The best residual ``(n, 10)``, before alpha, without exploration."""
        ...


class ResidualTrainer(OnlineTrainer):
    """A run of a residual algorithm.

    Args:
      algorithm: what learns.
      env: where it learns.
      validation_env: worlds of the task for validation.
      config: what the algorithm and this have in common.
    """

    def __init__(
        self, algorithm: ResidualAlgorithm, env: ResidualEnv, validation_env: AssemblyEnv, config: ResidualConfig
    ) -> None:
        policy = env.corrector.policy

        def corrected(num_envs: int) -> ResidualAgent:
            """The base with its residual."""
            return ResidualAgent(policy, algorithm.act, env.correction, num_envs)

        super().__init__(algorithm, env, policy, corrected, validation_env, config)
