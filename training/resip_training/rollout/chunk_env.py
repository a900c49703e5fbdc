"""The environment in which an action is a whole chunk, executed open loop (the paper's baselines, 4.1)."""

from __future__ import annotations

from typing import Final

import torch
from resip import spaces
from torch import Tensor

from resip_training.rollout.starts import Starts
from resip_training.rollout.training_worlds import Step, TrainingWorlds
from resip_training.sim.env import AssemblyEnv


class ChunkEnv:
    """Worlds that execute chunks; every world starts a new episode by itself after the chunk in which one ended.

    A world whose episode ends inside a chunk idles for the rest of it: what happens there counts for nothing. So
    all worlds ask for chunks at the same time, as one batch, and an action takes the same time everywhere; of an
    episode of hundreds of steps this costs T_a - 1 at most.

    An episode ends when all pairs are assembled, not at the first reward (as in the reference implementation). A
    chunk is worth the sum of its rewards, and gamma discounts per chunk.

    Args:
      env: the worlds.
      action_horizon: actions of a chunk that are executed (T_a).
      starts: where episodes begin.
      episode_steps: control steps after which an episode is cut, see `TrainingWorlds`.
      device: of the tensors here.

    Attributes:
      observation: ``(n, D)``, physical units, that the next chunks are asked for.
      action_shape: of an action, (T_a, 10).
    """

    def __init__(
        self,
        env: AssemblyEnv,
        action_horizon: int,
        starts: Starts,
        episode_steps: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.num_envs = env.num_envs
        self.action_shape: Final = (action_horizon, spaces.ACTION_DIM)
        self._worlds = TrainingWorlds(env, starts, episode_steps, torch.device(device))
        self.observation = self._worlds.start_all()[0]

    @property
    def simulation_s(self) -> float:
        """Wall time spent in the worlds so far."""
        return self._worlds.simulation_s

    def step(self, chunk: Tensor) -> Step:
        """Execute absolute actions ``(n, T_a, 10)``, physical units; each world until its episode ends."""
        result = self._worlds.step(chunk[:, 0])
        for i in range(1, chunk.shape[1]):
            result = _continued(result, self._worlds.step(chunk[:, i]))
        started = self._worlds.start_again(result)
        self.observation = result.next_observation if started is None else started[0]
        return result

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs; worlds go on from what this puts them in (see `TrainingWorlds`)."""
        return self._worlds.state() | {"observation": self.observation.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Invert `state`."""
        self._worlds.load_state(state)
        self.observation = state["observation"].to(self.observation.device, copy=True)


def _continued(before: Step, now: Step) -> Step:
    """A chunk's outcome with one step more, of which worlds whose episodes were over know nothing."""
    on = ~before.ended
    return Step(
        reward=before.reward + on * now.reward,
        terminated=before.terminated | (on & now.terminated),
        truncated=before.truncated | (on & now.truncated),
        success=torch.where(on, now.success, before.success),
        next_observation=torch.where(on.unsqueeze(-1), now.next_observation, before.next_observation),
    )
