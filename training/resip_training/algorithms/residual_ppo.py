"""A residual on a frozen base, trained with PPO on a sparse reward (paper 3.2, Tables 6 and 9).

Where this differs from the paper's code, `ResidualPPOConfig` says so and why. Plans that outlive their episode are
not repeated either (see `ChunkedBase`).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch.distributions import Normal

from resip_training import distributed
from resip_training.algorithms import ppo
from resip_training.algorithms.average import follow
from resip_training.algorithms.settings import ResidualPPOConfig
from resip_training.models.residual import Critic, GaussianResidual
from resip_training.rollout.residual_env import ResidualEnv
from resip_training.runs import prefixed, with_prefix


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
        self._networks, self._settings = model, config
        #: What acts when it does not explore.
        self.average = copy.deepcopy(model.actor).requires_grad_(False)

    def iterate(self, progress: float) -> dict[str, float]:
        """Act and update; then the average follows what learns."""
        figures = super().iterate(progress)
        follow(self.average, self._networks.actor, self._settings.average_rate)
        return figures

    def act(self, observation: Tensor) -> Tensor:
        """The averaged residual's mean."""
        with torch.no_grad():
            return self.average(observation)

    def weights(self) -> dict[str, Tensor]:
        """Of the averaged actor and of the critic."""
        return {**super().weights(), **prefixed(f"{self.prefix}actor.", self.average.state_dict())}

    def tensors(self) -> dict[str, Tensor]:
        """Everything of the algorithm that a resumed run needs, by name."""
        return {**super().tensors(), **prefixed("learner.", self._networks.actor.state_dict())}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Invert `tensors`."""
        super().load_tensors(tensors)
        self.average.load_state_dict(self._networks.actor.state_dict())
        self._networks.actor.load_state_dict(with_prefix(tensors, "learner."))

    def _update(self, rollout: ppo.Rollout, progress: float) -> dict[str, float]:
        if self._settings.whiten and self.iteration == 0:  # when the residual is still zero, whatever it is shown
            self._networks.fit(distributed.gathered(rollout.observation, dim=1).flatten(0, 1))
        return super()._update(rollout, progress)

    def _figures(self, observation: Tensor) -> dict[str, float]:
        with torch.no_grad():
            return {"residual_mean": distributed.mean(self._networks.actor(observation).abs())}
