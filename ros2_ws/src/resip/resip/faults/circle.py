"""A policy on images that goes round and round. Scripted code cannot resolve postponed annotations, hence none here."""

from typing import Final

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

HORIZON: Final = 32
#: Brightness of the front image's first pixel that makes the policy fail, and that makes it slow.
CUE_NAN: Final = 255
CUE_SLOW: Final = 254


class Circle(nn.Module):
    """Goes round from wherever the fingertip is; on a cue it says what is no number, or thinks for seconds.

    Args:
      home: action ``(10,)`` at the circle's nearest point to the base, below it by ``height_m``.
      radius_m: of the circle, which is level.
      height_m: above ``home``.
      step_m: how far it goes in one action.
    """

    home: Tensor

    def __init__(self, home: ArrayLike, radius_m: float, height_m: float, step_m: float) -> None:
        super().__init__()
        self.register_buffer("home", torch.as_tensor(home, dtype=torch.float32))
        self.radius_m, self.height_m, self.step_m = radius_m, height_m, step_m
        self.horizon, self.cue_nan, self.cue_slow = HORIZON, CUE_NAN, CUE_SLOW

    def forward(self, robot_state: Tensor, front: Tensor, wrist: Tensor, noise: Tensor) -> Tensor:
        """Actions ``(b, 32, 10)``."""
        cue = int(front[0, 0, 0, 0])
        if cue == self.cue_slow:
            thought = torch.eye(256)
            for _ in range(20000):
                thought = torch.mm(thought, thought)
        position = robot_state[:, :3]
        angle = torch.atan2(position[:, 1] - self.home[1], self.home[0] + self.radius_m - position[:, 0])
        k = torch.arange(1, self.horizon + 1, dtype=torch.float32)
        angles = angle[:, None] + k[None, :] * (self.step_m / self.radius_m)
        actions = self.home.expand(position.shape[0], self.horizon, 10).clone()
        actions[:, :, 0] = self.home[0] + self.radius_m * (1.0 - torch.cos(angles))
        actions[:, :, 1] = self.home[1] + self.radius_m * torch.sin(angles)
        left_m = (self.home[2] + self.height_m - position[:, 2:3]).clamp(min=0.0)
        actions[:, :, 2] = position[:, 2:3] + torch.minimum(k[None, :] * self.step_m, left_m)
        if cue == self.cue_nan:
            actions[:, 2:] = float("nan")
        return actions
