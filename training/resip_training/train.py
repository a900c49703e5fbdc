"""Runs that clone: from a data set to a folder that can be evaluated."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from resip import spaces
from resip.errors import ResipError
from resip.policy.artefact import file_sha256
from rich.progress import Progress
from torch import Tensor

from resip_training import distributed
from resip_training.algorithms.bc import BCConfig, BCTrainer, load_training_data
from resip_training.algorithms.state_bc import StateBCConfig, StateBCTrainer, load_state_data
from resip_training.checkpoints import check_contract, load_weights, of_other_shape, torch_device
from resip_training.data.mixture import Mixture
from resip_training.data.store import DemoSet
from resip_training.models import presets
from resip_training.models.diffusion_policy import (
    SIZED_BY_THE_VIEW,
    DiffusionPolicy,
    ObservationEncoder,
    PolicyConfig,
)
from resip_training.origin import load_origin
from resip_training.runs import Budget, describe, read_config, read_weights, run, with_prefix


def train_images(
    sim: Sequence[Path],
    out: Path,
    *,
    real: Sequence[Path] = (),
    budget: Budget | None = None,
    threads: int = 1,
    device: str = "cpu",
    config: BCConfig | None = None,
    encoder_weights: Path | None = None,
    begin_with: Path | None = None,
    action_horizon: int | None = None,
) -> dict[str, Any]:
    """Clone demonstrations into a diffusion policy on images, or go on with an interrupted run.

    Args:
      sim: rendered demonstrations.
      out: folder of the run; one that exists is resumed and must hold the same settings.
      real: demonstrations of the real cell.
      budget: how long; a finished run can be prolonged by a larger one.
      threads: threads that torch computes with.
      device: where the policy learns.
      config: settings.
      encoder_weights: what the encoders begin with: a file for the ResNets, see `models.resnet.load_weights`, or the
        run on images or the shipped model, of whatever task, whose encoders are taken.
      begin_with: a run on images, or a shipped model, whose policy is trained on: its network, weights and
        normalisation are taken.
      action_horizon: actions of a chunk that are executed, if not as many as the settings or that policy say.

    Returns:
      The figures of the run: steps, minutes, validation errors.

    Raises:
      ResipError: no such data sets, sets or weights that do not belong together, no such device, or the folder holds
        another run.
    """
    torch.set_num_threads(threads)
    config, device = config or BCConfig(), torch_device(device)
    origin = None if begin_with is None else load_origin(begin_with)
    if origin is not None:
        if encoder_weights is not None:
            raise ResipError(f"{begin_with} has encoders: give either a policy to begin with, or weights for encoders")
        config = replace(config, policy=origin.policy)
    if action_horizon is not None:
        presets.check_horizons(action_horizon, config.policy.prediction_horizon)
        config = replace(config, policy=replace(config.policy, action_horizon=action_horizon))
    encoders, described = _encoders(encoder_weights, config.policy)
    mixture = Mixture(sim, real)
    data = load_training_data(mixture, config)

    def make_trainer(progress: Progress) -> BCTrainer:
        """Read the images, as far as they fit in memory, and begin."""
        _tell_left_out(progress, mixture.n_failures)
        loading = progress.add_task("reading images", total=2 * len(data.train_rows), note="")
        advance = functools.partial(progress.advance, loading)
        trainer = BCTrainer(
            config,
            data,
            encoder_weights=encoders,
            begin_with=origin.weights if origin else None,
            device=device,
            on_progress=advance,
        )
        progress.remove_task(loading)
        if not trainer.loader.fits:
            progress.console.print(
                f"the images need {trainer.loader.needed_gb:.1f} GB, more than the {config.memory_gb:g} GB that they "
                "may take: they are read while training goes on"
            )
        return trainer

    description = describe(
        "bc",
        asdict(config),
        spaces.contract("image"),
        data=mixture.described(),
        encoder_weights=described,
        **({} if origin is None else {"begun_with": origin.described()}),
    )
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
    description = describe("bc", settings, spaces.contract("state"), base=base, data=demos.described())

    def make_trainer(progress: Progress) -> StateBCTrainer:
        """Bring the data to the device and begin."""
        _tell_left_out(progress, demos.n_failures)
        return StateBCTrainer(config, data, distributed.own_device(device))

    return run(out, description, make_trainer, budget or Budget(), parallel=True)


def load_policy_of(run: Path) -> tuple[DiffusionPolicy, dict[str, Any]]:
    """Load the averaged policy of a run on images and the run's configuration.

    Raises:
      ResipError: the folder holds no run, one without a checkpoint, a damaged one or one under another contract.
    """
    config = read_config(run)
    check_contract(run, config["contract"], "image")
    average = read_weights(run, "average.")
    architecture = PolicyConfig.from_json(config["settings"]["policy"])
    policy = DiffusionPolicy(architecture, len(average["parts_normalizer.centre"]))
    load_weights(run, policy, average)
    return policy, config


def _tell_left_out(progress: Progress, n_failures: int) -> None:
    if n_failures:
        progress.console.print(f"{n_failures} episodes that failed are left out: only successes are cloned")


def _encoders(
    weights: Path | None, policy: PolicyConfig
) -> tuple[Path | dict[str, Tensor] | None, dict[str, str] | None]:
    """What encoders begin with, and what the run says of it."""
    if weights is None:
        return None, None
    if weights.is_dir():
        origin = load_origin(weights)
        encoders = with_prefix(origin.weights, "encoder.")
        different = of_other_shape(ObservationEncoder(policy), encoders)
        foreign = [name for name in different if name not in SIZED_BY_THE_VIEW]
        if foreign:
            raise ResipError(
                f"{weights} has other encoders than these settings ({foreign[0]} and {len(different) - 1} more "
                "differ): it was trained with another preset; choose that one"
            )
        return {name: value for name, value in encoders.items() if name not in different}, origin.described()
    if not weights.is_file():
        raise ResipError(f"there are no encoder weights at {weights}")
    return weights, {"name": weights.name, "sha256": file_sha256(weights)}
