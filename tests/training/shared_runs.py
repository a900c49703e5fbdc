"""Small runs that one process and two must end alike: ``torchrun --nproc-per-node 2 shared_runs.py DEMOS BASE OUT``."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from resip.errors import ResipError
from resip_training import distributed, train
from resip_training.algorithms.settings import ResidualPPOConfig
from resip_training.algorithms.state_bc import StateBCConfig, StateBCTrainer
from resip_training.models.diffusion import DiffusionConfig
from resip_training.models.mlp import MlpConfig
from resip_training.runs import Budget
from resip_training.train_online import train_online

DIFFUSION = StateBCConfig(DiffusionConfig(width=32, blocks=1, inference_steps=2), batch_size=16, warmup_updates=0)
MLP = StateBCConfig(MlpConfig(width=32, blocks=1, dropout=0.5), batch_size=16, warmup_updates=0)
PPO = ResidualPPOConfig(
    num_envs=4,
    rollout_steps=20,
    epochs=2,
    minibatches=3,
    critic_first=0,
    width=32,
    along_demonstrations=0.5,
    episode_steps=13,
    normalize_reward=True,
    whiten=False,  # by directions that are arbitrary where nothing varies
    validation_episodes=1,
    validations=1,
)
PPO_STEPS = 2 * PPO.num_envs * PPO.rollout_steps
STOPPED_AT = 3


def clone(demos: Path, out: Path) -> None:
    """A base of each kind that draws numbers as it learns."""
    train.train_bc(demos, out / "diffusion", budget=Budget(steps=5), config=DIFFUSION)
    train.train_bc(demos, out / "mlp", budget=Budget(steps=5), config=MLP)


def correct(demos: Path, base: Path, out: Path, iterations: int = 2) -> None:
    """A residual: two iterations, in which episodes end and begin."""
    steps = iterations * PPO_STEPS // 2
    train_online(base, out / "ppo", PPO, dataset=demos, budget=Budget(steps=steps))


def whiten(demos: Path, base: Path, out: Path) -> None:
    """A residual that is shown whitened inputs, after the rollout that they are taken from."""
    config, budget = replace(PPO, whiten=True), Budget(steps=PPO_STEPS // 2)
    train_online(base, out / "whitened", config, dataset=demos, budget=budget)


def stop_one_of_two(demos: Path, out: Path) -> None:
    """Ask the last process, and no other, to stop."""
    train_step = StateBCTrainer.train_step

    def interrupted(trainer: StateBCTrainer, progress: float) -> object:
        if trainer.step == STOPPED_AT - 1 and not distributed.is_first():
            signal.raise_signal(signal.SIGTERM)
        return train_step(trainer, progress)

    StateBCTrainer.train_step = interrupted  # pyright: ignore[reportAttributeAccessIssue]
    try:
        train.train_bc(demos, out / "stopped", budget=Budget(steps=1000), config=MLP)
    except SystemExit as stopped:
        (out / f"code_of_{distributed.rank()}.txt").write_text(str(stopped.code))
    finally:
        StateBCTrainer.train_step = train_step


def refuse(demos: Path, out: Path) -> None:
    """What two processes cannot share."""
    odd = StateBCConfig(MlpConfig(width=32, blocks=1), batch_size=15)
    try:
        train.train_bc(demos, out / "odd", budget=Budget(steps=1), config=odd)
    except ResipError as error:
        if distributed.is_first():
            (out / "odd.txt").write_text(str(error))


def main(demos: Path, base: Path, out: Path) -> None:
    """All of it."""
    torch.set_num_threads(1)
    with distributed.joined():
        clone(demos, out)
        correct(demos, base, out)
        whiten(demos, base, out)
        stop_one_of_two(demos, out)
        refuse(demos, out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
