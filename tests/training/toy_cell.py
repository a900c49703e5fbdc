"""Points in the plane that are to be brought into holes: an `AssemblyEnv` in microseconds, and policies for it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from resip import spaces
from resip_training.models.base_policy import BaseConfig, BasePolicy
from resip_training.models.features import Inputs
from resip_training.models.mlp import MlpBase, MlpConfig
from resip_training.rollout.chunk_env import ChunkEnv
from resip_training.rollout.episodes import StateAgent, run_episodes
from resip_training.rollout.starts import Starts
from torch import Tensor

RADIUS = 0.05
CHUNK = 4  # T_a
HOLES = 2
OBSERVATION_DIM = spaces.STATE_DIM + HOLES * spaces.PART_POSE_DIM
HOLE = slice(spaces.STATE_DIM, spaces.STATE_DIM + 2)  # the place of the first one in an observation
SECOND_HOLE = slice(HOLE.start + spaces.PART_POSE_DIM, HOLE.stop + spaces.PART_POSE_DIM)
EVALUATION_SEEDS = range(5000, 5200)
UPRIGHT_HAND = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class ToyCell:
    """``num_envs`` points; a step brings each half the way to where its action says.

    Seen are the point, in the robot's place, and two holes, in those of parts. To reach a hole pays 1, once; an
    episode succeeds when as many holes as asked for were reached.

    Args:
      num_envs: points.
      holes: that must be reached, 1 or 2.
      trap: the mirror image of the first hole ends an episode.
      max_steps: of an episode.
    """

    def __init__(self, num_envs: int, holes: int = 1, trap: bool = False, max_steps: int = 16) -> None:
        self.num_envs, self.task = num_envs, SimpleNamespace(max_steps=max_steps)
        self._asked, self._trap = holes, trap
        self._state: dict[str, NDArray[Any]] = {
            "point": np.zeros((num_envs, 2)),
            "hole": np.zeros((num_envs, HOLES, 2)),
            "steps": np.zeros(num_envs, dtype=np.int64),
            "reached": np.zeros((num_envs, holes), dtype=bool),
        }

    def reset(self, *, seed: Sequence[int | None], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        for i in np.flatnonzero(options["reset_mask"]):
            rng = np.random.default_rng(seed[i])
            side = rng.choice([-1.0, 1.0])
            self._state["point"][i] = rng.uniform(-0.1, 0.1, size=2)
            self._state["hole"][i] = [(0.5 * side, 0.0), (0.0, 0.5)] + rng.uniform(-0.02, 0.02, size=(HOLES, 2))
            self._state["steps"][i], self._state["reached"][i] = 0, False
        return self._seen(), {}

    def step(self, actions: NDArray[np.float64]) -> tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]:
        state = self._state
        state["point"] += 0.5 * (actions[:, :2] - state["point"])
        state["steps"] += 1
        now = self._near(state["hole"])[:, : self._asked]
        reward = (now & ~state["reached"]).sum(axis=-1).astype(float)
        state["reached"] |= now
        success = state["reached"].all(axis=-1)
        terminated = success | (self._trap & self._near(-state["hole"])[:, 0])
        truncated = ~terminated & (state["steps"] >= self.task.max_steps)
        return self._seen(), reward, terminated, truncated, {"success": success}

    def part_poses(self) -> NDArray[np.float64]:
        return self._seen()["part_poses"]

    def state(self) -> dict[str, NDArray[Any]]:
        return {name: values.copy() for name, values in self._state.items()}

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        self._state = {name: np.array(values) for name, values in state.items()}

    def _near(self, places: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.linalg.norm(places - self._state["point"][:, None], axis=-1) < RADIUS

    def _seen(self) -> dict[str, Any]:
        robot = np.zeros((self.num_envs, spaces.STATE_DIM))
        robot[:, :2], robot[:, spaces.STATE_ROT6D] = self._state["point"], UPRIGHT_HAND
        parts = np.zeros((self.num_envs, HOLES, spaces.PART_POSE_DIM))
        parts[..., :2], parts[..., -1] = self._state["hole"], 1.0
        return {"robot_state": robot, "part_poses": parts.reshape(self.num_envs, -1)}


def chunk_env(cell: ToyCell, seed: int = 0, episode_steps: int = 16) -> ChunkEnv:
    return ChunkEnv(cell, CHUNK, Starts(cell.num_envs, seed), episode_steps)


def chunk_to(places: Tensor) -> Tensor:
    """Chunks ``(n, 4, 10)`` of actions at places ``(n, 2)``, or at one after the other ``(n, 4, 2)``."""
    chunk = torch.zeros(len(places), CHUNK, spaces.ACTION_DIM)
    chunk[..., :2] = places if places.ndim == 3 else places.unsqueeze(1)
    return chunk


def successes(cell: ToyCell, agent: StateAgent) -> float:
    outcomes = run_episodes(cell, agent, EVALUATION_SEEDS)
    return sum(outcome.success for outcome in outcomes) / len(outcomes)


def observations(n: int) -> Tensor:
    """Points on their way to holes on either side."""
    seen = torch.zeros(n, OBSERVATION_DIM)
    seen[:, :2], seen[:, spaces.STATE_ROT6D] = 1.2 * torch.rand(n, 2) - 0.6, torch.tensor(UPRIGHT_HAND)
    seen[:, HOLE] = torch.stack([0.5 * (2.0 * torch.randint(2, (n,)) - 1), torch.zeros(n)], dim=-1)
    seen[:, SECOND_HOLE] = torch.tensor([0.0, 0.5])
    for hole in (HOLE, SECOND_HOLE):
        seen[:, hole] += 0.04 * torch.rand(n, 2) - 0.02
        seen[:, hole.start + spaces.PART_POSE_DIM - 1] = 1.0
    return seen


def cloned_mlp(beside: float = 0.08, dropout: float = 0.1) -> MlpBase:
    """An MLP cloned from someone who always aims so far beside the hole."""
    torch.manual_seed(0)
    config = MlpConfig(CHUNK, CHUNK, "absolute", "all", "absolute", width=64, blocks=1, dropout=dropout)
    policy = MlpBase(config, Inputs(OBSERVATION_DIM, tuple(range(OBSERVATION_DIM))))
    seen = observations(2048)
    aimed = seen[:, HOLE] + torch.tensor([0.0, beside])
    policy.fit(seen, chunk_to(1.2 * torch.rand(len(seen), 2) - 0.6))
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(300):
        rows = torch.randint(len(seen), (256,))
        optimizer.zero_grad()
        policy.loss(seen[rows], chunk_to(aimed[rows])).backward()
        optimizer.step()
    return policy.eval().requires_grad_(False)


class CoinPolicy(BasePolicy):
    """Goes to one side or the other as its noise says: it does not look where the hole is."""

    def __init__(self) -> None:
        config = BaseConfig(CHUNK + 2, CHUNK, "absolute", poses="absolute")
        super().__init__(config, Inputs(OBSERVATION_DIM, tuple(range(OBSERVATION_DIM))))
        seen = observations(256)
        self.fit(seen, torch.nn.functional.pad(chunk_to(seen[:, HOLE]), (0, 0, 0, 2)))

    def chunk_loss(self, features: Tensor, chunk: Tensor) -> Tensor:
        raise NotImplementedError

    def predict(self, features: Tensor, noise: Tensor) -> Tensor:
        chunk = torch.zeros_like(noise)
        chunk[..., 0] = noise[:, :1, 0].sign() + 0.05 * noise[:, 1:2, 0]
        return chunk
