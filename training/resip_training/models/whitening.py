"""Inputs of unit scale in every direction of the data, so that a network sees the millimetres from the start."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

STD_FLOOR: Final = 0.02  # of inputs of order 1: a direction that varies less is not blown up to unit scale
LARGEST: Final = 5.0  # in standard deviations: beyond, one direction would drown all others


class Whitening(nn.Module):
    """Rotate inputs to the principal directions of the data and scale each to unit variance.

    Normalising dimension by dimension leaves what decides an insertion at a hundredth of the range: the hand's,
    the part's and the action's positions move together, and only their small differences matter. Those are
    directions of little variance, which whitening brings up to the scale of the others.

    Args:
      dim: length of an input; the map is the identity (but for the limit) until `fit` is called.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("directions", torch.eye(dim))

    def fit(self, values: Tensor) -> Whitening:
        """Take mean and directions from ``values`` ``(n, dim)``."""
        exact = values.double()
        variances, directions = torch.linalg.eigh(torch.cov(exact.T))
        self.mean.copy_(exact.mean(dim=0))
        self.directions.copy_(directions / variances.clamp(min=STD_FLOOR**2).sqrt())
        return self

    def forward(self, values: Tensor) -> Tensor:
        """Map ``(B, dim)`` to directions of unit variance, limited to ``LARGEST`` standard deviations."""
        return ((values - self.mean) @ self.directions).clamp(-LARGEST, LARGEST)
