"""Worlds to learn in: each starts a new episode, at a place that `Starts` chooses, as one of its own ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from resip import arrays
from torch import Tensor

from resip_training import distributed
from resip_training.rollout.episodes import observe
from resip_training.rollout.starts import Starts
from resip_training.runs import prefixed, with_prefix
from resip_training.sim.env import AssemblyEnv

_NEVER: Final = 1 << 30


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

    On a device everything stays there but which episodes are over, and states of demonstrations to begin at. There
    only the first episodes begin at fresh seeds, which the CPU settles; later ones draw of the starts that the device
    keeps (see ``warp_worlds``).

    An episode is cut, and what would have come is left to a critic, after so many control steps: whether an action was
    good shows within seconds, and what follows a failure is mostly what nobody can mend any more.

    Attributes:
      simulation_s: wall time spent in the worlds so far; on a GPU, what the host spent there.

    Args:
      env: the worlds.
      starts: where episodes begin.
      episode_steps: after which an episode is cut, counted from its own start; 0 for the task's time limit alone.
      device: of the tensors here.
    """

    def __init__(self, env: AssemblyEnv, starts: Starts, episode_steps: int, device: torch.device) -> None:
        self._env, self.num_envs = env, env.num_envs
        self._starts, self._limit = starts, episode_steps or _NEVER
        self.simulation_s = 0.0
        self._kind: Any = env.part_poses()
        self._device_draws = False  # the next episodes' starts
        self._steps = torch.zeros(env.num_envs, dtype=torch.int64, device=device)  # of each world's episode
        self._demonstrated = torch.zeros_like(self._steps)

    def start_all(self) -> tuple[Tensor, list[int]]:
        """Begin an episode in every world; what is seen, and the seeds, as in `start_again`."""
        return self._start(torch.ones_like(self._steps, dtype=torch.bool))

    def start_again(self, step: Step) -> tuple[Tensor, list[int]] | None:
        """Begin other episodes where they ended with this step; called after every action, whether any did or not.

        Returns:
          What is seen in all worlds then, ``(n, D)``, and the seeds of the new episodes, one for each world; None
          where all go on.
        """
        conclusive = step.terminated | step.truncated & (self._steps >= self._demonstrated)
        self._starts.report(conclusive, step.success)
        return self._start(step.ended) if bool(step.ended.any()) else None

    def step(self, actions: Tensor) -> Step:
        """One control step with absolute actions ``(n, 10)``; nothing begins by itself."""
        with self._simulating():
            seen, reward, terminated, truncated, info = self._env.step(arrays.like(actions, self._kind))
        self._steps += 1
        ended = torch.as_tensor(terminated)
        cut = ~ended & (torch.as_tensor(truncated) | (self._steps >= self._limit))
        return Step(torch.as_tensor(reward).float(), ended, cut, torch.as_tensor(info["success"]), observe(seen))

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs, of the worlds of all processes; worlds go on from what this puts them in.

        The worlds are put back into what is saved, so that a run that goes on and one that is resumed later do
        the same: parts that slept are awake in both.
        """
        saved = self._env.state()
        self._env.load_state(saved)
        worlds = {f"worlds.{name}": torch.as_tensor(values) for name, values in saved.items()}
        starts = prefixed("starts.", self._starts.state())
        episodes = {"steps": self._steps.clone(), "demonstrated": self._demonstrated.clone()}
        return gathered(worlds | episodes) | starts

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Invert `state`."""
        worlds = own_rows(with_prefix(state, "worlds."))
        self._env.load_state({name: self._to_worlds(values) for name, values in worlds.items()})
        self._starts.load_state(with_prefix(state, "starts."))
        self._steps.copy_(distributed.own_rows(state["steps"]))
        self._demonstrated.copy_(distributed.own_rows(state["demonstrated"]))

    def _start(self, mask: Tensor) -> tuple[Tensor, list[int]]:
        host = arrays.to_host(mask)
        start = self._starts.draw(host)
        seeds = None if self._device_draws else start.seeds
        with self._simulating():
            seen, _ = self._env.reset(seed=seeds, options={"reset_mask": host & ~start.along})
            if start.snapshot is not None:
                options = {"reset_mask": start.along, "snapshot": start.snapshot, "steps": start.steps}
                seen, _ = self._env.reset(options=options)
        self._device_draws = arrays.is_tensor(self._kind)
        self._steps[mask] = 0
        self._demonstrated[mask] = torch.as_tensor(start.demonstrated, device=mask.device)[mask]
        return observe(seen), start.seeds

    def _to_worlds(self, values: Tensor) -> Any:
        """As an array of the worlds' kind, where they are."""
        return values.to(self._kind.device) if arrays.is_tensor(self._kind) else values.cpu().numpy()

    @contextmanager
    def _simulating(self) -> Iterator[None]:
        began_s = time.perf_counter()
        yield
        self.simulation_s += time.perf_counter() - began_s


def gathered(of_worlds: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rows of the worlds of all processes."""
    return {name: distributed.gathered(values) for name, values in of_worlds.items()}


def own_rows(of_worlds: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of rows of the worlds of all processes, those of this one's."""
    return {name: distributed.own_rows(values) for name, values in of_worlds.items()}
