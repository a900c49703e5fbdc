"""Training runs of each algorithm: from a data set or a base policy to a folder that can be evaluated."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from resip import spaces
from rich.progress import Progress

from resip_training.algorithms.bc import BCConfig, BCTrainer, load_training_data
from resip_training.data.images import AugmentConfig
from resip_training.data.store import DemoSet
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

    description = describe("bc", asdict(config), spaces.contract("image"), data=described(demos))
    return run(out, description, make_trainer, budget or Budget())


def load_policy_of(run: Path) -> tuple[DiffusionPolicy, dict[str, Any]]:
    """Load the averaged policy of a run on images and the run's configuration.

    Raises:
      ResipError: the folder holds no run, or one without a checkpoint.
    """
    config = read_config(run)
    average = read_weights(run, "average.")
    policy = DiffusionPolicy(policy_config(config["settings"]["policy"]), len(average["parts_normalizer.centre"]))
    policy.load_state_dict(average)
    return policy.eval(), config


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
