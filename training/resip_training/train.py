"""Runs that clone: from a data set to a folder that can be evaluated."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from resip import spaces
from rich.progress import Progress

from resip_training import distributed
from resip_training.algorithms.bc import BCConfig, BCTrainer, load_training_data
from resip_training.algorithms.state_bc import StateBCConfig, StateBCTrainer, load_state_data
from resip_training.checkpoints import check_contract, load_weights
from resip_training.data.images import AugmentConfig
from resip_training.data.store import DemoSet
from resip_training.models import presets
from resip_training.models.diffusion_policy import DiffusionPolicy, PolicyConfig
from resip_training.models.encoder import ViewConfig
from resip_training.runs import Budget, describe, read_config, read_weights, run


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

    description = describe("bc", asdict(config), spaces.contract("image"), data=demos.described())
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

    def make_trainer(_: Progress) -> StateBCTrainer:
        """Bring the data to the device and begin."""
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
    policy = DiffusionPolicy(policy_config(config["settings"]["policy"]), len(average["parts_normalizer.centre"]))
    load_weights(run, policy, average)
    return policy, config


def policy_config(values: dict[str, Any]) -> PolicyConfig:
    """Rebuild the image policy's configuration from its JSON form."""
    nested = {camera: ViewConfig(**values[camera]) for camera in spaces.CAMERAS}
    return PolicyConfig(**{**values, **nested})


def bc_config(values: dict[str, Any]) -> BCConfig:
    """Rebuild the settings of cloning on images from their JSON form."""
    nested = {"policy": policy_config(values["policy"]), "augment": AugmentConfig(**values["augment"])}
    return BCConfig(**{**values, **nested})
