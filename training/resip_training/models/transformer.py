"""The denoiser of the paper's real-world policies: a causal transformer along the action chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from resip.errors import ResipError
from torch import Tensor, nn

from resip_training.models.denoiser import DiffusionTimeEmbedding

_INITIAL_DEVIATION: Final = 0.02
_WIDENING: Final = 4  # of the layers between attentions


@dataclass(frozen=True)
class TransformerConfig:
    """Architecture of the transformer; the defaults are the paper's Table 10.

    Attributes:
      layers: of the decoder.
      heads: of its attentions.
      width: of a token; an even multiple of ``heads``.
      attention_dropout: in the layers, in training.
      embedding_dropout: of the tokens, in training.
    """

    layers: int = 8
    heads: int = 4
    width: int = 256
    attention_dropout: float = 0.3
    embedding_dropout: float = 0.0


class Transformer(nn.Module):
    """Predict from a noisy chunk, its diffusion step and the observation's features.

    Every action is a token. It attends to itself and the actions before it, and to two tokens of what is known: the
    diffusion step and the observation. (With several observations, an action would not see those after it; there is
    one, and it comes first.)

    Args:
      horizon: actions in a chunk.
      action_dim: numbers of an action.
      feature_dim: length of the observation's features.
      config: architecture.

    Raises:
      ResipError: the width is no even multiple of the heads.
    """

    causal: Tensor

    def __init__(self, horizon: int, action_dim: int, feature_dim: int, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        if width % 2 or width % config.heads:
            raise ResipError(f"a transformer's width of {width} is no even multiple of its {config.heads} heads")
        self.action = nn.Linear(action_dim, width)
        self.action_places = nn.Parameter(torch.zeros(1, horizon, width))
        self.observation = nn.Linear(feature_dim, width)
        self.known_places = nn.Parameter(torch.zeros(1, 2, width))
        self.time = DiffusionTimeEmbedding(width)
        self.known = nn.Sequential(nn.Linear(width, _WIDENING * width), nn.Mish(), nn.Linear(_WIDENING * width, width))
        self.dropout = nn.Dropout(config.embedding_dropout)
        layer = nn.TransformerDecoderLayer(
            width,
            config.heads,
            _WIDENING * width,
            config.attention_dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.decoder = nn.TransformerDecoder(layer, config.layers, norm=nn.LayerNorm(width))
        self.output = nn.Linear(width, action_dim)
        later = torch.ones(horizon, horizon, dtype=torch.bool).triu(diagonal=1)
        self.register_buffer("causal", later, persistent=False)
        self.apply(_initialize)
        for places in (self.action_places, self.known_places):
            nn.init.normal_(places, std=_INITIAL_DEVIATION)

    def forward(self, noisy: Tensor, step: Tensor, features: Tensor) -> Tensor:
        """Predict ``(B, T, A)`` from noisy chunks ``(B, T, A)``, steps ``(B,)`` and features ``(B, C)``."""
        known = torch.stack([self.time(step), self.observation(features)], dim=1)
        memory = self.known(self.dropout(known + self.known_places))
        actions = self.dropout(self.action(noisy) + self.action_places)
        return self.output(self.decoder(actions, memory, tgt_mask=self.causal, tgt_is_causal=True))


def _initialize(module: nn.Module) -> None:
    """Small normal weights and no bias, as GPT-2 begins; the reference does too."""
    if isinstance(module, nn.MultiheadAttention):
        nn.init.normal_(module.in_proj_weight, std=_INITIAL_DEVIATION)
        nn.init.zeros_(module.in_proj_bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=_INITIAL_DEVIATION)
        nn.init.zeros_(module.bias)
