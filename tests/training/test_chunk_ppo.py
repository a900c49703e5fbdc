"""PPO on chunks: it mends a cloned MLP, stays near it, and repeats none of the reference's faults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from resip.errors import ResipError
from resip_training.algorithms.chunk_ppo import ChunkPPO
from resip_training.algorithms.online_trainer import OnlineTrainer
from resip_training.algorithms.settings import PAPER_CHUNK_PPO, ChunkPPOConfig
from resip_training.checkpoints import load_teacher
from resip_training.models.mlp import MlpBase
from resip_training.rollout.episodes import BaseAgent, run_episodes
from resip_training.runs import Budget, read_config
from resip_training.train_online import train_online
from state_runs import PEG_HOLE_DIM, peg_hole_base
from torch.distributions import kl_divergence
from toy_cell import EVALUATION_SEEDS, ToyCell, chunk_env, cloned_mlp, observations, successes

TOY = ChunkPPOConfig(
    num_envs=32,
    width=64,
    rollout_steps=8,
    minibatches=2,
    actor_rate=1e-3,
    kl_step=0.05,
    discount=0.9,  # of episodes that a good policy ends within two chunks
    log_std=-2.5,
    kl_weight=0.01,
    critic_first=2,
    along_demonstrations=0.0,
    poses="absolute",
)


@pytest.fixture(scope="module")
def base() -> MlpBase:
    return cloned_mlp()


def learner(base: MlpBase, config: ChunkPPOConfig = TOY) -> ChunkPPO:
    return ChunkPPO(config, chunk_env(ToyCell(config.num_envs), config.seed), base)


def flip(optimizer: torch.optim.Optimizer) -> None:
    """Climb where it should descend."""
    for group in optimizer.param_groups:
        group["maximize"] = True


def trained(base: MlpBase, iterations: int, flipped: bool) -> float:
    algorithm = learner(base)
    if flipped:
        flip(algorithm.actor_optimizer)
    for i in range(iterations):
        algorithm.iterate(i / iterations)
    return successes(ToyCell(50), algorithm.agent(50))


def test_it_mends_its_base_unless_its_gradient_has_the_wrong_sign(base: MlpBase) -> None:
    before = successes(ToyCell(50), BaseAgent(base, 50))
    assert before < 0.1
    assert trained(base, 20, flipped=False) > 0.9
    assert trained(base, 20, flipped=True) <= before + 0.1


def test_it_starts_as_its_base_to_the_bit(base: MlpBase) -> None:
    algorithm = learner(base)
    alone = run_episodes(ToyCell(20), BaseAgent(base, 20), EVALUATION_SEEDS[:40])
    assert run_episodes(ToyCell(20), algorithm.agent(20), EVALUATION_SEEDS[:40]) == alone
    seen = observations(16)
    mean = algorithm.model.distribution(seen).mean
    assert torch.equal(mean, base.sample(seen, torch.zeros(16, 4, 10)))


def test_dropout_is_off_while_it_learns_so_the_first_ratio_is_one() -> None:
    base = cloned_mlp(dropout=0.5)
    algorithm = learner(base, replace(TOY, critic_first=0))
    algorithm.iterate(0.0)
    assert not any(module.training for module in algorithm.policy.modules())
    rollout, _ = algorithm._collect()
    seen, action = rollout.observation.flatten(0, 1), rollout.action.flatten(0, 1)
    assert algorithm._divergence(seen, action, rollout.log_prob.flatten()) == pytest.approx(0.0, abs=1e-6)


def test_it_acts_by_the_mean_when_it_is_measured(base: MlpBase) -> None:
    agent, seen = learner(base).agent(8), observations(8)
    agent.start(torch.ones(8, dtype=torch.bool), list(range(8)))
    assert torch.equal(agent.act(seen), base.sample(seen, torch.zeros(8, 4, 10))[:, 0])


def test_the_divergence_from_the_cloned_policy_by_hand(base: MlpBase) -> None:
    algorithm, seen = learner(base), observations(5)
    assert algorithm._figures(seen)["kl_from_cloned"] == 0.0
    with torch.no_grad():
        algorithm.policy.network[-1].bias += 0.1
        algorithm._actor.log_std += 0.3
    new = algorithm.model.distribution(seen)
    # of one number, in units of the cloned deviation: a mean moved by m, a deviation grown by s
    m, s = 0.1 / torch.tensor(TOY.log_std).exp(), torch.tensor(0.3).exp()
    by_hand = 4 * 10 * (-0.3 + (s**2 + m**2) / 2 - 0.5)
    assert algorithm._divergence_from_cloned(seen, new).mean().item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert kl_divergence(new, new).abs().max() == 0


def test_its_penalty_pulls_back_to_the_cloned_policy(base: MlpBase) -> None:
    def strayed_then_trained(weight: float) -> float:
        config = replace(TOY, kl_weight=weight, critic_first=0, kl_step=0.0, kl_stop=1e9, actor_rate=1e-3, epochs=8)
        algorithm = ChunkPPO(config, chunk_env(ToyCell(16, max_steps=4)), base)
        with torch.no_grad():
            algorithm.policy.network[-1].bias += 0.2
        for _ in range(5):
            figures = algorithm.iterate(0.0)
        return figures["kl_from_cloned"]

    strayed = 40 * 0.5 * (0.2 / torch.tensor(TOY.log_std).exp().item()) ** 2
    assert strayed_then_trained(0.5) < 0.2 * strayed
    assert strayed_then_trained(0.0) > 0.5 * strayed


def test_a_resumed_run_repeats_what_an_uninterrupted_one_does(base: MlpBase) -> None:
    def run(config: ChunkPPOConfig) -> OnlineTrainer:
        env = chunk_env(ToyCell(8), config.seed)
        algorithm = ChunkPPO(config, env, base)
        return OnlineTrainer(algorithm, env, base, algorithm.agent, ToyCell(4), config)

    config = replace(TOY, num_envs=8, validation_episodes=8, critic_first=1)
    one, other = run(config), run(config)
    for _ in range(3):
        one.train_step(0.1)
    one.validate()
    saved = {name: value.clone() for name, value in one.tensors().items()}
    one.train_step(0.5)
    other.load_tensors(saved, step=3 * 8 * 8 * 4)
    other.train_step(0.5)
    assert one.step == other.step == 4 * 8 * 8 * 4
    expected, actual = one.tensors(), other.tensors()
    assert expected.keys() == actual.keys()
    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []


def test_a_run_that_got_worse_than_its_base_is_not_the_best() -> None:
    base = cloned_mlp(beside=0.0)
    config = replace(TOY, num_envs=8, validation_episodes=20)
    env = chunk_env(ToyCell(8))
    algorithm = ChunkPPO(config, env, base)
    trainer = OnlineTrainer(algorithm, env, base, algorithm.agent, ToyCell(20), config)
    with torch.no_grad():
        algorithm.policy.network[-1].bias += 5.0
    assert trainer.validate() == {"success": 0.0, "success/base": 1.0, "improved": 0.0}
    with torch.no_grad():
        algorithm.policy.network[-1].bias -= 5.0
    assert trainer.validate()["improved"] == 1.0


def test_the_papers_settings() -> None:
    paper = PAPER_CHUNK_PPO
    assert (paper.epochs, paper.actor_rate, paper.critic_rate, paper.kl_weight) == (1, 1e-4, 1e-4, 0.5)
    assert (paper.log_std, paper.value_weight, paper.num_envs, paper.minibatches) == (-4.0, 1.0, 1024, 1)
    assert (paper.discount, paper.trace, paper.clip, paper.kl_stop, paper.clip_norm) == (0.999, 0.95, 0.2, 0.1, 1.0)


def test_a_run_in_physics_leaves_the_policy_that_evaluation_acts_with(tmp_path: Path) -> None:
    base = peg_hole_base(tmp_path / "base", "mlp")
    config = ChunkPPOConfig(
        num_envs=2,
        width=16,
        rollout_steps=2,
        critic_first=0,
        along_demonstrations=0.0,
        episode_steps=20,
        validations=1,
        validation_episodes=2,
    )
    train_online(base, tmp_path / "run", config, budget=Budget(steps=64))
    assert read_config(tmp_path / "run")["algorithm"] == "chunk-ppo"
    teacher = load_teacher(tmp_path / "run")
    seen = torch.rand(2, PEG_HOLE_DIM, generator=torch.Generator().manual_seed(0))
    agent = teacher.agent(2)
    agent.start(torch.ones(2, dtype=torch.bool), [0, 1])
    acted, cloned = agent.act(seen), teacher.policy.sample(seen, torch.zeros(2, 8, 10))[:, 0]
    assert 0 < (acted - cloned).abs().max() < 0.05


def test_a_base_that_is_no_mlp_is_refused_and_nothing_is_begun(tmp_path: Path) -> None:
    base = peg_hole_base(tmp_path / "base", "diffusion")
    with pytest.raises(ResipError, match=r"chunk-ppo fine-tunes an MLP: .*mlp-c"):
        train_online(base, tmp_path / "run", ChunkPPOConfig())
    assert not (tmp_path / "run").exists()
