"""Training runs of each algorithm: from a data set or a base policy to a folder that can be evaluated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from resip import spaces
from resip.errors import ResipError, check_name
from rich.progress import Progress

from resip_training import distributed
from resip_training.algorithms.bc import BCConfig, BCTrainer, load_training_data
from resip_training.algorithms.chunk_ppo import ChunkPPO
from resip_training.algorithms.idql import IDQL
from resip_training.algorithms.online_trainer import OnlineTrainer
from resip_training.algorithms.residual_offpolicy import ResidualOffPolicy
from resip_training.algorithms.residual_ppo import ResidualPPO
from resip_training.algorithms.residual_trainer import ResidualAlgorithm, ResidualTrainer
from resip_training.algorithms.settings import (
    ChunkPPOConfig,
    IDQLConfig,
    OnlineConfig,
    ResidualConfig,
    ResidualOffPolicyConfig,
    ResidualPPOConfig,
)
from resip_training.algorithms.state_bc import StateBCConfig, StateBCTrainer, load_state_data
from resip_training.checkpoints import check_contract, load_teacher, load_weights
from resip_training.data.images import AugmentConfig
from resip_training.data.store import DemoSet
from resip_training.models import presets
from resip_training.models.base_policy import BasePolicy
from resip_training.models.diffusion import DiffusionBase
from resip_training.models.diffusion_policy import DiffusionPolicy, PolicyConfig
from resip_training.models.encoder import ViewConfig
from resip_training.models.mlp import MlpBase
from resip_training.rollout.chunk_env import ChunkEnv
from resip_training.rollout.demonstrations import demonstrated_transitions
from resip_training.rollout.residual_env import Correction, ResidualEnv
from resip_training.rollout.starts import Starts
from resip_training.runs import Budget, describe, read_config, read_weights, run
from resip_training.sim.env import DEVICES, AssemblyEnv


def train_images(
    dataset: Path,
    out: Path,
    *,
    budget: Budget | None = None,
    threads: int = 1,
    config: BCConfig | None = None,
) -> dict[str, Any]:
    """Clone demonstrations into a diffusion policy on images, or go on with an interrupted run.

    Args:
      dataset: demonstrations of `resip collect`, with images.
      out: folder of the run; one that exists is resumed and must hold the same settings.
      budget: how long; a finished run can be prolonged by a larger one.
      threads: threads that torch computes with.
      config: settings.

    Returns:
      The figures of the run: steps, minutes, validation errors.

    Raises:
      ResipError: no such data set, or the folder holds another run.
    """
    torch.set_num_threads(threads)
    config = config or BCConfig()
    demos = DemoSet(dataset, images=True)

    def make_trainer(progress: Progress) -> BCTrainer:
        """Read the images and begin."""
        loading = progress.add_task("reading images", total=2 * demos.n_steps, note="")
        data = load_training_data(demos, config, lambda n: progress.advance(loading, n))
        progress.remove_task(loading)
        return BCTrainer(config, data)

    description = describe("bc", asdict(config), spaces.contract("image"), data=described(demos))
    return run(out, description, make_trainer, budget or Budget())


def train_bc(
    dataset: Path,
    out: Path,
    *,
    budget: Budget | None = None,
    threads: int = 1,
    device: str = "cpu",
    config: StateBCConfig | None = None,
) -> dict[str, Any]:
    """Clone demonstrations into a base policy on states, or go on with an interrupted run.

    Args:
      dataset: demonstrations of `resip collect`.
      out: folder of the run; one that exists is resumed and must hold the same settings.
      budget: how long, in updates or minutes; a finished run can be prolonged by a larger one.
      threads: threads that torch computes with.
      device: where the policy learns.
      config: settings.

    Returns:
      The figures of the run: steps, minutes, validation errors.

    Raises:
      ResipError: no such data set, or the folder holds another run.
    """
    torch.set_num_threads(threads)
    config = config or StateBCConfig()
    demos = DemoSet(dataset)
    data = load_state_data(demos, config)
    settings = {**asdict(config), "policy": presets.config_as_json(config.policy)}
    base = {
        "policy": settings["policy"],
        "inputs": asdict(data.inputs),
        "task": demos.provenance["task"],
        "randomness": demos.provenance["randomness"],
    }
    description = describe("bc", settings, spaces.contract("state"), base=base, data=described(demos))

    def make_trainer(_: Progress) -> StateBCTrainer:
        """Bring the data to the device and begin."""
        return StateBCTrainer(config, data, distributed.own_device(device))

    return run(out, description, make_trainer, budget or Budget(), parallel=True)


def train_residual_ppo(
    base: Path,
    out: Path,
    *,
    dataset: Path | None = None,
    budget: Budget | None = None,
    threads: int = 1,
    device: str = "cpu",
    config: ResidualPPOConfig | None = None,
) -> dict[str, Any]:
    """Learn a residual on a base policy with PPO, or go on with an interrupted run; see `_train_online`."""
    config = config or ResidualPPOConfig()
    return _train_residual(
        "residual-ppo",
        base,
        out,
        dataset,
        budget,
        threads,
        device,
        config,
        lambda env: ResidualPPO(config, env),
        parallel=True,
    )


def train_residual_offpolicy(
    base: Path,
    out: Path,
    *,
    dataset: Path | None = None,
    budget: Budget | None = None,
    threads: int = 1,
    device: str = "cpu",
    config: ResidualOffPolicyConfig | None = None,
) -> dict[str, Any]:
    """Learn a residual on a base policy off-policy, or go on with an interrupted run; see `_train_online`.

    ``dataset`` also gives transitions to learn from.
    """
    config = config or ResidualOffPolicyConfig()

    def make_algorithm(env: ResidualEnv) -> ResidualOffPolicy:
        """Read the demonstrations and begin."""
        policy, demonstrations = env.corrector.policy, None
        if dataset is not None:
            demos = DemoSet(dataset)
            demonstrations = demonstrated_transitions(demos, policy, env.correction, config.n_steps, config.discount)
        return ResidualOffPolicy(config, env, len(env.env.task.relations), demonstrations)

    return _train_residual("residual-offpolicy", base, out, dataset, budget, threads, device, config, make_algorithm)


def train_chunk_ppo(
    base: Path,
    out: Path,
    *,
    dataset: Path | None = None,
    budget: Budget | None = None,
    threads: int = 1,
    device: str = "cpu",
    config: ChunkPPOConfig | None = None,
) -> dict[str, Any]:
    """Fine-tune an MLP's chunks with PPO, or go on with an interrupted run; see `_train_online`.

    Raises:
      ResipError: the base is no MLP.
    """
    config = config or ChunkPPOConfig()
    _check_base(base, MlpBase, "chunk-ppo fine-tunes an MLP: choose a run of `resip train bc --policy mlp-c`")
    return _train_chunks(
        "chunk-ppo", base, out, dataset, budget, threads, device, config, lambda *at: ChunkPPO(config, *at)
    )


def train_idql(
    base: Path,
    out: Path,
    *,
    dataset: Path | None = None,
    budget: Budget | None = None,
    threads: int = 1,
    device: str = "cpu",
    config: IDQLConfig | None = None,
) -> dict[str, Any]:
    """Learn to choose among a diffusion policy's chunks, or go on with an interrupted run; see `_train_online`.

    Raises:
      ResipError: the base is no diffusion policy.
    """
    config = config or IDQLConfig()
    _check_base(base, DiffusionBase, "idql chooses among samples: choose a run of `resip train bc --policy dp`")
    return _train_chunks("idql", base, out, dataset, budget, threads, device, config, lambda *at: IDQL(config, *at))


def _train_residual(
    name: str,
    base: Path,
    out: Path,
    dataset: Path | None,
    budget: Budget | None,
    threads: int,
    device: str,
    config: ResidualConfig,
    make_algorithm: Callable[[ResidualEnv], ResidualAlgorithm],
    *,
    parallel: bool = False,
) -> dict[str, Any]:
    """Learn a residual; see `_train_online`. ``make_algorithm`` makes what learns it."""

    def make_trainer(worlds: _LearningWorlds) -> OnlineTrainer:
        """Begin in worlds with the base in them."""
        correction = Correction(config.alpha, config.poses)
        env = ResidualEnv(worlds.env, worlds.policy, correction, worlds.starts, worlds.time_limit_steps)
        return ResidualTrainer(make_algorithm(env), env, worlds.validation_env, config)

    return _train_online(name, base, out, dataset, budget, threads, device, config, make_trainer, parallel=parallel)


def _train_chunks(
    name: str,
    base: Path,
    out: Path,
    dataset: Path | None,
    budget: Budget | None,
    threads: int,
    device: str,
    config: OnlineConfig,
    make_algorithm: Callable[[ChunkEnv, BasePolicy], ChunkPPO | IDQL],
) -> dict[str, Any]:
    """Learn from whole chunks; see `_train_online`. ``make_algorithm`` makes what learns."""

    def make_trainer(worlds: _LearningWorlds) -> OnlineTrainer:
        """Begin in worlds that execute chunks."""
        policy = worlds.policy
        env = ChunkEnv(worlds.env, policy.action_horizon, worlds.starts, worlds.time_limit_steps, policy.device)
        algorithm = make_algorithm(env, policy)
        return OnlineTrainer(algorithm, env, policy, algorithm.agent, worlds.validation_env, config)

    return _train_online(name, base, out, dataset, budget, threads, device, config, make_trainer)


@dataclass(frozen=True)
class _LearningWorlds:
    """Where an algorithm learns, and is validated, beside the base policy that it begins with."""

    env: AssemblyEnv
    policy: BasePolicy
    starts: Starts
    time_limit_steps: int
    validation_env: AssemblyEnv


def _train_online(
    name: str,
    base: Path,
    out: Path,
    dataset: Path | None,
    budget: Budget | None,
    threads: int,
    device: str,
    config: OnlineConfig,
    make_trainer: Callable[[_LearningWorlds], OnlineTrainer],
    *,
    parallel: bool = False,
) -> dict[str, Any]:
    """Improve in worlds on the base policy of a run of behaviour cloning.

    Args:
      name: of the algorithm.
      base: folder of that run, or of a teacher.
      out: folder of the run; one that exists is resumed and must hold the same settings.
      dataset: demonstrations whose states episodes may begin at; needed if the settings have a share of those.
      budget: how long, in control steps or minutes.
      threads: threads of torch and of the simulation.
      device: where both run.
      config: settings.
      make_trainer: makes what learns.
      parallel: whether processes can share it, each with worlds of its own.

    Raises:
      ResipError: no base policy there, demonstrations of another task, or the folder holds another run.
    """
    torch.set_num_threads(threads)
    teacher = load_teacher(base)
    if config.along_demonstrations > 0 and dataset is None:
        raise ResipError("episodes that begin along demonstrations need these: give --dataset")
    demos = None if dataset is None else DemoSet(dataset, task=teacher.task)
    description = describe(
        name,
        asdict(config),
        spaces.contract("state"),
        base={**teacher.description, "run": str(base), "sha256": teacher.base_sha256()},
        data=None if demos is None else described(demos),
    )

    def begin(_: Progress) -> OnlineTrainer:
        """Build the worlds and begin."""
        num_envs, own_device = distributed.share(config.num_envs, "worlds"), distributed.own_device(device)
        env = AssemblyEnv(teacher.task, num_envs, teacher.randomness, device=own_device, threads=threads)
        starts = Starts(num_envs, config.seed, config.along_demonstrations, demos, env.worlds.snapshot())
        limit_steps = round(config.time_limit * env.task.max_steps)
        validation_worlds = min(config.num_envs, config.validation_episodes)
        validation_env = AssemblyEnv(
            teacher.task, validation_worlds, teacher.randomness, device=own_device, threads=threads
        )
        policy = teacher.policy.to(torch_device(own_device))
        return make_trainer(_LearningWorlds(env, policy, starts, limit_steps, validation_env))

    return run(out, description, begin, budget or Budget(), parallel=parallel)


def _check_base(base: Path, wanted: type[BasePolicy], remedy: str) -> None:
    if not isinstance(load_teacher(base).policy, wanted):
        raise ResipError(f"{base} is no base for this: {remedy}")


def load_policy_of(run: Path) -> tuple[DiffusionPolicy, dict[str, Any]]:
    """Load the averaged policy of a run on images and the run's configuration.

    Raises:
      ResipError: the folder holds no run, one without a checkpoint, a damaged one or one under another contract.
    """
    config = read_config(run)
    check_contract(run, config["contract"], "image")
    average = read_weights(run, "average.")
    policy = DiffusionPolicy(policy_config(config["settings"]["policy"]), len(average["parts_normalizer.centre"]))
    load_weights(run, policy, average)
    return policy, config


def torch_device(device: str) -> str:
    """Where torch works for worlds on ``device`` (see ``env.DEVICES``).

    Raises:
      ResipError: unknown device, or no GPU.
    """
    kind = device.partition(":")[0]
    check_name("device", kind, DEVICES)
    if kind == "cuda" and not torch.cuda.is_available():
        raise ResipError(f"device {device!r}: torch finds no GPU here")
    return "cpu" if device == "warp-cpu" else device


def described(demos: DemoSet) -> dict[str, Any]:
    """What a run's configuration says of its data."""
    return {
        "provenance": demos.provenance,
        "sha256": demos.sha256(),
        "n_demonstrations": demos.n_demonstrations,
        "n_episodes": demos.n_episodes,
        "n_steps": demos.n_steps,
        "seeds": sorted({int(seed) for seed in demos.seeds}),
    }


def policy_config(values: dict[str, Any]) -> PolicyConfig:
    """Rebuild the image policy's configuration from its JSON form."""
    nested = {camera: ViewConfig(**values[camera]) for camera in spaces.CAMERAS}
    return PolicyConfig(**{**values, **nested})


def bc_config(values: dict[str, Any]) -> BCConfig:
    """Rebuild the settings of cloning on images from their JSON form."""
    nested = {"policy": policy_config(values["policy"]), "augment": AugmentConfig(**values["augment"])}
    return BCConfig(**{**values, **nested})
