"""The paper's denoiser: a 1-D U-Net along the action chunk, conditioned by FiLM."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from resip.errors import ResipError
from torch import Tensor, nn

from resip_training.models.denoiser import DiffusionTimeEmbedding


@dataclass(frozen=True)
class UnetConfig:
    """Architecture of the U-Net (paper Table 4); the defaults are sized for a few cores.

    Attributes:
      down_dims: channels of each level; each but the last halves the time axis.
      step_embedding_dim: of the diffusion step.
      kernel_size: of the convolutions, odd.
      groups: of the group norms; each of ``down_dims`` is a multiple of it.
    """

    down_dims: tuple[int, ...] = (64, 128, 256)
    step_embedding_dim: int = 64
    kernel_size: int = 5
    groups: int = 8


#: Table 4.
PAPER_UNET: Final = UnetConfig(down_dims=(256, 512, 1024), step_embedding_dim=256, kernel_size=5, groups=8)


class ConvBlock(nn.Sequential):
    """Convolution, group norm, Mish; keeps the length."""

    def __init__(self, channels_in: int, channels_out: int, config: UnetConfig) -> None:
        super().__init__(
            nn.Conv1d(channels_in, channels_out, config.kernel_size, padding=config.kernel_size // 2),
            nn.GroupNorm(config.groups, channels_out),
            nn.Mish(),
        )


class FilmResidualBlock(nn.Module):
    """Two convolutions around a shortcut; between them the condition scales and shifts every channel."""

    def __init__(self, channels_in: int, channels_out: int, condition_dim: int, config: UnetConfig) -> None:
        super().__init__()
        self.first = ConvBlock(channels_in, channels_out, config)
        self.second = ConvBlock(channels_out, channels_out, config)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition_dim, 2 * channels_out))
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv1d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``(B, channels_in, L)`` to ``(B, channels_out, L)``; the condition is ``(B, condition_dim)``."""
        scale, shift = self.film(condition).unsqueeze(-1).chunk(2, dim=1)
        return self.second(scale * self.first(x) + shift) + self.shortcut(x)


class Level(nn.Module):
    """Two residual blocks, then a change of the length."""

    def __init__(
        self, channels_in: int, channels_out: int, condition_dim: int, resample: nn.Module, config: UnetConfig
    ) -> None:
        super().__init__()
        self.first = FilmResidualBlock(channels_in, channels_out, condition_dim, config)
        self.second = FilmResidualBlock(channels_out, channels_out, condition_dim, config)
        self.resample = resample

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """What goes on at the new length, and what a skip connection takes along at the old one."""
        hidden = self.second(self.first(x, condition), condition)
        return self.resample(hidden), hidden


class Unet(nn.Module):
    """Predict from a noisy chunk, its diffusion step and the observation's features.

    As in the reference implementation, the last level keeps its length and has no way back of its own: its
    output meets two residual blocks, then rises through the levels above it.

    Args:
      horizon: actions in a chunk; a multiple of 2 for every halving.
      action_dim: numbers of an action.
      feature_dim: length of the observation's features.
      config: architecture.

    Raises:
      ResipError: channels, kernel or horizon that do not fit together.
    """

    def __init__(self, horizon: int, action_dim: int, feature_dim: int, config: UnetConfig) -> None:
        super().__init__()
        _check(horizon, config)
        dims, step_dim = config.down_dims, config.step_embedding_dim
        condition_dim = step_dim + feature_dim
        self.time = nn.Sequential(
            DiffusionTimeEmbedding(step_dim),
            nn.Linear(step_dim, 4 * step_dim),
            nn.Mish(),
            nn.Linear(4 * step_dim, step_dim),
        )
        self.down = nn.ModuleList()
        for i, (before, after) in enumerate(pairwise((action_dim, *dims))):
            last = i == len(dims) - 1
            halve = nn.Identity() if last else nn.Conv1d(after, after, 3, stride=2, padding=1)
            self.down.append(Level(before, after, condition_dim, halve, config))
        self.middle = nn.ModuleList(
            [FilmResidualBlock(dims[-1], dims[-1], condition_dim, config) for _ in range(2)],
        )
        self.up = nn.ModuleList()
        for above, below in reversed(list(pairwise(dims))):
            double = nn.ConvTranspose1d(above, above, 4, stride=2, padding=1)
            self.up.append(Level(2 * below, above, condition_dim, double, config))
        self.output = nn.Sequential(ConvBlock(dims[0], dims[0], config), nn.Conv1d(dims[0], action_dim, 1))

    def forward(self, noisy: Tensor, step: Tensor, features: Tensor) -> Tensor:
        """Predict ``(B, T, A)`` from noisy chunks ``(B, T, A)``, steps ``(B,)`` and features ``(B, C)``."""
        condition = torch.cat([self.time(step), features], dim=-1)
        x, skips = noisy.transpose(1, 2), []
        for level in self.down:
            x, skip = level(x, condition)
            skips.append(skip)
        for block in self.middle:
            x = block(x, condition)
        for level in self.up:
            x, _ = level(torch.cat([x, skips.pop()], dim=1), condition)
        return self.output(x).transpose(1, 2)


def _check(horizon: int, config: UnetConfig) -> None:
    if not config.down_dims:
        raise ResipError("a U-Net needs at least one level in its down_dims")
    multiple = 2 ** (len(config.down_dims) - 1)
    if horizon % multiple:
        raise ResipError(
            f"a prediction horizon of {horizon} does not fit a U-Net of {len(config.down_dims)} levels: "
            f"choose a multiple of {multiple}"
        )
    if config.kernel_size % 2 == 0:
        raise ResipError(f"a U-Net's kernel_size of {config.kernel_size} is even: choose an odd one")
    if any(dim % config.groups for dim in config.down_dims):
        raise ResipError(f"a U-Net's down_dims {config.down_dims} are not multiples of its {config.groups} groups")
