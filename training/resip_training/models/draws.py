"""Random draws while a network is trained: those of one process, whichever shares its batch (see `distributed`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resip_training import distributed


def randn_like(rows: Tensor) -> Tensor:
    """Standard normal numbers for this process's rows ``(n, ...)`` of a batch."""
    return distributed.own_rows(torch.randn(_whole(rows), dtype=rows.dtype, device=rows.device))


def randint(high: int, rows: Tensor) -> Tensor:
    """An integer below ``high`` for each of this process's rows ``(n, ...)`` of a batch."""
    return distributed.own_rows(torch.randint(high, _whole(rows)[:1], device=rows.device))


class Dropout(nn.Module):
    """Leave out numbers of this process's rows with a probability, in training.

    Args:
      probability: of each number.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self._kept = 1 - probability

    def forward(self, rows: Tensor) -> Tensor:
        """Keep the shape ``(n, ...)``, and the mean."""
        if not self.training or self._kept == 1:
            return rows
        scale = torch.empty(_whole(rows), dtype=rows.dtype, device=rows.device).bernoulli_(self._kept).div_(self._kept)
        return rows * distributed.own_rows(scale)


def _whole(rows: Tensor) -> tuple[int, ...]:
    """The shape of the whole batch."""
    return distributed.count() * len(rows), *rows.shape[1:]
