"""Cloning from states: it learns, a broken one does not, nothing leaks, and it resumes exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_demos import PROVENANCE, make_episode, write_demos
from resip import spaces
from resip.errors import ResipError
from resip_training.algorithms.state_bc import StateBCConfig, StateBCTrainer, load_state_data, preset
from resip_training.checkpoints import load_teacher
from resip_training.data.store import DemoSet, DemoWriter, shard_path
from resip_training.data.windows import chunk_rows
from resip_training.models.diffusion import DiffusionConfig
from resip_training.models.mlp import MlpConfig
from resip_training.runs import Budget
from resip_training.train import train_bc

POLICY = MlpConfig(prediction_horizon=4, action_horizon=4, width=64, blocks=1, dropout=0.0)
CONFIG = StateBCConfig(POLICY, batch_size=32, warmup_updates=10, held_out=0.2)
UPDATES = 300


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return write_demos(tmp_path_factory.mktemp("states") / "demos", n_episodes=12, images=False)


def trained(demos: DemoSet, config: StateBCConfig = CONFIG) -> StateBCTrainer:
    trainer = StateBCTrainer(config, load_state_data(demos, config))
    for i in range(UPDATES):
        trainer.train_step(i / UPDATES)
    return trainer


def test_it_learns_where_held_out_episodes_go(demos: DemoSet):
    figures = trained(demos).validate()
    assert figures["position_error_mm"] < 8
    assert figures["gripper_agreement"] > 0.9


def test_with_the_gradient_flipped_it_does_not(demos: DemoSet, monkeypatch: pytest.MonkeyPatch):
    step = torch.optim.AdamW.step

    def flipped(optimizer: torch.optim.AdamW) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad.neg_()
        step(optimizer)

    monkeypatch.setattr(torch.optim.AdamW, "step", flipped)
    assert trained(demos).validate()["position_error_mm"] > 50


def test_limits_and_windows_come_from_the_training_episodes_alone(demos: DemoSet):
    data = load_state_data(demos, CONFIG)
    assert not set(data.train_rows) & set(data.validation_rows)
    windows = chunk_rows(torch.from_numpy(data.train_rows), data.last, POLICY.prediction_horizon).unique()
    assert not set(windows.tolist()) & set(data.validation_rows), "no window reaches into a held-out episode"
    trainer = StateBCTrainer(CONFIG, data)
    low = data.action[data.train_rows].amin(dim=0)
    high = data.action[data.train_rows].amax(dim=0)
    torch.testing.assert_close(trainer.policy.action_normalizer.centre, (low + high) / 2)


def test_only_episodes_that_succeeded_are_cloned(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    writer = DemoWriter(tmp_path / "demos", replace(PROVENANCE, images=False))
    for seed in range(6):
        episode = make_episode(seed, images=False)
        knocked = episode.part_poses.copy()
        knocked[:, 7] += np.linspace(0, 0.1, len(episode)) * (seed == 0)  # the second part
        writer.append(replace(episode, part_poses=knocked, success=seed != 0))
    data = load_state_data(DemoSet(tmp_path / "demos"), CONFIG)
    assert sorted([*data.train_rows, *data.validation_rows]) == list(range(20, 120))
    assert spaces.STATE_DIM + 7 not in data.inputs.columns, "a part that only a failure moves does not matter"

    train_bc(tmp_path / "demos", tmp_path / "run", budget=Budget(steps=1), config=CONFIG)
    assert "1 episodes that failed are left out" in capsys.readouterr().out


def test_a_set_of_several_shards_is_learned_in_pieces_as_one_is_at_once(
    demos: DemoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Rollouts come in shards, and by the thousand: their chunks together are many times the data."""
    for index in (1, 2, 3):
        writer = DemoWriter(shard_path(tmp_path / "rollouts", index, 3), replace(PROVENANCE, images=False))
        for seed in range(4 * (index - 1), 4 * index):
            writer.append(make_episode(seed, images=False))
    whole = StateBCTrainer(CONFIG, load_state_data(demos, CONFIG))
    monkeypatch.setattr("resip_training.algorithms.state_bc._FITTED_AT_ONCE", 50)
    pieces = StateBCTrainer(CONFIG, load_state_data(DemoSet(tmp_path / "rollouts"), CONFIG))
    for trainer in (whole, pieces):
        trainer.train_step(0.5)
    assert all(torch.equal(pieces.tensors()[name], value) for name, value in whole.tensors().items())


def test_only_parts_that_move_are_shown_unless_all_are_asked_for(demos: DemoSet):
    moving = load_state_data(demos, CONFIG).inputs.columns
    every = load_state_data(demos, replace(CONFIG, policy=replace(POLICY, parts="all"))).inputs.columns
    assert moving == (*range(16), *range(16, 23), *range(30, 37)), "robot, the first part, the obstacle"
    assert every == tuple(range(37))


def test_a_resumed_run_repeats_the_one_that_was_not_interrupted(
    demos: DemoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train_bc(demos.path, tmp_path / "whole", budget=Budget(steps=8), config=CONFIG)
    step = StateBCTrainer.train_step

    def interrupted(trainer: StateBCTrainer, progress: float) -> dict[str, float]:
        if trainer.step == 5:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return step(trainer, progress)

    with monkeypatch.context() as patch:
        patch.setattr(StateBCTrainer, "train_step", interrupted)
        with pytest.raises(SystemExit) as stopped:
            train_bc(demos.path, tmp_path / "parts", budget=Budget(steps=8), config=CONFIG)
    assert stopped.value.code == 130
    train_bc(demos.path, tmp_path / "parts", budget=Budget(steps=8), config=CONFIG)
    whole, parts = load_teacher(tmp_path / "whole"), load_teacher(tmp_path / "parts")
    assert whole.sha256() == parts.sha256()


def test_a_run_is_not_continued_with_other_settings(demos: DemoSet, tmp_path: Path):
    train_bc(demos.path, tmp_path, budget=Budget(steps=1), config=CONFIG)
    with pytest.raises(ResipError, match="other settings"):
        train_bc(demos.path, tmp_path, budget=Budget(steps=2), config=replace(CONFIG, seed=1))


def test_too_few_steps_for_a_batch_are_refused(demos: DemoSet):
    with pytest.raises(ResipError, match="fewer than a batch of 100000"):
        StateBCTrainer(replace(CONFIG, batch_size=100_000), load_state_data(demos, CONFIG))


def test_presets_are_the_papers_or_sized_for_two_cores():
    config, updates = preset("dp", "compact", seed=3)
    assert isinstance(config.policy, DiffusionConfig)
    assert config.seed == 3
    assert updates < 50_000
    assert (config.policy.action_horizon, preset("dp", "compact", action_horizon=4)[0].policy.action_horizon) == (8, 4)
    config, updates = preset("mlp-c", "paper")
    assert (config.learning_rate, config.warmup_updates, config.weight_decay) == (1e-4, 500, 1e-6)
    assert (config.batch_size, updates, config.ema_decay) == (256, 400_000, 0.0)


def test_a_loaded_policy_acts_as_the_trained_one(demos: DemoSet, tmp_path: Path):
    train_bc(demos.path, tmp_path, budget=Budget(steps=20), config=CONFIG)
    teacher = load_teacher(tmp_path)
    assert (teacher.task, teacher.residual) == ("one_leg", None)
    data = load_state_data(demos, CONFIG)
    noise = torch.zeros(3, *teacher.policy.noise_shape)
    chunk = teacher.policy.sample(data.observation[:3], noise)
    assert chunk.shape == (3, 4, 10)
    assert np.isfinite(chunk.numpy()).all()
