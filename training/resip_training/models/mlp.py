"""MLP policies of the paper: a residual MLP from the observation to a single action (S) or a chunk (C)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from resip import spaces
from torch import Tensor, nn

from resip_training.models.base_policy import BaseConfig, BasePolicy
from resip_training.models.draws import Dropout
from resip_training.models.features import Inputs


@dataclass(frozen=True)
class MlpConfig(BaseConfig):
    """Architecture (paper Table 5); the defaults are sized for two cores.

    Attributes:
      width: of the residual blocks.
      blocks: residual blocks, of two layers each.
      dropout: in the blocks, in behaviour cloning only (the reference's 0.1).
    """

    prediction_horizon: int = 8
    width: int = 512
    blocks: int = 3
    dropout: float = 0.1


class ResidualBlock(nn.Module):
    """``relu(x + linear(dropout(relu(linear(x)))))``."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), Dropout(dropout), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape ``(B, width)``."""
        return torch.relu(x + self.layers(x))


class MlpBase(BasePolicy):
    """Predict the chunk at once, trained by its squared error.

    Args:
      config: architecture.
      inputs: what there is to see.
    """

    def __init__(self, config: MlpConfig, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        self.config = config
        self.network = nn.Sequential(
            nn.Linear(self.feature_dim, config.width),
            *(ResidualBlock(config.width, config.dropout) for _ in range(config.blocks)),
            nn.Linear(config.width, config.prediction_horizon * spaces.ACTION_DIM),
        )

    def chunk_loss(self, features: Tensor, chunk: Tensor) -> Tensor:
        """Mean squared error of the chunk."""
        return torch.nn.functional.mse_loss(self.mean_chunk(features), chunk)

    def predict(self, features: Tensor, noise: Tensor) -> Tensor:
        """The chunk; there is no noise in it."""
        return self.mean_chunk(features)

    def mean_chunk(self, features: Tensor) -> Tensor:
        """Normalised chunk ``(B, T_p, 10)`` from normalised features ``(B, feature_dim)``."""
        return self.network(features).unflatten(-1, self.noise_shape)
