"""The off-policy residual mends a biased base; with a flipped gradient it does not; a resumed run is the same run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from resip.errors import ResipError
from resip_training.algorithms.replay import Transitions
from resip_training.algorithms.residual_offpolicy import ResidualOffPolicy
from resip_training.algorithms.settings import ResidualOffPolicyConfig
from torch import Tensor
from toy_residual_env import TIME_LIMIT, ToyResidualEnv

WORLDS = 16
CONFIG = ResidualOffPolicyConfig(
    num_envs=WORLDS,
    width=128,
    critics=3,
    discount=0.95,
    n_steps=3,
    batch_size=128,
    update_ratio=0.125,
    critic_rate=2e-3,
    actor_rate=1e-3,
    average_rate=0.02,
    target_rate=0.04,
    warmup=2000,
    critic_first=100,
    residual_penalty=0.005,
)
ENOUGH = 14_000  # control steps
TINY = replace(CONFIG, update_ratio=0.25, width=16, batch_size=16, critics=2, warmup=10 * WORLDS, critic_first=20)


def learner(config: ResidualOffPolicyConfig, kind: type[ResidualOffPolicy] = ResidualOffPolicy) -> ResidualOffPolicy:
    return kind(config, ToyResidualEnv(WORLDS, seed=config.seed))


def trained(algorithm: ResidualOffPolicy, control_steps: int) -> ResidualOffPolicy:
    for _ in range(control_steps // WORLDS):
        algorithm.iterate(0.0)
    return algorithm


def success_rate(algorithm: ResidualOffPolicy) -> float:
    """Of the first episode in each of 200 worlds that training never saw."""
    env = ToyResidualEnv(200, seed=10_000)
    succeeded = over = torch.zeros(200, dtype=torch.bool)
    for _ in range(TIME_LIMIT):
        step = env.step(algorithm.act(env.observation))
        succeeded = succeeded | (step.success & ~over)
        over = over | step.terminated | step.truncated
    return succeeded.float().mean().item()


def test_it_mends_a_base_that_nearly_always_misses() -> None:
    algorithm = learner(CONFIG)
    assert success_rate(algorithm) < 0.2
    assert success_rate(trained(algorithm, ENOUGH)) > 0.9


def test_with_the_choice_by_value_it_does_so_too() -> None:
    assert success_rate(trained(learner(replace(CONFIG, max_q=True)), ENOUGH)) > 0.9


class ClimbingActor(ResidualOffPolicy):
    def _actor_loss(self, whitened: Tensor) -> Tensor:
        return -super()._actor_loss(whitened)


class ClimbingCritics(ResidualOffPolicy):
    def _critic_loss(self, whitened: Tensor, batch: Transitions) -> Tensor:
        return -super()._critic_loss(whitened, batch)


@pytest.mark.parametrize("flipped", [ClimbingActor, ClimbingCritics])
def test_with_a_flipped_gradient_it_does_not(flipped: type[ResidualOffPolicy]) -> None:
    assert success_rate(trained(learner(CONFIG, flipped), ENOUGH)) < 0.3


def test_it_starts_as_exactly_the_base() -> None:
    algorithm = learner(CONFIG)
    base, corrected = ToyResidualEnv(8, seed=3), ToyResidualEnv(8, seed=3)
    for _ in range(TIME_LIMIT):
        residual = algorithm.act(corrected.observation)
        executed = corrected.base_action + corrected.alpha * residual
        assert torch.equal(executed, base.base_action)
        base.step(torch.zeros(8, 2))
        corrected.step(residual)


def test_the_actor_waits_for_the_critics() -> None:
    algorithm = learner(TINY)
    seen = algorithm.env.observation.clone()
    while algorithm.updates <= TINY.critic_first:
        assert torch.equal(algorithm.act(seen), torch.zeros(WORLDS, 2))
        algorithm.iterate(0.0)
    assert algorithm.act(seen).abs().max() > 0


def test_updates_come_in_their_ratio_to_control_steps() -> None:
    algorithm = trained(learner(replace(TINY, update_ratio=0.1)), TINY.warmup + 100 * WORLDS)
    assert algorithm.updates == 0.1 * 100 * WORLDS
    step = algorithm.critic_optimizer.state_dict()["state"][0]["step"]
    assert step == algorithm.updates


def test_warm_up_is_prior_data_and_what_follows_is_not() -> None:
    algorithm = trained(learner(TINY), TINY.warmup + 10 * WORLDS)
    assert len(algorithm.prior) + len(algorithm.online) + int(algorithm.queue.state()["waiting"].sum()) == 20 * WORLDS
    assert len(algorithm.prior) >= TINY.warmup - WORLDS * TINY.n_steps
    assert len(algorithm.prior) <= TINY.warmup


def test_a_batch_is_mixed_in_its_proportion() -> None:
    algorithm = trained(learner(replace(TINY, batch_size=64, prior_share=0.25)), TINY.warmup + 10 * WORLDS)
    for buffer, mark in ((algorithm.prior, 1.0), (algorithm.online, 2.0)):
        buffer.unpack(buffer.rows).reward.fill_(mark)
    assert algorithm._batch().reward.sum() == 16 * 1.0 + 48 * 2.0


def batch_of_one(algorithm: ResidualOffPolicy, reward: float, discount: float) -> Transitions:
    seen = algorithm.env.observation[:1].clone()
    return Transitions(seen, torch.zeros(1, 2), torch.tensor([reward]), torch.tensor([discount]), seen)


def test_a_target_is_the_reward_and_the_smaller_discounted_value() -> None:
    algorithm = learner(replace(TINY, critics=2))
    algorithm.model.critics.forward = lambda inputs, chosen=None: torch.tensor([[0.6], [0.4]])
    assert algorithm._target(batch_of_one(algorithm, 0.25, 0.5)).tolist() == [pytest.approx(0.25 + 0.5 * 0.4)]
    assert algorithm._target(batch_of_one(algorithm, 0.25, 0.0)).tolist() == [0.25]


def test_a_target_stays_within_what_an_episode_can_bring() -> None:
    algorithm = learner(TINY)
    for value, expected in ((7.0, 1.0), (-7.0, 0.0)):
        algorithm.model.critics.forward = lambda inputs, chosen=None, value=value: torch.full((2, 1), value)
        assert algorithm._target(batch_of_one(algorithm, 0.0, 0.9)).tolist() == [expected]


def test_with_the_choice_by_value_a_target_takes_the_better_of_base_and_corrected_action() -> None:
    algorithm = learner(replace(TINY, max_q=True, target_noise=0.0))
    torch.nn.init.constant_(algorithm.actor.last.bias, 0.5)  # a residual that is not zero
    algorithm.model.critics.forward = lambda inputs, chosen=None: 0.8 - inputs[:, -2:].abs().sum(-1).expand(2, -1)
    assert algorithm._target(batch_of_one(algorithm, 0.0, 0.5)).tolist() == [pytest.approx(0.4)]


def test_a_resumed_run_is_the_same_run() -> None:
    env = ToyResidualEnv(WORLDS, seed=0)
    straight = trained(ResidualOffPolicy(TINY, env), 50 * WORLDS)
    tensors = {name: value.clone() for name, value in straight.tensors().items()}
    worlds = env.state()
    trained(straight, 20 * WORLDS)

    other_env = ToyResidualEnv(WORLDS, seed=7)
    resumed = ResidualOffPolicy(TINY, other_env)
    resumed.load_tensors(tensors)
    other_env.load_state(worlds)
    trained(resumed, 20 * WORLDS)

    expected, got = straight.tensors(), resumed.tensors()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert resumed.updates > TINY.critic_first


def test_demonstrations_are_prior_data_from_the_start() -> None:
    seen = torch.randn(40, 6)
    demonstrations = Transitions(seen, torch.zeros(40, 2), torch.ones(40), torch.zeros(40), seen)
    algorithm = ResidualOffPolicy(replace(TINY, warmup=0), ToyResidualEnv(WORLDS, 0), demonstrations=demonstrations)
    trained(algorithm, 10 * WORLDS)
    assert torch.equal(algorithm.prior.unpack(algorithm.prior.rows).observation[:40], seen)
    assert algorithm.updates > 0


def test_nothing_to_begin_from_is_refused() -> None:
    with pytest.raises(ResipError, match=r"warmup 10 leaves nothing .* at least 48 control steps"):
        learner(replace(TINY, warmup=10))


def test_a_single_critic_is_refused() -> None:
    with pytest.raises(ResipError, match="critics 1 are too few"):
        learner(replace(TINY, critics=1))
