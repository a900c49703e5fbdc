"""Runs of behaviour cloning from states as `resip train bc` leaves them, of policies that know nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from resip import spaces
from resip_training.models import presets
from resip_training.models.diffusion import DiffusionConfig
from resip_training.models.features import Inputs
from resip_training.models.mlp import MlpConfig
from resip_training.runs import CHECKPOINT_FILE, check_or_write_config, describe, prefixed, save_tensors

PEG_HOLE_DIM = spaces.STATE_DIM + 3 * spaces.PART_POSE_DIM
CONFIGS = {
    "mlp": MlpConfig(width=16, blocks=1),
    "diffusion": DiffusionConfig(prediction_horizon=16, width=16, blocks=1),
}


def peg_hole_base(folder: Path, kind: Literal["mlp", "diffusion"]) -> Path:
    """A run of peg_hole whose policy moves the hand a little at random."""
    torch.manual_seed(0)
    config, inputs = CONFIGS[kind], Inputs(PEG_HOLE_DIM, tuple(range(PEG_HOLE_DIM)))
    policy = presets.build(config, inputs)
    observation = torch.rand(64, PEG_HOLE_DIM)
    moves = 0.02 * torch.rand(64, config.prediction_horizon, spaces.ACTION_DIM)
    policy.fit(observation, moves + torch.nn.functional.pad(observation[:, None, :9], (0, 1)))
    base = {
        "policy": presets.config_as_json(config),
        "inputs": asdict(inputs),
        "task": "peg_hole",
        "randomness": "low",
    }
    check_or_write_config(folder, describe("bc", {}, spaces.contract("state"), base=base))
    save_tensors(folder / CHECKPOINT_FILE, prefixed("average.", policy.state_dict()), {"step": "0", "elapsed_s": "0"})
    return folder
