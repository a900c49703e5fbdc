"""The residual on a frozen base (paper 3.2, Tables 6 and 9): a Gaussian correction per step, and its critic."""

from __future__ import annotations

import itertools

import torch
from resip import spaces
from torch import Tensor, nn

from resip_training.models.whitening import Whitening


def mlp(sizes: list[int], last_gain: float, last_bias: float | None) -> nn.Sequential:
    """ReLU layers of these sizes: hidden ones Kaiming, the last one orthogonal.

    Args:
      sizes: from the input to the output.
      last_gain: of the last layer's weights; 0 makes the output its bias at first.
      last_bias: of the last layer at first; None leaves it without one.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes[:-1]):
        hidden = nn.Linear(inputs, outputs)
        nn.init.kaiming_normal_(hidden.weight, nonlinearity="relu")
        nn.init.zeros_(hidden.bias)
        layers += [hidden, nn.ReLU()]
    last = nn.Linear(sizes[-2], sizes[-1], bias=last_bias is not None)
    nn.init.orthogonal_(last.weight, last_gain)
    if last_bias is not None:
        nn.init.constant_(last.bias, last_bias)
    return nn.Sequential(*layers, last)


class _Network(nn.Module):
    """Shows a network the first numbers of an observation, whitened or as they are.

    Args:
      inputs: how many.
      whiten: show them whitened, once `fit` was called.
    """

    def __init__(self, inputs: int, whiten: bool) -> None:
        super().__init__()
        self._inputs = inputs
        self.whitening = Whitening(inputs) if whiten else None

    def fit(self, observation: Tensor) -> None:
        """Take the whitening, if there is one, from observations ``(N, D + 10)``."""
        if self.whitening is not None:
            self.whitening.fit(observation[..., : self._inputs])

    def _shown(self, observation: Tensor) -> Tensor:
        seen = observation[..., : self._inputs]
        return seen if self.whitening is None else self.whitening(seen)


class GaussianResidual(_Network):
    """Mean of the correction from state and base action, and a standard deviation per dimension.

    The last layer starts at zero and has no bias: the corrected policy starts as exactly its base.

    Args:
      observation_dim: normalised state and base action.
      width: of both hidden layers.
      log_std: of every dimension at first, before alpha.
      learn_std: whether it is learned.
      sees_base_action: show the network the base action (the paper's way), or the state alone.
      action_dim: numbers of an action.
      whiten: show the network its inputs whitened.
    """

    def __init__(
        self,
        observation_dim: int,
        width: int,
        log_std: float,
        learn_std: bool = False,
        sees_base_action: bool = True,
        action_dim: int = spaces.ACTION_DIM,
        whiten: bool = False,
    ) -> None:
        super().__init__(observation_dim if sees_base_action else observation_dim - action_dim, whiten)
        self.mean = mlp([self._inputs, width, width, action_dim], last_gain=0.0, last_bias=None)
        self.log_std = nn.Parameter(torch.full((action_dim,), log_std), requires_grad=learn_std)

    def forward(self, observation: Tensor) -> Tensor:
        """The correction's mean ``(..., 10)``, before alpha, for observations ``(..., D + 10)``."""
        return self.mean(self._shown(observation))

    def distribution(self, observation: Tensor) -> torch.distributions.Normal:
        """Of corrections ``(..., 10)``."""
        mean = self(observation)
        return torch.distributions.Normal(mean, self.log_std.exp().expand_as(mean), validate_args=False)


class Critic(_Network):
    """Value of an observation (Table 6): two hidden layers, linear end with bias 0.25 at first.

    Args:
      observation_dim: normalised state and base action.
      width: of both hidden layers.
      whiten: show the network its inputs whitened.
    """

    def __init__(self, observation_dim: int, width: int, whiten: bool = False) -> None:
        super().__init__(observation_dim, whiten)
        self.value = mlp([observation_dim, width, width, 1], last_gain=0.25, last_bias=0.25)

    def forward(self, observation: Tensor) -> Tensor:
        """Values ``(...)`` of observations ``(..., D + 10)``."""
        return self.value(self._shown(observation)).squeeze(-1)
