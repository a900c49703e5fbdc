"""A Q function of chunks, and the policy that chooses by it among a diffusion policy's samples (paper 4.1, Table 8)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from resip import spaces
from torch import Tensor, nn

from resip_training.models.base_policy import BasePolicy
from resip_training.models.poses import Poses
from resip_training.models.residual import mlp


class ChunkCritic(nn.Module):
    """Value of executing a chunk (Tables 6 and 8): two hidden layers, linear end with bias 0.25 at first.

    The end is linear, as in the paper; the sigmoid of the reference's code could not say that two pairs are worth 2.
    Its weights are zero at first: no chunk is preferred before something is learned.

    Args:
      policy: the base, which also says what is shown of an observation.
      width: of both hidden layers.
      poses: as it is told them.
    """

    def __init__(self, policy: BasePolicy, width: int, poses: Poses) -> None:
        super().__init__()
        self._policy = (policy,)  # in a tuple: its weights are not the critic's
        self._poses: Poses = poses
        inputs = policy.observe.dim(poses) + policy.action_horizon * spaces.ACTION_DIM
        self.value = mlp([inputs, width, width, 1], last_gain=0.0, last_bias=0.25)

    def forward(self, observation: Tensor, chunk: Tensor) -> Tensor:
        """Values ``(B,)`` of observations ``(B, D)`` and chunks ``(B, T_a, 10)``, physical units."""
        policy = self._policy[0]
        actions = policy.action_normalizer.normalize(chunk).flatten(1)
        return self.value(torch.cat([policy.observe(observation, self._poses), actions], dim=-1)).squeeze(-1)


class BestOfSamples:
    """The chunk of highest value among several samples of a base policy; see `rollout.chunks.ChunkPolicy`.

    One sample is the base's own, from the noise that it would have; it is executed where no other is better. The
    others' noise is that noise in other orders and with other signs, which is standard normal again: an episode
    follows from its seed, as with the base alone.

    Args:
      policy: the base.
      critic: values its chunks.
      samples: to choose from.
    """

    def __init__(self, policy: BasePolicy, critic: ChunkCritic, samples: int) -> None:
        self.action_horizon, self.noise_shape, self.device = policy.action_horizon, policy.noise_shape, policy.device
        self._policy, self._critic = policy, critic
        generator, size = torch.Generator().manual_seed(0), policy.noise_shape[0] * policy.noise_shape[1]
        orders = [torch.randperm(size, generator=generator) for _ in range(samples - 1)]
        signs = 2 * torch.randint(2, (samples - 1, size), generator=generator) - 1
        self._orders = torch.stack([torch.arange(size), *orders])[1:].to(self.device)
        self._signs = signs.to(self.device)

    @torch.no_grad()
    def sample(self, observation: Tensor, noise: Tensor) -> Tensor:
        """The best chunks ``(B, T_p, 10)`` for observations ``(B, D)``."""
        others = (noise.flatten(1)[:, self._orders] * self._signs).unflatten(-1, self.noise_shape)
        chunks = torch.cat(
            [
                self._policy.sample(observation, noise).unsqueeze(1),  # alone: to the bit what the base does
                self._of_each(self._policy.sample, observation, others),
            ],
            dim=1,
        )
        values = self._of_each(self._critic, observation, chunks[:, :, : self.action_horizon])
        best = values.argmax(dim=1)
        return torch.take_along_dim(chunks, best[:, None, None, None], dim=1).squeeze(1)

    @staticmethod
    def _of_each(function: Callable[[Tensor, Tensor], Tensor], observation: Tensor, per_sample: Tensor) -> Tensor:
        """``function`` of observations ``(B, D)`` and each of k things ``(B, k, ...)``: ``(B, k, ...)``."""
        k = per_sample.shape[1]
        return function(observation.repeat_interleave(k, dim=0), per_sample.flatten(0, 1)).unflatten(0, (-1, k))
