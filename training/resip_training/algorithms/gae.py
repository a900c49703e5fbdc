"""Generalised advantage estimation over rollouts whose episodes end, and are cut, where they will."""

from __future__ import annotations

import torch
from torch import Tensor


def advantages(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    ended: Tensor,
    discount: float,
    trace: float,
) -> Tensor:
    """Advantages ``(T, n)`` of T steps in n worlds (Schulman et al. 2016).

    An episode that terminated is worth nothing afterwards; one that only ran out of time is worth what the
    critic says of the state where it was cut. In both cases nothing is carried over from the episode that the
    world holds next.

    Args:
      reward: ``(T, n)``.
      value: of the observation of each step.
      next_value: of the observation that followed it, before the world was started again.
      terminated: the episode came to an end by itself at this step.
      ended: it terminated, or was cut.
      discount: gamma.
      trace: lambda.
    """
    error = reward + discount * next_value * ~terminated - value
    result = torch.empty_like(error)
    carried = torch.zeros_like(error[0])
    for t in range(len(error) - 1, -1, -1):
        carried = error[t] + discount * trace * carried * ~ended[t]
        result[t] = carried
    return result
