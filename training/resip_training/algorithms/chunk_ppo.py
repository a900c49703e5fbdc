"""An MLP's chunks fine-tuned end to end with PPO: the first baseline of the paper (4.1, Tables 6 and 7).

The policy is kept close to the cloned one by their KL divergence, without which it collapses (paper 4.1). Not
repeated from the reference's code: dropout while updating, which makes the policy that is improved another than
the one that acted; evaluation with exploration (here the mean acts); the end of an episode at its first reward; a
weight decay of 0.01, which draws a cloned policy towards zero.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from resip_training.algorithms import ppo
from resip_training.algorithms.settings import ChunkPPOConfig
from resip_training.models.base_policy import BasePolicy
from resip_training.models.gaussian_chunk import GaussianChunk
from resip_training.models.poses import Poses
from resip_training.models.residual import Critic
from resip_training.rollout.chunk_env import ChunkEnv
from resip_training.rollout.episodes import BaseAgent, StateAgent


class ActorCritic(ppo.ActorCritic[GaussianChunk]):
    """The policy that is fine-tuned, and a critic of observations in physical units, shown as `Poses` says."""

    def __init__(self, base: BasePolicy, config: ChunkPPOConfig) -> None:
        super().__init__(
            GaussianChunk(base, config.log_std, config.learn_std),
            Critic(base.observe.dim(config.poses), config.width),
        )
        self._poses: Poses = config.poses

    def distribution(self, observation: Tensor) -> Normal:
        """Of chunks ``(B, T_a, 10)``, physical units."""
        return self.actor.distribution(observation)

    def value(self, observation: Tensor) -> Tensor:
        """Values ``(B,)``."""
        return self.critic(self.actor.policy.observe(observation, self._poses))


class ChunkPPO(ppo.PPO):
    """The algorithm in a `ChunkEnv`.

    Args:
      config: settings.
      env: where it acts.
      base: the cloned policy, on the device of the worlds; its chunks do not depend on noise.
    """

    prefix = "tuned."

    def __init__(self, config: ChunkPPOConfig, env: ChunkEnv, base: BasePolicy) -> None:
        torch.manual_seed(config.seed)
        model = ActorCritic(base, config).to(base.device)
        super().__init__(config, env, model)
        self._actor, self.policy = model.actor, model.actor.policy
        self._kl_weight, self._cosine, self._chunk_steps = config.kl_weight, config.cosine, env.action_shape[0]
        self._cloned = GaussianChunk(base, config.log_std, learn_std=False).to(base.device).requires_grad_(False)

    @property
    def steps_per_iteration(self) -> int:
        """Control steps of a rollout, of all worlds together."""
        return super().steps_per_iteration * self._chunk_steps

    def agent(self, num_envs: int) -> StateAgent:
        """Acts by the mean in ``num_envs`` worlds."""
        return BaseAgent(self.policy, num_envs)

    def _penalty(self, observation: Tensor, new: Normal) -> Tensor:
        return self._kl_weight * self._divergence_from_cloned(observation, new)

    def _rate_left(self, progress: float) -> float:
        return super()._rate_left(progress) if self._cosine else 1.0

    def _divergence_from_cloned(self, observation: Tensor, new: Normal) -> Tensor:
        """Of each whole chunk ``(B,)``, of the new policy from the cloned one."""
        return kl_divergence(new, self._cloned.distribution(observation)).flatten(1).sum(-1)

    @torch.no_grad()
    def _figures(self, observation: Tensor) -> dict[str, float]:
        new = self.model.distribution(observation)
        return {
            "kl_from_cloned": float(self._divergence_from_cloned(observation, new).mean()),
            "log_std": float(self._actor.log_std.mean()),
        }
