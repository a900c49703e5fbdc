"""The denoiser: a residual MLP over a whole action chunk, conditioned by FiLM."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class DiffusionTimeEmbedding(nn.Module):
    """Sinusoidal embedding of the diffusion step."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        exponents = torch.arange(dim // 2) / (dim // 2 - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(10_000.0) * exponents), persistent=False)

    def forward(self, step: Tensor) -> Tensor:
        """Embed steps ``(B,)`` as ``(B, dim)``."""
        angles = step.to(torch.float32).unsqueeze(-1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FilmBlock(nn.Module):
    """Residual block whose hidden units the condition scales and shifts."""

    def __init__(self, width: int, condition_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.film = nn.Linear(condition_dim, 2 * width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """Keep the shape ``(B, width)``; ``film`` is what the layer of that name makes of the condition."""
        scale, shift = film.chunk(2, dim=-1)
        hidden = self.norm(x) * (1 + scale) + shift
        return x + self.second(torch.nn.functional.silu(self.first(hidden)))


class Denoiser(nn.Module):
    """Predict from a noisy chunk, its diffusion step and the observation's features.

    A chunk of 32 actions is short and smooth: one MLP over all of it costs a fraction of a 1-D U-Net on a
    CPU, so that each encoded image can serve several noise draws.

    Args:
      horizon: actions in a chunk.
      action_dim: numbers of an action.
      condition_dim: length of the observation's features.
      width: hidden units.
      blocks: residual blocks.
    """

    def __init__(self, horizon: int, action_dim: int, condition_dim: int, width: int, blocks: int) -> None:
        super().__init__()
        self.horizon, self.action_dim = horizon, action_dim
        self.time = nn.Sequential(DiffusionTimeEmbedding(64), nn.Linear(64, 128), nn.SiLU())
        self.condition = nn.Sequential(nn.Linear(condition_dim + 128, width), nn.SiLU())
        self.input = nn.Linear(horizon * action_dim, width)
        self.blocks = nn.ModuleList([FilmBlock(width, width) for _ in range(blocks)])
        self.output = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, horizon * action_dim))

    def forward(self, noisy: Tensor, step: Tensor, features: Tensor) -> Tensor:
        """Predict ``(B, T, A)`` from noisy chunks ``(B, T, A)``, steps ``(B,)`` and features ``(B, C)``."""
        return self.denoise(noisy, self.films(step, features))

    def films(self, step: Tensor, features: Tensor) -> list[Tensor]:
        """All that steps ``(B,)`` and features ``(B, C)`` decide: ``(B, 2 * width)`` for each block.

        No chunk is needed for it: at run time it is computed for all steps of the process at once.
        """
        condition = self.condition(torch.cat([features, self.time(step)], dim=-1))
        return [block.get_submodule("film")(condition) for block in self.blocks]

    def denoise(self, noisy: Tensor, films: list[Tensor]) -> Tensor:
        """Predict ``(B, T, A)`` from noisy chunks ``(B, T, A)`` and their `films`."""
        hidden = self.input(noisy.flatten(1))
        for block, film in zip(self.blocks, films, strict=True):
            hidden = block(hidden, film)
        return self.output(hidden).reshape(-1, self.horizon, self.action_dim)
