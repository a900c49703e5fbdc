"""Worlds to learn in: each starts a new episode, at a place that `Starts` chooses, as one of its own ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from resip import arrays
from torch import Tensor

from resip_training.rollout.episodes import observe
from resip_training.rollout.starts import Starts
from resip_training.runs import prefixed, with_prefix
from resip_training.sim.env import AssemblyEnv


@dataclass(frozen=True)
class Step:
    """What followed a step in n worlds.

    Attributes:
      reward: ``(n,)``, 1 for every newly assembled pair.
      terminated: ``(n,)``, all is assembled, or a part fell, or the physics failed.
      truncated: ``(n,)``, out of time.
      success: ``(n,)``, all is assembled.
      next_observation: ``(n, ...)``, what was seen then, before finished worlds were started again.
    """

    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    success: Tensor
    next_observation: Tensor

    @property
    def ended(self) -> Tensor:
        """``(n,)``, the episode is over."""
        return self.terminated | self.truncated


class TrainingWorlds:
    """The worlds, and how long their episodes last.

    Args:
      env: the worlds.
      starts: where episodes begin.
      time_limit_steps: an episode is cut after so many steps, counted from the beginning of the task; at most
        the task's own limit.
      device: of the tensors here.
    """

    def __init__(self, env: AssemblyEnv, starts: Starts, time_limit_steps: int, device: torch.device) -> None:
        self._env, self.num_envs = env, env.num_envs
        self._starts, self._limit = starts, time_limit_steps
        self._steps = torch.zeros(env.num_envs, dtype=torch.int64, device=device)

    def start_all(self) -> tuple[Tensor, list[int]]:
        """Begin an episode in every world; see `start_again`."""
        return self._start(torch.ones_like(self._steps, dtype=torch.bool))

    def start_again(self, over: Tensor, success: Tensor) -> tuple[Tensor, list[int]]:
        """Begin other episodes where they are ``over``, of which some were a ``success``, both ``(n,)``.

        Returns:
          What is seen in all worlds then, ``(n, D)``, and the seeds of the new episodes, one for each world.
        """
        self._starts.report(over, success)
        return self._start(over)

    def step(self, actions: Tensor) -> Step:
        """One control step with absolute actions ``(n, 10)``; nothing begins by itself."""
        seen, reward, terminated, truncated, info = self._env.step(self._to_env(actions))
        self._steps += 1
        ended = torch.as_tensor(terminated)
        cut = ~ended & (torch.as_tensor(truncated) | (self._steps >= self._limit))
        return Step(torch.as_tensor(reward).float(), ended, cut, torch.as_tensor(info["success"]), observe(seen))

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs; worlds go on from what this puts them in.

        The worlds are put back into what is saved, so that a run that goes on and one that is resumed later do
        the same: parts that slept are awake in both.
        """
        saved = self._env.state()
        self._env.load_state(saved)
        worlds = {name: torch.as_tensor(values) for name, values in saved.items()}
        starts = prefixed("starts.", self._starts.state())
        return prefixed("worlds.", worlds) | starts | {"steps": self._steps.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Invert `state`."""
        self._env.load_state({name: values.numpy() for name, values in with_prefix(state, "worlds.").items()})
        self._starts.load_state(with_prefix(state, "starts."))
        self._steps.copy_(state["steps"])

    def _start(self, mask: Tensor) -> tuple[Tensor, list[int]]:
        host = arrays.to_host(mask)
        start = self._starts.draw(host)
        seen, _ = self._env.reset(seed=start.seeds, options={"reset_mask": host & ~start.along})
        if start.snapshot is not None:
            options = {"reset_mask": start.along, "snapshot": start.snapshot, "steps": start.steps}
            seen, _ = self._env.reset(options=options)
        self._steps[mask] = torch.as_tensor(start.steps, device=self._steps.device)[mask]
        return observe(seen), start.seeds

    def _to_env(self, actions: Tensor) -> np.ndarray | Tensor:
        return actions.double().numpy() if actions.device.type == "cpu" else actions
