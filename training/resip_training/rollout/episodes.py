"""Episodes of a state policy, many worlds side by side: whether and when each seed succeeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from resip import arrays
from torch import Tensor

from resip_training.rollout.chunks import ChunkedBase, ChunkPolicy


class Cell(Protocol):
    """What episodes need of an `AssemblyEnv`."""

    @property
    def num_envs(self) -> int:
        """How many worlds."""
        ...

    def reset(self, *, seed: Sequence[int | None], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start episodes in the worlds of ``options["reset_mask"]``."""
        ...

    def step(self, actions: Any) -> tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]:
        """Advance all worlds by one control step."""
        ...


class StateAgent(Protocol):
    """Acts in ``num_envs`` worlds from their states."""

    def start(self, mask: np.ndarray, seeds: Sequence[int | None]) -> None:
        """Begin episodes in the worlds where ``mask`` holds."""

    def act(self, observation: Tensor) -> Tensor:
        """Absolute actions ``(n, 10)`` for observations ``(n, D)``, once a control step."""
        ...


class BaseAgent:
    """A base policy alone, or another that plans chunks."""

    def __init__(self, policy: ChunkPolicy, num_envs: int) -> None:
        self._chunks = ChunkedBase(policy, num_envs)
        self.start = self._chunks.start

    def act(self, observation: Tensor) -> Tensor:
        """The next action of each world's chunk."""
        action = self._chunks.action(observation)
        self._chunks.advance()
        return action


@dataclass(frozen=True)
class Outcome:
    """How the episode of a seed ended."""

    seed: int
    success: bool
    steps: int
    reward: float


def observe(observation: dict[str, np.ndarray | Tensor]) -> Tensor:
    """Robot state and part poses of an environment as one float32 tensor ``(n, D)``."""
    parts = [torch.as_tensor(observation[name]) for name in ("robot_state", "part_poses")]
    return torch.cat([part.to(torch.float32) for part in parts], dim=-1)


def run_episodes(
    env: Cell,
    agent: StateAgent,
    seeds: Sequence[int],
    on_outcome: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Run one episode for each seed, as many at once as the environment has worlds.

    Args:
      env: on any device; its worlds are reset.
      agent: made for as many worlds, on the same device.
      seeds: of the episodes.
      on_outcome: called as each ends.

    Returns:
      The outcomes in the order of the seeds.
    """
    n = env.num_envs
    waiting, running = list(seeds)[::-1], np.full(n, -1)
    steps, rewards = np.zeros(n, dtype=int), np.zeros(n)
    outcomes: dict[int, Outcome] = {}
    idle = np.ones(n, dtype=bool)
    observation: dict[str, Any] = {}
    while len(outcomes) < len(seeds):
        starting = np.zeros(n, dtype=bool)
        for i in np.flatnonzero(idle)[: len(waiting)]:
            running[i], starting[i], idle[i] = waiting.pop(), True, False
        if starting.any():
            world_seeds = [int(s) if start else None for s, start in zip(running, starting, strict=True)]
            observation, _ = env.reset(seed=world_seeds, options={"reset_mask": starting})
            agent.start(starting, world_seeds)
            steps[starting], rewards[starting] = 0, 0.0
        actions = arrays.like(agent.act(observe(observation)), observation["robot_state"])
        observation, reward, terminated, truncated, info = env.step(actions)
        reward, success, over = map(arrays.to_host, (reward, info["success"], terminated | truncated))
        steps += 1
        rewards += reward
        for i in np.flatnonzero(over & ~idle):
            outcome = Outcome(int(running[i]), bool(success[i]), int(steps[i]), float(rewards[i]))
            outcomes[outcome.seed], idle[i] = outcome, True
            on_outcome(outcome)
    return [outcomes[seed] for seed in seeds]
