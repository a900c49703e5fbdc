"""Per-dimension normalisation to [-1, 1], stored in the weights."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

HALF_RANGE_FLOOR: Final = 0.01  # 1 cm for positions: a dimension that spans less is not blown up to [-1, 1]


class Normalizer(nn.Module):
    """Map each dimension's range in the data to [-1, 1]; a constant dimension maps to 0.

    ``normalize(x) = (x - centre) / max(half_range, floor)``. The limits are buffers, so they travel with
    the weights and into the exported module.

    Args:
      dim: number of dimensions; the limits are those of the identity until `fit` is called.
    """

    centre: Tensor
    half_range: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("half_range", torch.ones(dim))

    def fit(self, values: Tensor, floor: float = HALF_RANGE_FLOOR) -> Normalizer:
        """Take the limits from ``values`` ``(n, dim)``."""
        low, high = values.amin(dim=0), values.amax(dim=0)
        self.centre.copy_((low + high) / 2)
        self.half_range.copy_(((high - low) / 2).clamp(min=floor))
        return self

    def normalize(self, values: Tensor) -> Tensor:
        """Map ``(..., dim)`` in units of the data to about [-1, 1]."""
        return (values - self.centre) / self.half_range

    def denormalize(self, values: Tensor) -> Tensor:
        """Invert `normalize`."""
        return values * self.half_range + self.centre
