"""What cloning from states and from images have in common: a policy, its average, and how both are kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from resip import spaces
from resip.errors import ResipError
from torch import Tensor, nn

from resip_training.algorithms.average import follow
from resip_training.runs import load_optimizer, optimizer_tensors, prefixed, with_prefix

Policy = TypeVar("Policy", bound=nn.Module)

_MOVES_M: Final = 0.02  # a part displaced by more than this in an ordinary episode takes part in the task


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

    def _count_update(self) -> None:
        """Count an update that was made, and let the average follow."""
        self.step += 1
        decay = min(self._ema_decay, (1 + self.step) / (10 + self.step))
        follow(self.average, self.policy, 1 - decay)


def part_columns(part_poses: NDArray[np.float32], episodes: Sequence[slice]) -> list[int]:
    """Columns of the part poses that matter: those of parts that most episodes move, and of the obstacle.

    What is pushed aside in one episode of hundreds takes no part in the task.

    Args:
      part_poses: ``(N, 7 * (parts + 1))``, the obstacle's last.
      episodes: the rows of each.
    """
    n_bodies = part_poses.shape[1] // spaces.PART_POSE_DIM
    position = part_poses.reshape(-1, n_bodies, spaces.PART_POSE_DIM)[..., :3]
    travel = np.median([np.ptp(position[rows], axis=0).max(axis=-1) for rows in episodes], axis=0)
    chosen = [body for body in range(n_bodies) if travel[body] > _MOVES_M or body == n_bodies - 1]
    return [body * spaces.PART_POSE_DIM + i for body in chosen for i in range(spaces.PART_POSE_DIM)]


def check_batch(steps: int, size: int) -> None:
    """Refuse data that do not fill a batch.

    Raises:
      ResipError: there are fewer steps.
    """
    if steps < size:
        raise ResipError(f"{steps} training steps are fewer than a batch of {size}")
