"""Runs that improve on a base policy in simulated worlds: from its folder to one that can be evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from resip import spaces
from resip.errors import ResipError
from rich.progress import Progress

from resip_training import distributed
from resip_training.algorithms.chunk_ppo import ChunkPPO
from resip_training.algorithms.idql import IDQL
from resip_training.algorithms.online_trainer import OnlineTrainer
from resip_training.algorithms.residual_offpolicy import ResidualOffPolicy
from resip_training.algorithms.residual_ppo import ResidualPPO
from resip_training.algorithms.residual_trainer import ResidualTrainer
from resip_training.algorithms.settings import (
    ChunkPPOConfig,
    IDQLConfig,
    OnlineConfig,
    ResidualConfig,
    ResidualOffPolicyConfig,
    ResidualPPOConfig,
)
from resip_training.checkpoints import load_teacher, torch_device
from resip_training.data.store import DemoSet
from resip_training.models.base_policy import BasePolicy
from resip_training.models.diffusion import DiffusionBase
from resip_training.models.mlp import MlpBase
from resip_training.rollout.chunk_env import ChunkEnv
from resip_training.rollout.demonstrations import demonstrated_transitions
from resip_training.rollout.residual_env import Correction, ResidualEnv
from resip_training.rollout.starts import Starts
from resip_training.runs import Budget, describe, run
from resip_training.sim.env import AssemblyEnv


def train_online(
    base: Path,
    out: Path,
    config: OnlineConfig,
    *,
    dataset: Path | None = None,
    budget: Budget | None = None,
    threads: int = 1,
    device: str = "cpu",
) -> dict[str, Any]:
    """Improve on the base policy of a run of behaviour cloning, or go on with an interrupted run.

    Args:
      base: folder of that run, or of a teacher.
      out: folder of the run; one that exists is resumed and must hold the same settings.
      config: settings of the algorithm, which their class names.
      dataset: demonstrations whose states episodes may begin at; needed if the settings have a share of those.
      budget: how long, in control steps or minutes.
      threads: threads of torch and of the simulation.
      device: where both run.

    Returns:
      The figures of the run: steps, minutes, successes of its last validation.

    Raises:
      ResipError: no base policy there, or one that the algorithm cannot improve, demonstrations of another task,
        or the folder holds another run.
    """
    torch.set_num_threads(threads)
    algorithm, teacher = _ALGORITHMS[type(config)], load_teacher(base)
    if not isinstance(teacher.policy, algorithm.base):
        raise ResipError(f"{base} is no base for this: {algorithm.name} {algorithm.remedy}")
    if config.along_demonstrations > 0 and dataset is None:
        raise ResipError("episodes that begin along demonstrations need these: give --dataset")
    demos = None if dataset is None else DemoSet(dataset, task=teacher.task)
    description = describe(
        algorithm.name,
        asdict(config),
        spaces.contract("state"),
        base={**teacher.description, "run": str(base), "sha256": teacher.base_sha256()},
        data=None if demos is None else demos.described(),
    )

    def begin(_: Progress) -> OnlineTrainer:
        """Build the worlds and begin."""
        num_envs, own_device = distributed.share(config.num_envs, "worlds"), distributed.own_device(device)
        env = AssemblyEnv(teacher.task, num_envs, teacher.randomness, device=own_device, threads=threads)
        starts = Starts(num_envs, config.seed, config.along_demonstrations, demos, env.worlds.snapshot())
        validation_worlds = min(config.num_envs, config.validation_episodes)
        validation_env = AssemblyEnv(
            teacher.task, validation_worlds, teacher.randomness, device=own_device, threads=threads
        )
        policy = teacher.policy.to(torch_device(own_device))
        return algorithm.begin(config, _Worlds(env, policy, starts, config.episode_steps, validation_env, demos))

    return run(out, description, begin, budget or Budget(), parallel=algorithm.parallel)


@dataclass(frozen=True)
class _Worlds:
    """Where an algorithm learns, and is validated, beside the base policy that it begins with."""

    env: AssemblyEnv
    policy: BasePolicy
    starts: Starts
    episode_steps: int
    validation_env: AssemblyEnv
    demos: DemoSet | None

    def with_residual(self, config: ResidualConfig) -> ResidualEnv:
        """With the base in them, whose actions are corrected."""
        correction = Correction(config.alpha, config.poses)
        return ResidualEnv(self.env, self.policy, correction, self.starts, self.episode_steps)

    def with_chunks(self) -> ChunkEnv:
        """In which an action is a whole chunk."""
        policy = self.policy
        return ChunkEnv(self.env, policy.action_horizon, self.starts, self.episode_steps, policy.device)


def _begin_residual_ppo(config: ResidualPPOConfig, worlds: _Worlds) -> OnlineTrainer:
    env = worlds.with_residual(config)
    return ResidualTrainer(ResidualPPO(config, env), env, worlds.validation_env, config)


def _begin_residual_offpolicy(config: ResidualOffPolicyConfig, worlds: _Worlds) -> OnlineTrainer:
    """The demonstrations are learned from, too."""
    env, demonstrations = worlds.with_residual(config), None
    if worlds.demos is not None:
        demonstrations = demonstrated_transitions(
            worlds.demos, worlds.policy, env.correction, config.n_steps, config.discount
        )
    algorithm = ResidualOffPolicy(config, env, len(worlds.env.task.relations), demonstrations)
    return ResidualTrainer(algorithm, env, worlds.validation_env, config)


def _begin_chunk_ppo(config: ChunkPPOConfig, worlds: _Worlds) -> OnlineTrainer:
    env = worlds.with_chunks()
    algorithm = ChunkPPO(config, env, worlds.policy)
    return OnlineTrainer(algorithm, env, worlds.policy, algorithm.agent, worlds.validation_env, config)


def _begin_idql(config: IDQLConfig, worlds: _Worlds) -> OnlineTrainer:
    env = worlds.with_chunks()
    algorithm = IDQL(config, env, worlds.policy)
    return OnlineTrainer(algorithm, env, worlds.policy, algorithm.agent, worlds.validation_env, config)


@dataclass(frozen=True)
class _Algorithm:
    """What is particular about an algorithm's runs.

    Attributes:
      name: in a run's configuration.
      begin: makes what learns, from its settings and the worlds.
      base: kind of policy that it improves.
      remedy: what to do about another one.
      parallel: whether processes can share a run, each with worlds of its own.
    """

    name: str
    begin: Callable[[Any, _Worlds], OnlineTrainer]
    base: type[BasePolicy] = BasePolicy
    remedy: str = ""
    parallel: bool = False


_ALGORITHMS: Final[Mapping[type[OnlineConfig], _Algorithm]] = MappingProxyType(
    {
        ResidualPPOConfig: _Algorithm("residual-ppo", _begin_residual_ppo, parallel=True),
        ResidualOffPolicyConfig: _Algorithm("residual-offpolicy", _begin_residual_offpolicy),
        ChunkPPOConfig: _Algorithm(
            "chunk-ppo",
            _begin_chunk_ppo,
            MlpBase,
            "fine-tunes an MLP: choose a run of `resip train bc --policy mlp-c`",
        ),
        IDQLConfig: _Algorithm(
            "idql",
            _begin_idql,
            DiffusionBase,
            "chooses among samples: choose a run of `resip train bc --policy dp`",
        ),
    }
)
