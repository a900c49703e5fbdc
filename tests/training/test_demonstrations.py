"""Demonstrations become what a residual on the base would have experienced in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_demos import PROVENANCE, make_episode
from resip.errors import ResipError
from resip_training.data.store import DemoSet, DemoWriter
from resip_training.models.base_policy import BasePolicy
from resip_training.models.features import Inputs
from resip_training.models.mlp import MlpBase, MlpConfig
from resip_training.rollout.demonstrations import RESIDUAL_LIMIT, demonstrated_transitions
from resip_training.rollout.residual_env import Correction

N_STEPS = 11
ALPHA = 0.5
CORRECTION = Correction(ALPHA)


def written(path: Path, successes: tuple[bool, ...]) -> DemoSet:
    """Demonstrations rewarded at their last step."""
    writer = DemoWriter(path, replace(PROVENANCE, images=False))
    for seed, success in enumerate(successes):
        reward = np.zeros(N_STEPS)
        reward[-1] = float(success)
        episode = replace(make_episode(seed, N_STEPS), reward=reward, success=success, front=None, wrist=None)
        writer.append(episode)
    return DemoSet(path)


def seen(demos: DemoSet) -> torch.Tensor:
    return torch.cat([torch.from_numpy(demos.robot_state), torch.from_numpy(demos.part_poses)], dim=-1)


def base_of(demos: DemoSet) -> BasePolicy:
    torch.manual_seed(0)
    observation = seen(demos)
    policy = MlpBase(MlpConfig(width=16, blocks=1), Inputs(observation.shape[1], tuple(range(observation.shape[1]))))
    policy.fit(observation, torch.from_numpy(demos.action).unsqueeze(1).expand(-1, policy.prediction_horizon, -1))
    return policy.eval().requires_grad_(False)


def test_each_step_is_there_with_its_return(tmp_path: Path) -> None:
    demos = written(tmp_path / "demos", (True, True))
    transitions = demonstrated_transitions(demos, base_of(demos), CORRECTION, n_steps=3, discount=0.5)
    assert len(transitions) == 2 * N_STEPS
    # the reward of 1 is 0, 1 or 2 steps ahead of the last three steps of each, and their future is cut
    assert sorted(transitions.reward.tolist(), reverse=True)[:7] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0]
    assert torch.equal(transitions.discount == 0, transitions.reward > 0)
    assert set(transitions.discount.tolist()) == {0, 0.125}


def test_base_and_residual_make_the_demonstrated_action(tmp_path: Path) -> None:
    demos = written(tmp_path / "demos", (True,))
    policy = base_of(demos)
    transitions = demonstrated_transitions(demos, policy, CORRECTION, n_steps=1, discount=0.5)
    base = transitions.observation[:, -10:]
    wanted = policy.action_normalizer.normalize(torch.from_numpy(demos.action))
    within = (wanted - base).abs() < RESIDUAL_LIMIT * ALPHA
    assert within.float().mean() > 0.5
    torch.testing.assert_close((base + ALPHA * transitions.residual)[within], wanted[within])
    assert transitions.residual.abs().max() <= RESIDUAL_LIMIT


def test_the_base_plans_a_chunk_at_a_time(tmp_path: Path) -> None:
    demos = written(tmp_path / "demos", (True,))
    policy = base_of(demos)
    transitions = demonstrated_transitions(demos, policy, CORRECTION, n_steps=1, discount=0.5)
    second = policy.sample(seen(demos)[8:9], torch.zeros(1, *policy.noise_shape))[0, : N_STEPS - 8]
    torch.testing.assert_close(transitions.observation[8:, -10:], policy.action_normalizer.normalize(second))


def test_failures_are_left_out(tmp_path: Path) -> None:
    demos = written(tmp_path / "demos", (False, True))
    assert len(demonstrated_transitions(demos, base_of(demos), CORRECTION, n_steps=3, discount=0.5)) == N_STEPS


def test_nothing_but_failures_is_refused(tmp_path: Path) -> None:
    demos = written(tmp_path / "demos", (False,))
    with pytest.raises(ResipError, match="no successful demonstration"):
        demonstrated_transitions(demos, base_of(demos), CORRECTION, n_steps=3, discount=0.5)
