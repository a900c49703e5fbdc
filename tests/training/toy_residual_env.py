"""Point masses that a biased base leads past a small hole: what a residual must mend, in microseconds a step."""

from __future__ import annotations

import torch
from resip_training.rollout.training_worlds import Step
from torch import Tensor

RADIUS = 0.02
TIME_LIMIT = 30


class ToyResidualEnv:
    """``num_envs`` points in the plane, each to be brought within RADIUS of its hole in at most 30 steps.

    An action is where the point is drawn to (half the way a step). The base's action misses the hole by 0.07 in
    a direction that depends on the hole, plus noise of 0.01 that is constant for 8 steps, like that of a chunk.
    Observation: point (2), hole (2), base action (2). Reward 1 in the hole, which ends the episode.
    """

    observation_dim, action_dim, alpha = 6, 2, 0.1

    def __init__(self, num_envs: int, seed: int) -> None:
        self.num_envs = num_envs
        self._generator = torch.Generator().manual_seed(seed)
        self._point = torch.zeros(num_envs, 2)
        self._hole = torch.zeros(num_envs, 2)
        self._noise = torch.zeros(num_envs, 2)
        self._age = torch.zeros(num_envs, dtype=torch.long)
        self._start(torch.ones(num_envs, dtype=torch.bool))

    @property
    def observation(self) -> Tensor:
        return torch.cat([self._point, self._hole, self.base_action], dim=-1)

    @property
    def base_action(self) -> Tensor:
        angle = 4 * self._hole.sum(dim=-1, keepdim=True)
        return self._hole + 0.07 * torch.cat([angle.cos(), angle.sin()], dim=-1) + self._noise

    def step(self, residual: Tensor) -> Step:
        action = self.base_action + self.alpha * residual
        self._point = self._point + 0.5 * (action - self._point)
        self._age += 1
        success = (self._point - self._hole).norm(dim=-1) < RADIUS
        truncated = ~success & (self._age >= TIME_LIMIT)
        self._draw_noise(self._age % 8 == 0)
        result = Step(success.float(), success, truncated, success, self.observation)
        self._start(success | truncated)
        return result

    def state(self) -> dict[str, Tensor]:
        state = {name: value.clone() for name, value in vars(self).items() if isinstance(value, Tensor)}
        return {**state, "generator": self._generator.get_state()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._generator.set_state(state["generator"])
        for name, value in state.items():
            if name != "generator":
                setattr(self, name, value.clone())

    def _start(self, which: Tensor) -> None:
        drawn = torch.rand(2, self.num_envs, 2, generator=self._generator) * 2 - 1
        self._point, self._hole = (
            torch.where(which.unsqueeze(-1), new, old)
            for new, old in zip(drawn, (self._point, self._hole), strict=True)
        )
        self._age = torch.where(which, 0, self._age)
        self._draw_noise(which)

    def _draw_noise(self, which: Tensor) -> None:
        drawn = 0.01 * torch.randn(self.num_envs, 2, generator=self._generator)
        self._noise = torch.where(which.unsqueeze(-1), drawn, self._noise)
