"""Demonstrations as a residual's experience: what the base would have done at each step, and what differed."""

from __future__ import annotations

from typing import Final

import torch
from resip.errors import ResipError
from torch import Tensor

from resip_training.algorithms.replay import Transitions, episode_transitions
from resip_training.data.store import DemoSet
from resip_training.models.base_policy import BasePolicy
from resip_training.rollout.residual_env import Correction, residual_observation

#: A demonstration may differ from the base by more than a residual ever does (its gripper opens where the base
#: closes it); beyond this many alphas it does not matter by how much.
RESIDUAL_LIMIT: Final = 3.0


def demonstrated_transitions(
    demos: DemoSet, policy: BasePolicy, correction: Correction, n_steps: int, discount: float
) -> Transitions:
    """The transitions of all successful demonstrations, as if a residual on ``policy`` had acted in them.

    Args:
      demos: of the policy's task.
      policy: the base; it plans its chunks along each demonstration with the noise of that one's seed.
      correction: how the residual is tied to the base.
      n_steps: of a transition.
      discount: of one step.

    Raises:
      ResipError: no demonstration succeeded.
    """
    device = policy.device
    seen = torch.cat([torch.from_numpy(demos.robot_state), torch.from_numpy(demos.part_poses)], dim=-1).to(device)
    action, reward = torch.from_numpy(demos.action).to(device), torch.from_numpy(demos.reward)
    pieces = []
    for rows, seed, success in zip(demos.episodes, demos.seeds, demos.success, strict=True):
        if success:
            base = _planned(policy, seen[rows], int(seed))
            observation = residual_observation(policy, seen[rows], base, correction.poses)
            residual = (action[rows] - base) / policy.action_normalizer.half_range / correction.alpha
            limited = residual.clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
            pieces.append(episode_transitions(observation.cpu(), limited.cpu(), reward[rows], n_steps, discount))
    if not pieces:
        raise ResipError(f"{demos.path} holds no successful demonstration to learn from")
    return Transitions.joined(pieces)


@torch.no_grad()
def _planned(policy: BasePolicy, seen: Tensor, seed: int) -> Tensor:
    """The base's actions ``(T, 10)`` along an episode ``(T, D)``, chunk after chunk."""
    starts = seen[:: policy.action_horizon]
    noise = torch.randn(len(starts), *policy.noise_shape, generator=torch.Generator().manual_seed(seed))
    chunks = policy.sample(starts, noise.to(starts.device))
    return chunks[:, : policy.action_horizon].flatten(0, 1)[: len(seen)]
