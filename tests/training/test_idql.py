"""Choice by Q: it learns which of its base's chunks is worth most, and Q is in the checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from resip.errors import ResipError
from resip_training.algorithms.idql import IDQL
from resip_training.algorithms.online_trainer import OnlineTrainer
from resip_training.algorithms.settings import PAPER_IDQL, IDQLConfig
from resip_training.checkpoints import load_teacher
from resip_training.evaluate import evaluate
from resip_training.models.chunk_choice import BestOfSamples, ChunkCritic
from resip_training.rollout.episodes import BaseAgent, run_episodes
from resip_training.runs import Budget, read_weights
from resip_training.train_online import train_online
from state_runs import PEG_HOLE_DIM, peg_hole_base
from toy_cell import CHUNK, EVALUATION_SEEDS, CoinPolicy, ToyCell, chunk_env, observations, successes

TOY = IDQLConfig(
    num_envs=32,
    width=64,
    rollout_chunks=8,
    critic_rate=3e-3,
    discount=0.9,
    along_demonstrations=0.0,
    poses="absolute",
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def cell(num_envs: int) -> ToyCell:
    """Where the wrong side is a trap, so that a coin decides."""
    return ToyCell(num_envs, trap=True)


def learner(config: IDQLConfig = TOY) -> IDQL:
    return IDQL(config, chunk_env(cell(config.num_envs), config.seed), CoinPolicy())


def trained(iterations: int, flipped: bool) -> float:
    algorithm = learner()
    for group in algorithm.optimizer.param_groups:
        group["maximize"] = flipped
    for i in range(iterations):
        algorithm.iterate(i / iterations)
    return successes(cell(50), algorithm.agent(50))


def test_it_chooses_the_right_chunks_unless_its_gradient_has_the_wrong_sign() -> None:
    assert 0.35 < successes(cell(50), BaseAgent(CoinPolicy(), 50)) < 0.65
    assert trained(15, flipped=False) > 0.95
    assert trained(15, flipped=True) < 0.65


def test_it_starts_as_its_base_to_the_bit() -> None:
    alone = run_episodes(cell(20), BaseAgent(CoinPolicy(), 20), EVALUATION_SEEDS[:40])
    assert run_episodes(cell(20), learner().agent(20), EVALUATION_SEEDS[:40]) == alone


class FarRight(ChunkCritic):
    """Values a chunk by how far to the right it goes."""

    def forward(self, observation: torch.Tensor, chunk: torch.Tensor) -> torch.Tensor:
        assert chunk.shape[1:] == (CHUNK, 10), "it is shown what will be executed"
        return chunk[:, :, 0].mean(dim=1)


def test_the_best_of_the_samples_is_taken() -> None:
    policy = CoinPolicy()
    noise = torch.randn(6, *policy.noise_shape)
    chosen = BestOfSamples(policy, FarRight(policy, 8, "absolute"), 20).sample(observations(6), noise)
    own = policy.sample(observations(6), noise)
    assert chosen.shape == own.shape
    assert (chosen[:, 0, 0] >= own[:, 0, 0]).all()
    assert (own[:, 0, 0] < 0).any()
    assert (chosen[:, 0, 0] > 0.5).all(), "of 20 tosses at least one is to the right"


def test_the_samples_come_from_noise_that_is_standard_normal_and_differs() -> None:
    seen: list[torch.Tensor] = []

    class Recorder(CoinPolicy):
        def predict(self, features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            seen.append(noise)
            return super().predict(features, noise)

    policy, noise = Recorder(), torch.randn(500, *CoinPolicy().noise_shape)
    BestOfSamples(policy, ChunkCritic(policy, 8, "absolute"), 20).sample(observations(500), noise)
    own, others = seen[0], seen[1].unflatten(0, (500, 19))
    assert torch.equal(own, noise)
    torch.testing.assert_close(others.mean(dim=(0, 1)), torch.zeros(policy.noise_shape), atol=0.06, rtol=0)
    torch.testing.assert_close(others.std(dim=(0, 1)), torch.ones(policy.noise_shape), atol=0.06, rtol=0)
    alike = torch.nn.functional.cosine_similarity(own.flatten(1)[:, None], others.flatten(2), dim=-1).mean(dim=0)
    assert alike.abs().max() < 0.4


def test_its_returns_follow_the_chunks_that_were_executed() -> None:
    algorithm = learner()
    torch.nn.init.normal_(algorithm.critic.value[-1].weight)
    rollout, _ = algorithm._collect()
    on = ~rollout.ended[:-1]
    assert on.any()
    assert rollout.ended.any()
    torch.testing.assert_close(rollout.next_value[:-1][on], rollout.value[1:][on])


def test_training_adds_noise_in_units_of_normalised_actions() -> None:
    algorithm, seen = learner(replace(TOY, log_std=-2.0)), torch.zeros(2000, 30)
    still = algorithm._explore(seen)[:, :, 1]  # along y, where the base's chunks are all the same
    expected = torch.tensor(-2.0).exp() * algorithm.base.action_normalizer.half_range[1]
    assert still.std().item() == pytest.approx(expected.item(), rel=0.03)


def test_a_resumed_run_repeats_what_an_uninterrupted_one_does() -> None:
    def run(config: IDQLConfig) -> OnlineTrainer:
        env = chunk_env(cell(8), config.seed)
        algorithm = IDQL(config, env, CoinPolicy())
        return OnlineTrainer(algorithm, env, algorithm.base, algorithm.agent, cell(4), config)

    config = replace(TOY, num_envs=8, validation_episodes=8)
    torch.manual_seed(0)
    one = run(config)
    torch.manual_seed(0)
    other = run(config)
    for _ in range(3):
        one.train_step(0.1)
    one.validate()
    saved = {name: value.clone() for name, value in one.tensors().items()}
    one.train_step(0.5)
    other.load_tensors(saved, step=3 * 8 * 8 * CHUNK)
    other.train_step(0.5)
    assert one.step == other.step == 4 * 8 * 8 * CHUNK
    expected, actual = one.tensors(), other.tensors()
    assert expected.keys() == actual.keys()
    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []


def test_the_papers_settings() -> None:
    paper = PAPER_IDQL
    assert (paper.epochs, paper.critic_rate, paper.samples, paper.log_std) == (10, 1e-4, 20, -4.0)
    assert (paper.discount, paper.trace, paper.clip_norm, paper.minibatches) == (0.999, 0.95, 1.0, 1)


def test_the_critic_is_the_papers_and_prefers_nothing_at_first() -> None:
    critic = ChunkCritic(CoinPolicy(), 256, "absolute")
    kinds = [type(layer).__name__ for layer in critic.value]
    assert kinds == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    values = critic(observations(9), torch.randn(9, CHUNK, 10))
    assert torch.equal(values, torch.full((9,), 0.25))


def test_a_run_in_physics_saves_q_and_evaluation_acts_by_it(tmp_path: Path) -> None:
    base = peg_hole_base(tmp_path / "base", "diffusion")
    config = IDQLConfig(
        num_envs=2,
        width=16,
        rollout_chunks=2,
        along_demonstrations=0.0,
        episode_steps=20,
        validations=1,
        validation_episodes=2,
    )
    run = tmp_path / "run"
    train_online(base, run, config, budget=Budget(steps=64))
    assert read_weights(run, "q.").keys() == {f"value.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")}
    teacher = load_teacher(run)
    assert teacher.learned == "base chosen by Q"
    seen = torch.rand(40, PEG_HOLE_DIM)
    agent, alone = teacher.agent(40), BaseAgent(teacher.policy, 40)
    for one in (agent, alone):
        one.start(torch.ones(40, dtype=torch.bool), list(range(40)))
    differs = (agent.act(seen) != alone.act(seen)).any(dim=-1)
    assert differs.float().mean() > 0.5
    figures = evaluate(run, episodes=2)
    assert figures["base_success"]["n"] == figures["success"]["n"] == 2


def test_a_base_that_has_no_samples_is_refused_and_nothing_is_begun(tmp_path: Path) -> None:
    base = peg_hole_base(tmp_path / "base", "mlp")
    with pytest.raises(ResipError, match=r"idql chooses among samples: .*dp"):
        train_online(base, tmp_path / "run", IDQLConfig())
    assert not (tmp_path / "run").exists()
