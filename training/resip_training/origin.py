"""A policy on images that there is, of a training run or of a shipped model, for others to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from resip.errors import ResipError
from resip.policy.artefact import MANIFEST_FILE, MODULE_FILE, load_weights_by_name, read_manifest
from torch import Tensor

from resip_training.checkpoints import check_contract, sha256
from resip_training.models.diffusion_policy import DiffusionPolicy, PolicyConfig
from resip_training.runs import CONFIG_FILE, read_config, read_weights, with_prefix

#: Of a manifest's ``training``: centre and half range of each number of the part poses (m, and xyzw quaternion).
PART_POSE_LIMITS: Final = "part_pose_limits"


@dataclass(frozen=True)
class Origin:
    """The network of a policy on images, and its averaged weights by name, limits of normalisation among them."""

    name: str
    policy: PolicyConfig
    weights: dict[str, Tensor]

    def described(self) -> dict[str, str]:
        """What a run that began with it says of it."""
        return {"name": self.name, "sha256": sha256(self.weights)}


def load_origin(folder: Path) -> Origin:
    """Read the policy of a training run, or of a model folder.

    Raises:
      ResipError: it is neither, or damaged, of another contract, or was exported before its limits were kept.
    """
    name = folder.resolve().name
    if (folder / CONFIG_FILE).exists():
        config = read_config(folder)
        check_contract(folder, config["contract"], "image")
        return Origin(name, PolicyConfig.from_json(config["settings"]["policy"]), read_weights(folder, "average."))
    if not (folder / MANIFEST_FILE).exists():
        raise ResipError(f"{folder} is neither a training run nor a model folder: nothing can begin with it")
    training = read_manifest(folder)["training"]
    weights = with_prefix(load_weights_by_name(folder), "policy.")
    if not weights:
        raise ResipError(f"{folder / MODULE_FILE} does not name its weights: export the policy again")
    predicts_parts = any(name.startswith("parts_head.") for name in weights)
    if predicts_parts and PART_POSE_LIMITS not in training:
        raise ResipError(f"{folder} does not say how it normalises part poses: export the policy again")
    limits = training.get(PART_POSE_LIMITS, {"centre": [], "half_range": []})
    kept = {f"parts_normalizer.{name}": torch.tensor(limits[name]) for name in ("centre", "half_range")}
    return Origin(name, PolicyConfig.from_json(training["settings"]["policy"]), {**weights, **kept})


def part_pose_limits(policy: DiffusionPolicy) -> Mapping[str, Any]:
    """What the manifest of a policy that predicts part poses adds: no action needs it, but who trains it on does."""
    limits = policy.parts_normalizer
    if policy.parts_head is None:
        return {}
    return {PART_POSE_LIMITS: {"centre": limits.centre.tolist(), "half_range": limits.half_range.tolist()}}
