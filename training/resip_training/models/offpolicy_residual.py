"""The residual of off-policy learning: a bounded deterministic actor, and the critics that may overrule it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resip_training.models.critics import CriticEnsemble
from resip_training.models.whitening import Whitening


class BoundedResidual(nn.Module):
    """Map whitened observations to residuals in [-1, 1]: an MLP with LayerNorm, and a tanh.

    The last layer starts at zero, so base + alpha * residual is the base, bit for bit, until the first update.

    Args:
      observation_dim: length of the observation, the base action included.
      action_dim: length of the residual.
      width: hidden units.
    """

    def __init__(self, observation_dim: int, action_dim: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            *(nn.Linear(observation_dim, width), nn.LayerNorm(width), nn.ReLU()),
            *(nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU()),
        )
        self.last = nn.Linear(width, action_dim)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, whitened: Tensor) -> Tensor:
        """Residuals ``(B, action_dim)`` for ``(B, observation_dim)``."""
        return self.last(self.hidden(whitened)).tanh()


class OffPolicyResidual(nn.Module):
    """Everything that acts: whitening, actor, and critics.

    The critics see the whitened observation, which tells the base's action, and the residual in units of alpha,
    which tells the executed one. Shown as base + alpha * residual instead, the difference between two corrections
    is a tenth of what the other inputs vary by.

    Args:
      observation_dim: length of the observation, the base action included.
      action_dim: length of the residual.
      width: hidden units of actor and critics.
      critics: members of the ensemble.
      max_q: act with the base alone wherever the critics value that as high.
    """

    def __init__(self, observation_dim: int, action_dim: int, width: int, critics: int, max_q: bool) -> None:
        super().__init__()
        self.whitening = Whitening(observation_dim)
        self.actor = BoundedResidual(observation_dim, action_dim, width)
        self.critics = CriticEnsemble(observation_dim + action_dim, critics, width)
        self.max_q = max_q

    def forward(self, observation: Tensor) -> Tensor:
        """Residuals ``(B, action_dim)``, before alpha, for observations ``(B, observation_dim)``."""
        whitened = self.whitening(observation)
        return self.chosen(whitened, self.actor(whitened))

    def chosen(self, whitened: Tensor, residual: Tensor) -> Tensor:
        """``residual``, or with ``max_q`` zero wherever the critics' mean values the base alone as high."""
        if not self.max_q:
            return residual
        options = torch.cat([residual, torch.zeros_like(residual)])
        corrected, base = self.critics(torch.cat([whitened.repeat(2, 1), options], dim=-1)).mean(dim=0).chunk(2)
        return residual * (corrected > base).unsqueeze(-1)
