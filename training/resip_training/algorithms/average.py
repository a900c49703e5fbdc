"""Averages of networks that learn: what acts, or what is learned towards, is steadier than what learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, rate: float) -> None:
    """Move the parameters of ``average`` a share of the way to those of ``network``, and take its buffers as they are.

    Args:
      average: what follows.
      network: a module of the same shape; statistics of its batch norms are averages already.
      rate: 1 for all the way.
    """
    averaged: list[Tensor] = list(average.parameters())
    current: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(averaged, current, rate)  # pyright: ignore[reportPrivateImportUsage]
    for own, wanted in zip(average.buffers(), network.buffers(), strict=True):
        own.copy_(wanted)
