"""A Gaussian around the chunk of an MLP that is fine-tuned end to end (paper 4.1, Table 7)."""

from __future__ import annotations

import copy

import torch
from resip import spaces
from torch import Tensor, nn
from torch.distributions import Normal

from resip_training.models.base_policy import BasePolicy


class GaussianChunk(nn.Module):
    """A copy of a policy, to be trained, whose chunk is the mean; one deviation per action dimension.

    The deviation is in units of normalised actions ([-1, 1] over the data), whatever the network's own units are;
    the distribution is over physical units. Dropout stays off: the policy that acted is the one that is improved.

    Args:
      policy: deterministic.
      log_std: of every dimension at first, for all actions of the chunk.
      learn_std: whether it is learned.
    """

    def __init__(self, policy: BasePolicy, log_std: float, learn_std: bool) -> None:
        super().__init__()
        self.policy = copy.deepcopy(policy).requires_grad_(True).eval()
        self.log_std = nn.Parameter(torch.full((spaces.ACTION_DIM,), log_std), requires_grad=learn_std)

    def distribution(self, observation: Tensor) -> Normal:
        """Of the executed actions ``(B, T_a, 10)``, physical units, for observations ``(B, D)``."""
        noise = observation.new_zeros(len(observation), *self.policy.noise_shape)  # which the policy ignores
        mean = self.policy.sample(observation, noise)[:, : self.policy.action_horizon]
        deviation = self.log_std.exp() * self.policy.action_normalizer.half_range
        return Normal(mean, deviation.expand_as(mean), validate_args=False)
