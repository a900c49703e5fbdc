"""Action chunking with transformers (ACT), on states.

Source: Zhao et al. 2023, Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware. The reference
implementation of this paper has no ACT, though its project page says that it was tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from resip import spaces
from resip.errors import ResipError
from torch import Tensor, nn

from resip_training.models.base_policy import BaseConfig, BasePolicy
from resip_training.models.denoiser import DiffusionTimeEmbedding
from resip_training.models.features import Inputs


@dataclass(frozen=True)
class ActConfig(BaseConfig):
    """Architecture and loss; the defaults are sized for two cores.

    Attributes:
      width: of the tokens; an even multiple of ``heads``.
      heads: of the attention.
      feedforward: hidden units between attentions.
      encoder_layers: of each encoder, the style's and the observation's.
      decoder_layers: of the decoder.
      latent_dim: of the style.
      kl_weight: of the style's divergence from a standard normal, beside the L1 error of the chunk.
      dropout: in the transformers, in behaviour cloning only.
    """

    prediction_horizon: int = 16
    width: int = 64
    heads: int = 4
    feedforward: int = 256
    encoder_layers: int = 2
    decoder_layers: int = 1
    latent_dim: int = 32
    kl_weight: float = 10.0
    dropout: float = 0.1


class StyleEncoder(nn.Module):
    """Read from a demonstrated chunk what the observation leaves open; in training only."""

    positions: Tensor

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        self.summary = nn.Parameter(_random_token(config.width))
        self.state = nn.Linear(spaces.STATE_DIM, config.width)
        self.action = nn.Linear(spaces.ACTION_DIM, config.width)
        self.encoder = _encoder(config)
        self.output = nn.Linear(config.width, 2 * config.latent_dim)
        self.register_buffer("positions", _positions(2 + config.prediction_horizon, config.width), persistent=False)

    def forward(self, state: Tensor, chunk: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance ``(B, latent_dim)`` of the style of chunks ``(B, T_p, 10)`` from states ``(B, 16)``."""
        summary = self.summary.expand(len(chunk), 1, -1)
        tokens = torch.cat([summary, self.state(state).unsqueeze(1), self.action(chunk)], dim=1)
        mean, log_variance = self.output(self.encoder(tokens + self.positions)[:, 0]).chunk(2, dim=-1)
        return mean, log_variance


class ChunkDecoder(nn.Module):
    """Predict a chunk from a style and an observation.

    Robot state, each part's pose, and all relative poses are a token each, where ACT has those of its images.
    """

    queries: Tensor

    def __init__(self, config: ActConfig, n_parts: int, relations_dim: int) -> None:
        super().__init__()
        self.sizes = [spaces.STATE_DIM, n_parts * spaces.PART_POSE_DIM, relations_dim]
        self.style = nn.Linear(config.latent_dim, config.width)
        self.state = nn.Linear(spaces.STATE_DIM, config.width)
        self.part = nn.Linear(spaces.PART_POSE_DIM, config.width)
        self.relations = nn.Linear(relations_dim, config.width) if relations_dim else None
        n_tokens = 2 + n_parts + (self.relations is not None)
        self.roles = nn.Parameter(torch.cat([_random_token(config.width) for _ in range(n_tokens)]))
        self.encoder = _encoder(config)
        layer = nn.TransformerDecoderLayer(
            config.width, config.heads, config.feedforward, config.dropout, batch_first=True
        )
        self.decoder = nn.TransformerDecoder(layer, config.decoder_layers)
        self.output = nn.Linear(config.width, spaces.ACTION_DIM)
        self.register_buffer("queries", _positions(config.prediction_horizon, config.width), persistent=False)

    def forward(self, features: Tensor, style: Tensor) -> Tensor:
        """Chunks ``(B, T_p, 10)`` from `BasePolicy`'s features and styles ``(B, latent_dim)``."""
        state, parts, relations = features.split(self.sizes, dim=-1)
        seen = [
            self.style(style).unsqueeze(1),
            self.state(state).unsqueeze(1),
            self.part(parts.unflatten(-1, (-1, spaces.PART_POSE_DIM))),
        ]
        if self.relations is not None:
            seen.append(self.relations(relations).unsqueeze(1))
        memory = self.encoder(torch.cat(seen, dim=1) + self.roles)
        return self.output(self.decoder(self.queries.expand(features.shape[0], -1, -1), memory))


class ActBase(BasePolicy):
    """Predict the chunk at once by a transformer, trained as the decoder of a conditional VAE.

    At run time the style is its prior's mean, zero: the policy is deterministic.

    Args:
      config: architecture and loss.
      inputs: what there is to see.

    Raises:
      ResipError: the width is no even multiple of the heads.
    """

    def __init__(self, config: ActConfig, inputs: Inputs) -> None:
        super().__init__(config, inputs)
        if config.width % 2 or config.width % config.heads:
            raise ResipError(f"ACT's width of {config.width} is no even multiple of its {config.heads} heads")
        self.config = config
        self.style_encoder = StyleEncoder(config)
        n_parts = (len(inputs.columns) - spaces.STATE_DIM) // spaces.PART_POSE_DIM
        self.decoder = ChunkDecoder(config, n_parts, self.observe.relations_dim(config.poses))

    def chunk_loss(self, features: Tensor, chunk: Tensor) -> Tensor:
        """L1 error of the chunk decoded from its own style, and the style's divergence from the prior."""
        mean, log_variance = self.style_encoder(features[:, : spaces.STATE_DIM], chunk)
        style = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        error = torch.nn.functional.l1_loss(self.decoder(features, style), chunk)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=-1).mean()
        return error + self.config.kl_weight * divergence

    def predict(self, features: Tensor, noise: Tensor) -> Tensor:
        """The chunk in the mean style; there is no noise in it."""
        return self.decoder(features, features.new_zeros(features.shape[0], self.config.latent_dim))


def _encoder(config: ActConfig) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(config.width, config.heads, config.feedforward, config.dropout, batch_first=True)
    return nn.TransformerEncoder(layer, config.encoder_layers, enable_nested_tensor=False)


def _positions(length: int, width: int) -> Tensor:
    """Sinusoids that tell the places in a sequence apart: ``(length, width)``."""
    return DiffusionTimeEmbedding(width)(torch.arange(length))


def _random_token(width: int) -> Tensor:
    return torch.randn(1, width) / width**0.5
