"""Residual PPO: it learns what a broken one does not, starts as its base, and resumes exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from resip_training.algorithms import ppo as ppo_module
from resip_training.algorithms.ppo import RewardScale
from resip_training.algorithms.residual_ppo import ResidualPPO
from resip_training.algorithms.settings import ResidualPPOConfig
from resip_training.models.residual import GaussianResidual
from torch import Tensor
from toy_residual_env import ToyResidualEnv

CONFIG = ResidualPPOConfig(
    num_envs=64,
    rollout_steps=60,
    critic_first=1,
    actor_rate=1e-3,
    kl_step=0.06,
    discount=0.97,
    log_std=-1.0,
    width=64,
    noise_memory=0.0,  # the toy's hand is at once where an action says
)
ITERATIONS = 35


def success_of(residual: ResidualPPO, episodes: int = 256) -> float:
    env = ToyResidualEnv(episodes, seed=99)
    succeeded, over = torch.zeros(episodes, dtype=torch.bool), torch.zeros(episodes, dtype=torch.bool)
    while not over.all():
        step = env.step(residual.act(env.observation))
        succeeded |= ~over & step.success
        over |= step.terminated | step.truncated
    return float(succeeded.float().mean())


def trained(config: ResidualPPOConfig = CONFIG, iterations: int = ITERATIONS) -> ResidualPPO:
    ppo = ResidualPPO(config, ToyResidualEnv(config.num_envs, seed=0))  # pyright: ignore[reportArgumentType] (a toy)
    for i in range(iterations):
        ppo.iterate(i / iterations)
    return ppo


def test_it_mends_a_base_that_nearly_always_misses():
    assert success_of(trained(iterations=0)) < 0.2
    assert success_of(trained()) > 0.8


def test_with_the_sign_of_the_advantage_flipped_it_does_not(monkeypatch: pytest.MonkeyPatch):
    right = ppo_module.advantages
    monkeypatch.setattr(ppo_module, "advantages", lambda *args: -right(*args))
    assert success_of(trained()) < 0.2


def test_whitened_inputs_are_learned_from_sooner():
    plain, whitened = (success_of(trained(replace(CONFIG, whiten=whiten), 15)) for whiten in (False, True))
    assert whitened > plain + 0.2


def test_exploration_remembers_a_share_of_itself_and_keeps_its_size():
    ppo = ResidualPPO(replace(CONFIG, noise_memory=0.8), ToyResidualEnv(CONFIG.num_envs, seed=0))  # pyright: ignore[reportArgumentType]
    noise = torch.stack([ppo._next_noise((4, 2)) for _ in range(4000)])
    assert float(noise.std()) == pytest.approx(1.0, abs=0.05)
    assert float((noise[1:] * noise[:-1]).mean()) == pytest.approx(0.8, abs=0.08)


def test_its_networks_are_whitened_by_the_first_rollout_and_it_is_still_its_base():
    ppo, twin = (ResidualPPO(CONFIG, ToyResidualEnv(64, seed=0)) for _ in range(2))  # pyright: ignore[reportArgumentType]
    seen = twin._collect()[0].observation.flatten(0, 1)
    ppo.iterate(0.0)
    for network in (ppo.model.actor, ppo.model.critic):
        covariance = torch.cov(network.whitening(seen).T)
        torch.testing.assert_close(covariance, covariance.diag().diag(), rtol=0, atol=0.02)
        assert ((covariance.diag() > 0.2) & (covariance.diag() < 1.02)).all(), "less than 1 below the floor"
    assert torch.equal(ppo.act(seen), torch.zeros(len(seen), 2))
    before = ppo.model.actor.whitening.directions.clone()
    ppo.iterate(0.1)
    assert torch.equal(ppo.model.actor.whitening.directions, before), "of the first rollout alone"
    assert not torch.equal(ppo.act(seen), torch.zeros(len(seen), 2))


def test_it_starts_as_its_base():
    actor = GaussianResidual(20, 64, log_std=-1.5)
    assert torch.equal(actor(torch.randn(5, 20)), torch.zeros(5, 10))
    assert actor.mean[-1].bias is None


@pytest.mark.parametrize("whiten", [False, True])
def test_a_residual_that_does_not_see_the_base_action_does_not_depend_on_it(whiten: bool):
    actor = GaussianResidual(20, 64, log_std=-1.5, sees_base_action=False, whiten=whiten)
    actor.fit(torch.randn(100, 20))
    with torch.no_grad():
        list(actor.mean.parameters())[-1].fill_(1.0)
    one, other = torch.randn(5, 20), torch.randn(5, 20)
    other[:, :10] = one[:, :10]
    assert torch.equal(actor(one), actor(other))
    assert not torch.equal(actor(one), torch.zeros(5, 10))


def test_an_update_ends_where_the_policy_has_moved_enough():
    eager = replace(CONFIG, actor_rate=1e-2, kl_step=0.0, kl_stop=1e-3, epochs=50, critic_first=0)
    ppo = ResidualPPO(eager, ToyResidualEnv(64, seed=0))  # pyright: ignore[reportArgumentType]
    assert ppo.iterate(0.0)["epochs"] < 10


def test_the_step_size_follows_its_target():
    ppo = ResidualPPO(replace(CONFIG, kl_step=0.02), ToyResidualEnv(64, seed=0))  # pyright: ignore[reportArgumentType]
    ppo._follow(0.2)
    assert ppo.actor_rate < CONFIG.actor_rate
    ppo._follow(0.0)
    assert ppo.actor_rate == pytest.approx(CONFIG.actor_rate)
    ppo._follow(0.02)
    assert ppo.actor_rate == pytest.approx(CONFIG.actor_rate)


def test_only_the_critic_learns_at_first():
    ppo = trained(replace(CONFIG, critic_first=2), iterations=2)
    assert torch.equal(ppo.act(torch.randn(4, 6)), torch.zeros(4, 2))
    ppo.iterate(0.1)
    assert not torch.equal(ppo.act(torch.randn(4, 6)), torch.zeros(4, 2))


def test_a_resumed_run_repeats_the_one_that_was_not_interrupted():
    def continued(ppo: ResidualPPO, env: ToyResidualEnv) -> dict[str, Tensor]:
        for i in range(2):
            ppo.iterate(0.5 + i / 10)
        return {**ppo.tensors(), **env.state()}

    env = ToyResidualEnv(16, seed=1)
    config = replace(CONFIG, num_envs=16, critic_first=0)
    ppo = ResidualPPO(config, env)  # pyright: ignore[reportArgumentType]
    ppo.iterate(0.0)
    saved, saved_env = {name: value.clone() for name, value in ppo.tensors().items()}, env.state()
    uninterrupted = continued(ppo, env)
    other_env = ToyResidualEnv(16, seed=2)
    other_env.load_state(saved_env)
    other = ResidualPPO(replace(config, seed=7), other_env)  # pyright: ignore[reportArgumentType]
    other.load_tensors(saved)
    resumed = continued(other, other_env)
    assert resumed.keys() == uninterrupted.keys()
    for name, value in uninterrupted.items():
        assert torch.equal(resumed[name], value), name


def test_rewards_are_divided_by_the_deviation_of_all_that_were_seen():
    generator = torch.Generator().manual_seed(0)
    batches = [5 * torch.rand(100, generator=generator) for _ in range(20)]
    scale = RewardScale()
    normalized = [scale.normalized(batch) for batch in batches][-1]
    everything = torch.cat(batches)
    torch.testing.assert_close(normalized, batches[-1] / everything.std(), rtol=1e-2, atol=1e-2)
    rare = RewardScale().normalized(torch.tensor([1.0] + [0.0] * 9999))
    assert rare.max() == 5.0, "a rare reward is not blown up further"
