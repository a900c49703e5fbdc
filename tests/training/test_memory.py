"""Training does not grow: neither tensors nor resident memory are more after thousands of updates."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch
from fake_demos import write_demos
from resip_training.algorithms.state_bc import StateBCConfig, StateBCTrainer, load_state_data
from resip_training.models.mlp import MlpConfig

UPDATES = 2000
#: 1 kB left behind by each update would be more.
MOST_GROWTH_MB = 1.9


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.fixture
def trainer(tmp_path: Path) -> StateBCTrainer:
    config = StateBCConfig(MlpConfig(width=16, blocks=1), batch_size=16)
    return StateBCTrainer(config, load_state_data(write_demos(tmp_path / "demos", n_episodes=3), config))


def grown_mb(trainer: StateBCTrainer) -> float:
    before_mb = resident_mb()
    for step in range(UPDATES):
        trainer.train_step(step / UPDATES)
    return resident_mb() - before_mb


def test_thousands_of_updates_leave_nothing_behind(trainer: StateBCTrainer):
    """What is left behind is left at all times; what an allocator keeps, at some."""
    for step in range(200):
        trainer.train_step(step / UPDATES)
    tensors = live_tensors()
    assert any(grown_mb(trainer) < MOST_GROWTH_MB for _ in range(3))
    assert live_tensors() == tensors
