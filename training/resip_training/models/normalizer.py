"""Normalisation to [-1, 1], stored in the weights: of single vectors, and of action chunks."""

from __future__ import annotations

from typing import Final

import torch
from resip import spaces
from torch import Tensor, nn

HALF_RANGE_FLOOR: Final = 0.01  # 1 cm for positions: a dimension that spans less is not blown up to [-1, 1]
GRIPPER_HALF_RANGE: Final = 2.0  # its +-1 becomes +-0.5: when it closes is uncertain by nature and would fill the loss


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

    def fit(self, values: Tensor, floor: float = HALF_RANGE_FLOOR, *, more: bool = False) -> Normalizer:
        """Take the limits from ``values`` ``(n, dim)``; with ``more``, from those of the calls before as well."""
        low, high = values.aminmax(dim=0)
        if more:
            low, high = torch.minimum(low, self._low), torch.maximum(high, self._high)
        self._low, self._high = low, high
        self.centre.copy_((low + high) / 2)
        self.half_range.copy_(((high - low) / 2).clamp(min=floor))
        return self

    def normalize(self, values: Tensor) -> Tensor:
        """Map ``(..., dim)`` in units of the data to about [-1, 1]."""
        return (values - self.centre) / self.half_range

    def denormalize(self, values: Tensor) -> Tensor:
        """Invert `normalize`."""
        return values * self.half_range + self.centre


class ChunkNormalizer(nn.Module):
    """Actions as differences from the present pose, every step of the chunk in a range of its own.

    The first action lies within centimetres of where the hand is, the last one anywhere on the table. In one
    common range, the millimetres that decide an insertion would vanish in the loss; here each step has the
    same weight relative to how far it can be. The gripper keeps its sign, at less weight.

    Args:
      horizon: actions in a chunk (T_p).
    """

    half_range: Tensor

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.register_buffer("half_range", torch.ones(horizon, spaces.ACTION_DIM))

    def fit(self, robot_state: Tensor, actions: Tensor, *, more: bool = False) -> ChunkNormalizer:
        """Take the ranges from states ``(n, 16)`` and the chunks ``(n, T_p, 10)`` that follow them.

        With ``more``, from those of the calls before as well.
        """
        largest = (actions - _held(robot_state)).abs().amax(dim=0)
        self._largest = largest = torch.maximum(largest, self._largest) if more else largest
        self.half_range.copy_(largest.clamp(min=HALF_RANGE_FLOOR))
        self.half_range[:, spaces.ACTION_GRIPPER] = GRIPPER_HALF_RANGE
        return self

    def normalize(self, actions: Tensor, robot_state: Tensor) -> Tensor:
        """Map chunks ``(n, T_p, 10)`` that follow the states ``(n, 16)`` to [-1, 1]."""
        return (actions - _held(robot_state)) / self.half_range

    def denormalize(self, chunk: Tensor, robot_state: Tensor) -> Tensor:
        """Invert `normalize`: absolute actions."""
        return chunk * self.half_range + _held(robot_state)


class AbsoluteChunkNormalizer(nn.Module):
    """Actions in one range for the whole data and every step of the chunk, as in the paper; see `ChunkNormalizer`."""

    def __init__(self) -> None:
        super().__init__()
        self.action = Normalizer(spaces.ACTION_DIM)

    def fit(self, robot_state: Tensor, actions: Tensor, *, more: bool = False) -> AbsoluteChunkNormalizer:
        """Take the range from chunks ``(n, T_p, 10)``; with ``more``, from those of the calls before as well."""
        self.action.fit(actions.flatten(0, 1), more=more)
        return self

    def normalize(self, actions: Tensor, robot_state: Tensor) -> Tensor:
        """Map chunks ``(n, T_p, 10)`` to [-1, 1]."""
        return self.action.normalize(actions)

    def denormalize(self, chunk: Tensor, robot_state: Tensor) -> Tensor:
        """Invert `normalize`."""
        return self.action.denormalize(chunk)


def _held(robot_state: Tensor) -> Tensor:
    """The chunk ``(n, 1, 10)`` that would hold the present pose, its gripper undecided."""
    pose = robot_state[:, : spaces.STATE_ROT6D.stop]
    return torch.cat([pose, torch.zeros_like(pose[:, :1])], dim=-1).unsqueeze(1)
