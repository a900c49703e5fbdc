"""A residual's worlds on a device, on Warp's CPU device: tensors stay there, and later starts are the device's own.

The first run on a machine compiles for half a minute or so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from resip_training.algorithms.residual_ppo import ResidualPPO
from resip_training.algorithms.settings import ResidualPPOConfig
from resip_training.algorithms.state_bc import StateBCConfig, StateBCTrainer, load_state_data
from resip_training.data.collect import collect
from resip_training.data.store import DemoSet
from resip_training.models.base_policy import BasePolicy
from resip_training.models.diffusion import DiffusionConfig
from resip_training.rollout.residual_env import Correction, ResidualEnv
from resip_training.rollout.starts import Starts
from resip_training.sim import warp_worlds
from resip_training.sim.env import AssemblyEnv

pytestmark = pytest.mark.timeout(600)
WORLDS, LIMIT = 2, 3


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    path: Path = tmp_path_factory.mktemp("device") / "demos"
    collect("peg_hole", 1, 300, "low", path, threads=1, images=False)
    return DemoSet(path)


@pytest.fixture(scope="module")
def policy(demos: DemoSet) -> BasePolicy:
    config = StateBCConfig(DiffusionConfig(width=32, blocks=1, inference_steps=2), batch_size=16)
    return StateBCTrainer(config, load_state_data(demos, config)).average


@pytest.fixture(scope="module")
def worlds() -> AssemblyEnv:
    return AssemblyEnv("peg_hole", WORLDS, device="warp-cpu", threads=1)


@pytest.fixture(autouse=True)
def few_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp_worlds, "AUTOMATIC_STARTS", 4)


def make(worlds: AssemblyEnv, policy: BasePolicy, demos: DemoSet, share: float) -> ResidualEnv:
    starts = Starts(WORLDS, 0, share, demos, worlds.worlds.snapshot())
    return ResidualEnv(worlds, policy, Correction(0.1), starts, LIMIT)


def test_only_the_first_episodes_ask_for_seeds(
    worlds: AssemblyEnv, policy: BasePolicy, demos: DemoSet, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Sequence[int | None]] = []
    reset = worlds.worlds.reset
    monkeypatch.setattr(worlds.worlds, "reset", lambda mask, seeds: (asked.append(seeds), reset(mask, seeds)))
    env = make(worlds, policy, demos, share=0.0)
    for _ in range(2 * LIMIT):
        env.step(torch.zeros(WORLDS, 10))
    first, *others = asked
    assert None not in first
    assert others == [[None] * WORLDS] * 2


def test_the_actions_reach_the_device_as_tensors(
    worlds: AssemblyEnv, policy: BasePolicy, demos: DemoSet, monkeypatch: pytest.MonkeyPatch
):
    given: list[object] = []
    step = worlds.worlds.step
    monkeypatch.setattr(worlds.worlds, "step", lambda actions: (given.append(actions), step(actions)))
    env = make(worlds, policy, demos, share=0.0)
    env.step(torch.zeros(WORLDS, 10))
    assert all(isinstance(actions, torch.Tensor) for actions in given)


def test_episodes_begin_along_demonstrations_there_too(worlds: AssemblyEnv, policy: BasePolicy, demos: DemoSet):
    make(worlds, policy, demos, share=1.0)
    steps = worlds.state()["episode_steps"].tolist()
    seen = torch.as_tensor(worlds.part_poses()[:, :2].reshape(WORLDS, -1))
    for i, step in enumerate(steps):
        torch.testing.assert_close(seen[i], torch.from_numpy(demos.part_poses[step, :14]).double(), rtol=0, atol=1e-4)


def test_what_is_saved_there_is_resumed_there(worlds: AssemblyEnv, policy: BasePolicy, demos: DemoSet):
    env = make(worlds, policy, demos, share=0.5)
    env.step(torch.zeros(WORLDS, 10))
    saved, seen = env.state(), worlds.part_poses().clone()
    observation = env.observation.clone()
    env.step(torch.ones(WORLDS, 10))
    env.load_state(saved)
    assert torch.equal(env.observation, observation)
    torch.testing.assert_close(worlds.part_poses(), seen)


def test_ppo_learns_there(worlds: AssemblyEnv, policy: BasePolicy, demos: DemoSet):
    config = ResidualPPOConfig(num_envs=WORLDS, rollout_steps=4, epochs=1, minibatches=2, critic_first=0, width=16)
    ppo = ResidualPPO(config, make(worlds, policy, demos, share=0.5))
    figures = ppo.iterate(0.0)
    assert figures["episodes"] >= WORLDS
    assert figures["residual_mean"] > 0
