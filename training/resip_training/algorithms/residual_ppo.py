"""A residual on a frozen base, trained with PPO on a sparse reward (paper 3.2, Tables 6 and 9).

Where this differs from the paper's code, `ResidualPPOConfig` says so and why. Plans that outlive their episode are
not repeated either (see `ChunkedBase`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal

from resip_training import distributed
from resip_training.algorithms import ppo
from resip_training.algorithms.settings import ResidualPPOConfig
from resip_training.models.residual import Critic, GaussianResidual
from resip_training.rollout.residual_env import ResidualEnv


class ActorCritic(ppo.ActorCritic[GaussianResidual]):
    """The residual and its critic."""

    def __init__(self, observation_dim: int, action_dim: int, config: ResidualPPOConfig) -> None:
        super().__init__(
            GaussianResidual(
                observation_dim,
                config.width,
                config.log_std,
                config.learn_std,
                config.sees_base_action,
                action_dim,
                config.whiten,
            ),
            Critic(observation_dim, config.width, config.whiten),
        )

    def distribution(self, observation: Tensor) -> Normal:
        """Of corrections ``(B, 10)``, before alpha."""
        return self.actor.distribution(observation)

    def value(self, observation: Tensor) -> Tensor:
        """Values ``(B,)``."""
        return self.critic(observation)

    def fit(self, observation: Tensor) -> None:
        """Take the whitening of both from observations ``(N, D)``."""
        self.actor.fit(observation)
        self.critic.fit(observation)


class ResidualPPO(ppo.PPO):
    """The algorithm in a `ResidualEnv`.

    Args:
      config: settings.
      env: where it acts.
    """

    prefix = "residual."

    def __init__(self, config: ResidualPPOConfig, env: ResidualEnv) -> None:
        torch.manual_seed(config.seed)
        model = ActorCritic(env.observation_dim, env.action_dim, config).to(env.observation.device)
        super().__init__(config, env, model)
        self._networks, self._whiten = model, config.whiten

    def act(self, observation: Tensor) -> Tensor:
        """The residual's mean."""
        with torch.no_grad():
            return self._networks.actor(observation)

    def _update(self, rollout: ppo.Rollout, progress: float) -> dict[str, float]:
        if self._whiten and self.iteration == 0:  # when the residual is still zero, whatever it is shown
            self._networks.fit(distributed.gathered(rollout.observation, dim=1).flatten(0, 1))
        return super()._update(rollout, progress)

    def _figures(self, observation: Tensor) -> dict[str, float]:
        return {"residual_mean": distributed.mean(self.act(observation).abs())}
