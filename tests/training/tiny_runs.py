"""Folders of runs on peg_hole as training leaves them, without training: the weights are random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from resip import rotation, spaces
from resip_training.algorithms.settings import ResidualPPOConfig
from resip_training.models import presets
from resip_training.models.base_policy import BasePolicy
from resip_training.models.features import Inputs, goals_of
from resip_training.models.mlp import MlpConfig
from resip_training.models.residual import GaussianResidual
from resip_training.runs import BEST_FILE, CHECKPOINT_FILE, check_or_write_config, describe, prefixed, save_tensors
from resip_training.sim import tasks
from resip_training.sim.task import nominal_poses
from torch import Tensor

TASK = "peg_hole"
CONFIG = MlpConfig(prediction_horizon=4, action_horizon=2, width=16, blocks=1, parts="all")
WIDTH = 16  # narrower layers round a row otherwise in another place of its block
_METADATA = {"step": "100", "elapsed_s": "60.0"}


def make_base(seed: int = 0) -> BasePolicy:
    """A base that wants to be within centimetres of where it is, pointing down."""
    torch.manual_seed(seed)
    down = torch.from_numpy(rotation.rot6d_from_matrix(torch.diag(torch.tensor([1.0, -1.0, -1.0])).numpy()))
    position = torch.tensor([0.5, 0.0, 0.2]) + 0.1 * torch.rand(50, 3)
    parts = torch.from_numpy(nominal_poses(tasks.get(TASK))).flatten().expand(50, -1)
    observation = torch.cat([position, down.expand(50, 6), torch.rand(50, 7), parts], dim=1).float()
    offset = 0.05 * (torch.rand(50, CONFIG.prediction_horizon, 3) - 0.5)
    turn = down + 0.1 * torch.rand(50, CONFIG.prediction_horizon, 6)
    gripper = torch.rand(50, CONFIG.prediction_horizon, 1).round() * 2 - 1
    dim = observation.shape[1]
    goals = goals_of(tasks.get(TASK), tasks.get(TASK).part_names)
    policy = presets.build(CONFIG, Inputs(dim, tuple(range(dim)), goals))
    policy.fit(observation, torch.cat([position[:, None] + offset, turn, gripper], dim=-1).float())
    return policy.eval()


def write_base_run(path: Path, seed: int = 0) -> Path:
    """A run of behaviour cloning."""
    policy = make_base(seed)
    settings = {"policy": presets.config_as_json(CONFIG), "learning_rate": 1e-3, "seed": seed}
    config = describe("bc", settings, spaces.contract("state"), base=_described(policy), data=_data())
    return _write(path, config, prefixed("average.", policy.state_dict()), CHECKPOINT_FILE)


def write_residual_run(path: Path, seed: int = 0, **changes: Any) -> Path:
    """A run of residual PPO on that base; ``changes`` are of its settings."""
    policy = make_base()
    settings = {**vars(ResidualPPOConfig(width=WIDTH, seed=seed)), **changes}
    observation_dim = policy.observe.dim(settings["poses"]) + spaces.ACTION_DIM
    actor = GaussianResidual(observation_dim, WIDTH, -1.5, whiten=settings["whiten"])
    with torch.no_grad():
        list(actor.mean.parameters())[-1].normal_(std=0.1)
    config = describe(
        "residual-ppo",
        settings,
        spaces.contract("state"),
        base={**_described(policy), "run": "runs/base", "sha256": "b" * 64},
        data=None,
    )
    weights = prefixed("base.", policy.state_dict()) | prefixed("residual.actor.", actor.state_dict())
    _write(path, config, weights, CHECKPOINT_FILE)
    return _write(path, config, weights, BEST_FILE)


def _described(policy: BasePolicy) -> dict[str, Any]:
    return {
        "policy": presets.config_as_json(CONFIG),
        "inputs": asdict(policy.observe.inputs),
        "task": TASK,
        "randomness": "low",
    }


def _data() -> dict[str, Any]:
    provenance = {"task": TASK, "randomness": "low", "source": "expert"}
    return {"provenance": provenance, "sha256": "d" * 64, "n_demonstrations": 5, "n_steps": 300, "seeds": [1, 2, 3, 7]}


def _write(path: Path, config: dict[str, Any], weights: Mapping[str, Tensor], name: str) -> Path:
    check_or_write_config(path, config)
    save_tensors(path / name, dict(weights), _METADATA)
    return path
