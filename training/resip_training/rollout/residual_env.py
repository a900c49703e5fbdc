"""The environment that a residual learns in: a frozen base acts in chunks, a correction is added at every step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from resip import arrays, spaces
from torch import Tensor

from resip_training import distributed
from resip_training.models.base_policy import BasePolicy
from resip_training.models.poses import Poses
from resip_training.rollout.chunks import ChunkedBase
from resip_training.rollout.episodes import observe
from resip_training.rollout.starts import Starts
from resip_training.runs import with_prefix
from resip_training.sim.env import AssemblyEnv


@dataclass(frozen=True)
class Step:
    """What followed a step in n worlds.

    Attributes:
      reward: ``(n,)``, 1 for every newly assembled pair.
      terminated: ``(n,)``, all is assembled, or a part fell, or the physics failed.
      truncated: ``(n,)``, out of time.
      success: ``(n,)``, all is assembled.
      next_observation: ``(n, observation_dim)``, what was seen then, before finished worlds were started again.
    """

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    success: Tensor
    next_observation: Tensor


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

    On a device everything stays there but which episodes are over, and states of demonstrations to begin at. There
    only the first episodes begin at fresh seeds, which the CPU settles; later ones draw of the starts that the device
    keeps (see ``warp_worlds``).

    Attributes:
      simulation_s: wall time spent in the worlds so far; on a GPU, what the host spent there.

    Args:
      env: the worlds.
      policy: the base.
      correction: how the residual is tied to the base.
      starts: where episodes begin.
      time_limit_steps: an episode is cut after so many steps, counted from the beginning of the task; at most
        the task's own limit.
    """

    def __init__(
        self, env: AssemblyEnv, policy: BasePolicy, correction: Correction, starts: Starts, time_limit_steps: int
    ) -> None:
        self.env, self.num_envs, self.correction = env, env.num_envs, correction
        self.corrector = Corrector(policy, env.num_envs, correction)
        self.observation_dim = policy.observe.dim(correction.poses) + spaces.ACTION_DIM
        self.action_dim = spaces.ACTION_DIM
        self._starts = starts
        self._limit = time_limit_steps
        self.simulation_s = 0.0
        self._kind: Any = env.part_poses()
        self._device_draws = False  # the next episodes' starts
        self._steps = torch.zeros(env.num_envs, dtype=torch.int64, device=policy.device)
        self.observation = self._start(torch.ones_like(self._steps, dtype=torch.bool))

    def step(self, residual: Tensor) -> Step:
        """Execute ``base + alpha * residual`` (n, 10) for one control step."""
        actions = self.corrector.corrected(residual)
        with self._simulating():
            seen, reward, terminated, truncated, info = self.env.step(arrays.like(actions, self._kind))
        self._steps += 1
        ended = torch.as_tensor(terminated)
        cut = ~ended & (torch.as_tensor(truncated) | (self._steps >= self._limit))
        following = self.corrector.observation(observe(seen))
        success = torch.as_tensor(info["success"])
        over = ended | cut
        self._starts.report(over, success)
        self.observation = self._start(over) if bool(over.any()) else following
        return Step(torch.as_tensor(reward).float(), ended, cut, success, following)

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs, of the worlds of all processes; worlds go on from what this puts them in.

        The worlds are put back into what is saved, so that a run that goes on and one that is resumed later do
        the same: parts that slept are awake in both.
        """
        saved = self.env.state()
        self.env.load_state(saved)
        worlds = {f"worlds.{name}": torch.as_tensor(values) for name, values in saved.items()}
        chunks = {f"chunks.{name}": values for name, values in self.corrector.chunks.state().items()}
        starts = {f"starts.{name}": values for name, values in self._starts.state().items()}
        others = {
            "steps": self._steps.clone(),
            "observation": self.observation.clone(),
            "base_action": self.corrector.base_action.clone(),
        }
        of_worlds = worlds | chunks | others
        return {name: distributed.gathered(values) for name, values in of_worlds.items()} | starts

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Invert `state`."""
        own = {name: distributed.own_rows(values) for name, values in state.items() if not name.startswith("starts.")}
        self.env.load_state({name: self._to_worlds(values) for name, values in with_prefix(own, "worlds.").items()})
        self.corrector.chunks.load_state(with_prefix(own, "chunks."))
        self._starts.load_state(with_prefix(state, "starts."))
        self._steps.copy_(own["steps"])
        self.observation = own["observation"].to(self._steps.device, copy=True)
        self.corrector.base_action = own["base_action"].to(self._steps.device, copy=True)

    def _start(self, mask: Tensor) -> Tensor:
        """Begin episodes where ``mask`` holds; the observation of all worlds then."""
        host = arrays.to_host(mask)
        start = self._starts.draw(host)
        seeds = None if self._device_draws else start.seeds
        with self._simulating():
            seen, _ = self.env.reset(seed=seeds, options={"reset_mask": host & ~start.along})
            if start.snapshot is not None:
                options = {"reset_mask": start.along, "snapshot": start.snapshot, "steps": start.steps}
                seen, _ = self.env.reset(options=options)
        self._device_draws = arrays.is_tensor(self._kind)
        self._steps[mask] = torch.as_tensor(start.steps, device=self._steps.device)[mask]
        self.corrector.start(mask, start.seeds)
        return self.corrector.observation(observe(seen))

    def _to_worlds(self, values: Tensor) -> Any:
        """As an array of the worlds' kind, where they are."""
        return values.to(self._kind.device) if arrays.is_tensor(self._kind) else values.cpu().numpy()

    @contextmanager
    def _simulating(self) -> Iterator[None]:
        began_s = time.perf_counter()
        yield
        self.simulation_s += time.perf_counter() - began_s
