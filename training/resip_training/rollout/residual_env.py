"""The environment that a residual learns in: a frozen base acts in chunks, a correction is added at every step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from resip import spaces
from torch import Tensor

from resip_training import distributed
from resip_training.models.base_policy import BasePolicy
from resip_training.models.poses import Poses
from resip_training.rollout.chunks import ChunkedBase
from resip_training.rollout.starts import Starts
from resip_training.rollout.training_worlds import Step, TrainingWorlds, gathered, own_rows
from resip_training.runs import prefixed, with_prefix
from resip_training.sim.env import AssemblyEnv


@dataclass(frozen=True)
class Correction:
    """How a residual is tied to its base.

    Attributes:
      alpha: scale of the residual, in units of normalised actions ([-1, 1] over the data).
      poses: as the residual is told them.
    """

    alpha: float
    poses: Poses = "goals"


def residual_observation(policy: BasePolicy, seen: Tensor, base_action: Tensor, poses: Poses) -> Tensor:
    """What a residual is shown: what the base is shown of ``seen`` ``(n, D)``, and the base's normalised action."""
    base = policy.action_normalizer.normalize(base_action)
    return torch.cat([policy.observe(seen, poses), base], dim=-1)


class Corrector:
    """Adds corrections to what a frozen base wants to do.

    Args:
      policy: the base.
      num_envs: worlds.
      correction: how the residual is tied to it.
    """

    def __init__(self, policy: BasePolicy, num_envs: int, correction: Correction) -> None:
        self.policy, self.alpha = policy, correction.alpha
        self._poses: Poses = correction.poses
        self.chunks = ChunkedBase(policy, num_envs)
        self.start = self.chunks.start
        self.base_action = torch.zeros(num_envs, spaces.ACTION_DIM)

    def observation(self, seen: Tensor) -> Tensor:
        """What a residual is shown of ``seen`` ``(n, D)``, with the base's present actions in it."""
        self.base_action = self.chunks.action(seen)
        return residual_observation(self.policy, seen, self.base_action, self._poses)

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
      correction: how the residual is tied to the base.
      starts: where episodes begin.
      episode_steps: control steps after which an episode is cut, see `TrainingWorlds`.
    """

    def __init__(
        self, env: AssemblyEnv, policy: BasePolicy, correction: Correction, starts: Starts, episode_steps: int
    ) -> None:
        self.env, self.num_envs, self.correction = env, env.num_envs, correction
        self.corrector = Corrector(policy, env.num_envs, correction)
        self.observation_dim = policy.observe.dim(correction.poses) + spaces.ACTION_DIM
        self.action_dim = spaces.ACTION_DIM
        self._worlds = TrainingWorlds(env, starts, episode_steps, policy.device)
        seen, seeds = self._worlds.start_all()
        self.corrector.start(torch.ones(env.num_envs, dtype=torch.bool), seeds)
        self.observation = self.corrector.observation(seen)

    @property
    def simulation_s(self) -> float:
        """Wall time spent in the worlds so far; on a GPU, what the host spent there."""
        return self._worlds.simulation_s

    def step(self, residual: Tensor) -> Step:
        """Execute ``base + alpha * residual`` (n, 10) for one control step."""
        step = self._worlds.step(self.corrector.corrected(residual))
        step = replace(step, next_observation=self.corrector.observation(step.next_observation))
        self.observation = step.next_observation
        started = self._worlds.start_again(step)
        if started is not None:
            seen, seeds = started
            self.corrector.start(step.ended, seeds)
            self.observation = self.corrector.observation(seen)
        return step

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs, of all processes; worlds go on from what this puts them in (`TrainingWorlds`)."""
        chunks = prefixed("chunks.", self.corrector.chunks.state())
        others = {"observation": self.observation.clone(), "base_action": self.corrector.base_action.clone()}
        return self._worlds.state() | gathered(chunks | others)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Invert `state`."""
        self._worlds.load_state(state)
        self.corrector.chunks.load_state(own_rows(with_prefix(state, "chunks.")))
        device = self.observation.device
        self.observation = distributed.own_rows(state["observation"]).to(device, copy=True)
        self.corrector.base_action = distributed.own_rows(state["base_action"]).to(device, copy=True)
