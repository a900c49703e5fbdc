"""The environment that a residual learns in: a frozen base acts in chunks, a correction is added at every step."""

from __future__ import annotations

from dataclasses import replace

import torch
from resip import spaces
from torch import Tensor

from resip_training.models.base_policy import BasePolicy
from resip_training.rollout.chunks import ChunkedBase
from resip_training.rollout.starts import Starts
from resip_training.rollout.training_worlds import Step, TrainingWorlds
from resip_training.runs import prefixed, with_prefix
from resip_training.sim.env import AssemblyEnv


class Corrector:
    """Adds corrections to what a frozen base wants to do.

    Args:
      policy: the base.
      num_envs: worlds.
      alpha: scale of the correction, in units of normalised actions ([-1, 1] over the data).
    """

    def __init__(self, policy: BasePolicy, num_envs: int, alpha: float) -> None:
        self.policy, self.alpha = policy, alpha
        self.chunks = ChunkedBase(policy, num_envs)
        self.start = self.chunks.start
        self.base_action = torch.zeros(num_envs, spaces.ACTION_DIM)

    def observation(self, seen: Tensor) -> Tensor:
        """Normalised state, clamped, and normalised base action ``(n, D + 10)`` for what is seen ``(n, D)``."""
        self.base_action = self.chunks.action(seen)
        base = self.policy.action_normalizer.normalize(self.base_action)
        return torch.cat([self.policy.normalized_observation(seen), base], dim=-1)

    def corrected(self, residual: Tensor) -> Tensor:
        """Absolute actions ``(n, 10)``: the base's, plus alpha times the residual; the chunks go on by one.

        A residual of zero leaves the base's actions as they are, to the bit.
        """
        action = self.base_action + self.alpha * residual * self.policy.action_normalizer.half_range
        self.chunks.advance()
        return action


class ResidualEnv:
    """Worlds with a frozen base in them; every world starts a new episode by itself as one ends.

    Args:
      env: the worlds.
      policy: the base.
      alpha: scale of the correction.
      starts: where episodes begin.
      time_limit_steps: an episode is cut after so many steps, counted from the beginning of the task; at most
        the task's own limit.
    """

    def __init__(
        self, env: AssemblyEnv, policy: BasePolicy, alpha: float, starts: Starts, time_limit_steps: int
    ) -> None:
        self.num_envs, self.alpha = env.num_envs, alpha
        self.corrector = Corrector(policy, env.num_envs, alpha)
        self.observation_dim = len(policy.observation_normalizer.centre) + spaces.ACTION_DIM
        self.action_dim = spaces.ACTION_DIM
        self._worlds = TrainingWorlds(env, starts, time_limit_steps, policy.device)
        seen, seeds = self._worlds.start_all()
        self.corrector.start(torch.ones(env.num_envs, dtype=torch.bool), seeds)
        self.observation = self.corrector.observation(seen)

    def step(self, residual: Tensor) -> Step:
        """Execute ``base + alpha * residual`` (n, 10) for one control step."""
        step = self._worlds.step(self.corrector.corrected(residual))
        step = replace(step, next_observation=self.corrector.observation(step.next_observation))
        self.observation = step.next_observation
        if bool(step.ended.any()):
            seen, seeds = self._worlds.start_again(step.ended, step.success)
            self.corrector.start(step.ended, seeds)
            self.observation = self.corrector.observation(seen)
        return step

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs; worlds go on from what this puts them in (see `TrainingWorlds`)."""
        chunks = prefixed("chunks.", self.corrector.chunks.state())
        others = {"observation": self.observation.clone(), "base_action": self.corrector.base_action.clone()}
        return self._worlds.state() | chunks | others

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Invert `state`."""
        self._worlds.load_state(state)
        self.corrector.chunks.load_state(with_prefix(state, "chunks."))
        self.observation = state["observation"].clone()
        self.corrector.base_action = state["base_action"].clone()
