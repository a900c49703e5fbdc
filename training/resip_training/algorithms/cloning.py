"""What cloning from states and from images have in common: a policy, its average, and how both are kept."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from resip.errors import ResipError
from torch import Tensor, nn

from resip_training.runs import load_optimizer, optimizer_tensors, prefixed, with_prefix

Policy = TypeVar("Policy", bound=nn.Module)


class CloningTrainer(Generic[Policy]):
    """A policy that learns, and the average of its weights, which is validated and acts.

    Args:
      policy: with fresh weights.
      optimizer: of these.
      ema_decay: of the average; it follows faster at first.
    """

    unit = "updates"

    def __init__(self, policy: Policy, optimizer: torch.optim.Optimizer, ema_decay: float) -> None:
        self.step, self.policy, self.optimizer, self._ema_decay = 0, policy, optimizer, ema_decay
        self.average = copy.deepcopy(policy).requires_grad_(False).eval()

    def weights(self) -> dict[str, Tensor]:
        """Those of the averaged policy."""
        return prefixed("average.", self.average.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name, for a safetensors file."""
        model = prefixed("model.", self.policy.state_dict())
        return model | self.weights() | optimizer_tensors("optimizer.", self.optimizer)

    def load_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from `tensors` of the same configuration, saved after ``step`` updates."""
        self.policy.load_state_dict(with_prefix(tensors, "model."))
        self.average.load_state_dict(with_prefix(tensors, "average."))
        load_optimizer("optimizer.", self.optimizer, tensors)
        self.step = step

    @torch.no_grad()
    def _count_update(self) -> None:
        """Count an update that was made, and let the average follow."""
        self.step += 1
        decay = min(self._ema_decay, (1 + self.step) / (10 + self.step))
        averaged: list[Tensor] = list(self.average.parameters())
        current: list[Tensor] = list(self.policy.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]


def check_batch(steps: int, size: int) -> None:
    """Refuse data that do not fill a batch.

    Raises:
      ResipError: there are fewer steps.
    """
    if steps < size:
        raise ResipError(f"{steps} training steps are fewer than a batch of {size}")
