"""The worlds that a residual learns in: chunks, starts, ends, and going on from what was saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from resip.errors import ResipError
from resip_training.algorithms.state_bc import StateBCConfig, StateBCTrainer, load_state_data
from resip_training.data.collect import collect
from resip_training.data.store import DemoSet
from resip_training.models.base_policy import BasePolicy
from resip_training.models.diffusion import DiffusionConfig
from resip_training.rollout.chunks import ChunkedBase
from resip_training.rollout.episodes import BaseAgent, observe, run_episodes
from resip_training.rollout.residual_env import Correction, ResidualEnv
from resip_training.rollout.starts import FIRST_TRAINING_SEED, Starts
from resip_training.rollout.teacher import ResidualAgent, evaluate_pair
from resip_training.sim.env import AssemblyEnv
from torch import Tensor

WORLDS, ALPHA, LIMIT = 3, 0.1, 20
CORRECTION = Correction(ALPHA)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    path = tmp_path_factory.mktemp("residual") / "demos"
    collect("peg_hole", 2, 300, "low", path, threads=1, images=False)
    return DemoSet(path)


@pytest.fixture(scope="module")
def policy(demos: DemoSet) -> BasePolicy:
    """A diffusion policy that has learned next to nothing."""
    config = StateBCConfig(DiffusionConfig(width=32, blocks=1, inference_steps=2), batch_size=16)
    trainer = StateBCTrainer(config, load_state_data(demos, config))
    for i in range(5):
        trainer.train_step(i / 5)
    return trainer.average


def make(policy: BasePolicy, demos: DemoSet | None = None, share: float = 0.0, limit: int = LIMIT) -> ResidualEnv:
    env = AssemblyEnv("peg_hole", WORLDS, threads=1)
    return ResidualEnv(env, policy, CORRECTION, Starts(WORLDS, 0, share, demos, env.worlds.snapshot()), limit)


def nothing() -> Tensor:
    return torch.zeros(WORLDS, 10)


# ---- chunks ----


def test_a_world_plans_when_its_own_chunk_is_used_up(policy: BasePolicy, monkeypatch: pytest.MonkeyPatch):
    planned: list[int] = []
    sample = policy.sample

    def counted(observation: Tensor, noise: Tensor) -> Tensor:
        planned.append(len(observation.unique(dim=0)))  # what fills up a block is no other row
        return sample(observation, noise)

    monkeypatch.setattr(policy, "sample", counted)
    chunks = ChunkedBase(policy, 2)
    chunks.start(np.array([True, True]), [1, 2])
    seen = torch.randn(2, policy.observe.inputs.observation_dim)
    for step in range(2 * policy.action_horizon):
        if step == 3:
            chunks.start(np.array([False, True]), [0, 7])  # an episode ended here: a new plan, for this world alone
        chunks.action(seen)
        chunks.advance()
    assert planned == [2, 1, 1, 1], "both, the one that started anew, the first one's second, the other one's second"


def test_an_episode_does_not_depend_on_those_beside_it(policy: BasePolicy):
    def actions(seeds: list[int]) -> Tensor:
        chunks = ChunkedBase(policy, len(seeds))
        chunks.start(np.ones(len(seeds), dtype=bool), seeds)
        seen = torch.linspace(-1, 1, policy.observe.inputs.observation_dim).square().repeat(len(seeds), 1)
        return chunks.action(seen)

    for others in ([3, 5, 9], [3, 5, *range(100, 140)]):
        assert torch.equal(actions([5])[0], actions(others)[1]), "to the bit: contacts make more of it"
    assert not torch.allclose(actions([5])[0], actions([6])[0])


# ---- the correction ----


def test_a_residual_of_zero_leaves_the_base_as_it_is_to_the_bit(policy: BasePolicy):
    env = AssemblyEnv("peg_hole", WORLDS, threads=1)
    base = BaseAgent(policy, WORLDS)
    corrected = ResidualAgent(policy, lambda observation: torch.zeros(len(observation), 10), CORRECTION, WORLDS)
    seen = observe(env.reset(seed=5)[0])
    for agent in (base, corrected):
        agent.start(np.ones(WORLDS, dtype=bool), [5, 6, 7])
    for _ in range(2 * policy.action_horizon):
        action = base.act(seen)
        assert torch.equal(action, corrected.act(seen))
        seen = observe(env.step(action.double().numpy())[0])


def test_a_residual_moves_the_action_by_alpha_in_units_of_the_data(policy: BasePolicy):
    env = make(policy)
    base = env.corrector.base_action.clone()
    moved = env.corrector.corrected(nothing() + 1.0) - base
    torch.testing.assert_close(moved, ALPHA * policy.action_normalizer.half_range.expand(WORLDS, 10))


def test_the_observation_ends_with_the_action_that_the_base_will_take(policy: BasePolicy):
    env = make(policy)
    for _ in range(10):
        wanted = policy.action_normalizer.denormalize(env.observation[:, -10:])
        torch.testing.assert_close(wanted, env.corrector.base_action, rtol=0, atol=1e-6)
        env.step(nothing())


# ---- episodes ----


def test_an_episode_out_of_time_is_cut_and_the_next_one_begins(policy: BasePolicy):
    env = make(policy)
    for _ in range(LIMIT - 1):
        assert not env.step(nothing()).truncated.any()
    before = env.env.part_poses()
    step = env.step(nothing())
    assert step.truncated.all()
    assert not step.terminated.any()
    assert not torch.equal(step.next_observation, env.observation), "one is to bootstrap from, the other the new start"
    assert np.abs(env.env.part_poses() - before).max() > 1e-3


def test_training_never_starts_from_a_seed_that_is_evaluated():
    seeds = Starts(100, seed=0).draw(np.ones(100, dtype=bool)).seeds
    assert min(seeds) >= FIRST_TRAINING_SEED
    assert len(set(seeds)) == 100


def test_episodes_begin_along_demonstrations_with_what_lies_behind_them_counted(policy: BasePolicy, demos: DemoSet):
    env = make(policy, demos, share=1.0, limit=200)
    steps = env.env.state()["episode_steps"].tolist()
    assert len(set(steps)) > 1
    peg_and_hole = env.env.part_poses()[:, :2].reshape(WORLDS, -1)
    recorded = demos.part_poses[:, : peg_and_hole.shape[1]]
    for i, step in enumerate(steps):
        rows = [episode.start + step for episode in demos.episodes if episode.start + step < episode.stop]
        assert min(np.abs(recorded[row] - peg_and_hole[i]).max() for row in rows) < 1e-4


def test_more_episodes_begin_where_about_half_succeed(demos: DemoSet):
    env = AssemblyEnv("peg_hole", 1, threads=1)
    starts = Starts(1, 0, 1.0, demos, env.worlds.snapshot())
    starts._success[:] = 1.0
    starts._success[4] = 0.5
    phases = []
    for _ in range(200):
        starts.draw(np.array([True]))
        phases.append(int(starts._phase[0]))
    assert phases.count(4) > 60, "of 16 phases"
    starts.draw(np.array([True]))
    phase = int(starts._phase[0])
    before = float(starts._success[phase])
    for step in range(16):  # learned from all at once
        starts.report(torch.tensor([step == 0]), torch.tensor([False]))
    assert float(starts._success[phase]) < before


def test_an_episode_that_is_cut_before_its_demonstration_came_to_its_end_tells_nothing_of_the_phase(
    policy: BasePolicy, demos: DemoSet
):
    env = make(policy, demos, share=1.0, limit=16)
    left = env._worlds._demonstrated.clone()
    told: list[torch.Tensor] = []
    env._worlds._starts.report = lambda over, _: told.append(over)
    for _ in range(16):
        step = env.step(nothing())
    assert step.truncated.any()
    assert (told[-1] == (step.terminated | step.truncated & (left <= 16))).all()


def test_demonstrations_without_the_simulators_states_are_refused(demos: DemoSet, policy: BasePolicy):
    other = AssemblyEnv("one_leg", WORLDS, threads=1)
    with pytest.raises(ResipError, match=f"{demos.path} has snapshots of another simulation"):
        Starts(WORLDS, 0, 0.5, demos, other.worlds.snapshot())


# ---- resuming, measuring ----


def test_worlds_that_are_resumed_go_on_as_the_others_did(policy: BasePolicy, demos: DemoSet):
    def going_on(env: ResidualEnv) -> list[Tensor]:
        generator = torch.Generator().manual_seed(3)
        rows = []
        for _ in range(LIMIT + 5):  # episodes end and start on the way
            env.step(torch.randn(WORLDS, 10, generator=generator))
            rows.append(env.observation)
        return rows

    env = make(policy, demos, share=0.5)
    for _ in range(7):
        env.step(nothing() + 0.3)
    saved = {name: value.clone() for name, value in env.state().items()}
    went_on = going_on(env)
    other = make(policy, demos, share=0.5)
    other.load_state(saved)
    for one, two in zip(went_on, going_on(other), strict=True):
        assert torch.equal(one, two)


def test_base_and_residual_are_measured_on_the_same_seeds(policy: BasePolicy, monkeypatch: pytest.MonkeyPatch):
    env = AssemblyEnv("peg_hole", 2, threads=1)
    monkeypatch.setattr(env, "task", env.task.__class__(**{**vars(env.task), "max_steps": 6}))
    base, corrected = evaluate_pair(
        env, policy, lambda observation: torch.zeros(len(observation), 10), CORRECTION, [8, 5, 9]
    )
    assert base == corrected
    assert [outcome.seed for outcome in base] == [8, 5, 9]
    assert [outcome.steps for outcome in base] == [6, 6, 6]


def test_every_seed_is_run_once_whatever_the_number_of_worlds(policy: BasePolicy, monkeypatch: pytest.MonkeyPatch):
    ended: list[int] = []
    env = AssemblyEnv("peg_hole", 4, threads=1)
    monkeypatch.setattr(env, "task", env.task.__class__(**{**vars(env.task), "max_steps": 3}))
    outcomes = run_episodes(env, BaseAgent(policy, 4), range(30, 37), lambda outcome: ended.append(outcome.seed))
    assert [outcome.seed for outcome in outcomes] == list(range(30, 37))
    assert sorted(ended) == list(range(30, 37))
