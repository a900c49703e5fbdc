"""An ensemble of critics, evaluated together: one batched product a layer, whatever their number."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class CriticEnsemble(nn.Module):
    """``members`` independent value functions Q(observation, action), each an MLP with LayerNorm.

    LayerNorm keeps the values of unseen actions near those of seen ones, which is what makes learning from
    demonstrations stable (RLPD, arXiv 2302.02948, section 4.2). It has no scale and shift of its own: the layers
    around it have.

    Args:
      input_dim: length of observation and action together.
      members: number of critics.
      width: hidden units of each.
    """

    def __init__(self, input_dim: int, members: int, width: int) -> None:
        super().__init__()
        self.members, self.width = members, width
        sizes = [(input_dim, width), (width, width), (width, 1)]
        self.weights = nn.ParameterList([_uniform(members, fan_in, size, fan_in=fan_in) for fan_in, size in sizes])
        self.biases = nn.ParameterList([_uniform(members, 1, size, fan_in=fan_in) for fan_in, size in sizes])

    def forward(self, inputs: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Values ``(members, B)`` of inputs ``(B, input_dim)``, or ``(n, B)`` of the ``n`` critics ``chosen``."""
        hidden = inputs.expand(self.members if chosen is None else len(chosen), *inputs.shape)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer > 0:
                hidden = torch.nn.functional.layer_norm(hidden, (self.width,)).relu_()
            if chosen is not None:
                weight, bias = weight[chosen], bias[chosen]
            hidden = torch.baddbmm(bias, hidden, weight)
        return hidden.squeeze(-1)


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    """The draw of ``nn.Linear``."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
