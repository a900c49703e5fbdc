"""Export a trained policy: TorchScript module, manifest, golden example and model card in one folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from resip import spaces
from resip.errors import ResipError
from resip.policy.artefact import (
    CARD_FILE,
    FORMAT,
    FORMAT_VERSION,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODULE_FILE,
    file_sha256,
    load_policy,
    read_manifest,
)
from torch import Tensor, nn

from resip_training.data.store import DemoSet
from resip_training.model_card import render_card
from resip_training.models.diffusion_policy import DiffusionPolicy, views
from resip_training.models.schedule import inference_scheduler
from resip_training.runs import read_metrics
from resip_training.train import load_policy_of

MAX_SIZE_BYTES: Final = 20_000_000
PARITY_TOLERANCE: Final = 1e-4


class ExportedPolicy(nn.Module):
    """Everything between camera pixels and actions, with the DDIM schedule as constants.

    Args:
      policy: the trained policy; its weights are copied.
    """

    alpha_now: Tensor
    alpha_next: Tensor

    def __init__(self, policy: DiffusionPolicy) -> None:
        super().__init__()
        self.policy = copy.deepcopy(policy).requires_grad_(False).eval()
        del self.policy.parts_normalizer  # training only
        for encoder in (self.policy.encoder.front, self.policy.encoder.wrist):
            encoder.low_precision = False
        camera_views = views(policy.config)
        self.front_view, self.wrist_view = camera_views["front"], camera_views["wrist"]
        self.predicts_sample = policy.config.prediction_type == "sample"
        scheduler = inference_scheduler(policy.config)
        self.steps = [int(step) for step in scheduler.timesteps]
        alphas = scheduler.alphas_cumprod
        stride = policy.config.diffusion_steps // policy.config.inference_steps  # as diffusers steps, also when uneven
        following = [alphas[s - stride] if s >= stride else scheduler.final_alpha_cumprod for s in self.steps]
        self.register_buffer("alpha_now", torch.stack([alphas[step] for step in self.steps]))
        self.register_buffer("alpha_next", torch.stack(following))

    def forward(self, robot_state: Tensor, front: Tensor, wrist: Tensor, noise: Tensor) -> Tensor:
        """Predict actions ``(B, T_p, 10)``; see `resip.policy.artefact` for the inputs."""
        features = self.policy.encoder(
            self.policy.normalized_state(robot_state), self.front_view(front), self.wrist_view(wrist)
        )
        condition, _ = self.policy.condition(features)
        chunk = noise
        for i, step in enumerate(self.steps):
            output = self.policy.denoiser(chunk, torch.full_like(robot_state[:, 0], step), condition)
            chunk = self._denoise(chunk, output, self.alpha_now[i], self.alpha_next[i])
        return self.policy.chunk_normalizer.denormalize(chunk, robot_state)

    def _denoise(self, chunk: Tensor, output: Tensor, alpha: Tensor, alpha_next: Tensor) -> Tensor:
        """One deterministic DDIM step (Song et al. 2021, eq. 12) with the clean chunk clipped to [-1, 1]."""
        if self.predicts_sample:
            clean = output
            noise = (chunk - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        else:
            noise = output
            clean = (chunk - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        return alpha_next.sqrt() * clean.clamp(-1, 1) + (1 - alpha_next).sqrt() * noise


def export_policy(run: Path, dataset: Path, out: Path, *, threads: int = 1) -> Path:
    """Write the model folder of a training run and check it.

    Args:
      run: folder of the training run.
      dataset: the demonstrations it was trained on; the golden example is one of their observations.
      out: the model folder, for instance ``models/one_leg``.
      threads: threads that torch computes with.

    Returns:
      The model folder.

    Raises:
      ResipError: no such run or data, another data set than the run's, a module that differs from the trained
        policy or is too large.
    """
    torch.set_num_threads(threads)
    policy, config = load_policy_of(run)
    demos = DemoSet(dataset, task=config["data"]["provenance"]["task"], images=True)
    data = config["data"]
    if demos.sha256() not in [one["sha256"] for one in data.get("sets", [data])]:  # older runs had one set
        raise ResipError(f"{dataset} is not the data set that {run} was trained on, or has grown since")
    out.mkdir(parents=True, exist_ok=True)
    golden = _golden_inputs(demos, policy)
    module = _trace(policy, golden)
    _check_parity(module, policy, golden)
    module.save(str(out / MODULE_FILE))
    with torch.inference_mode():
        actions = module(*golden.values()).numpy()
    arrays: dict[str, Any] = {**{name: value.numpy() for name, value in golden.items()}, "actions": actions}
    np.savez_compressed(out / GOLDEN_FILE, **arrays)
    _write_manifest(out, _manifest(out, policy, config, read_metrics(run)))
    load_policy(out, threads=threads).warm_up()
    _check_size(out)
    return out


def record_evaluation(model: Path, success: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Write a measured success rate into a model's manifest and card.

    Args:
      model: the model folder.
      success: ``{"n", "k", "rate", "interval": [low, high], "seeds"}``.
      settings: how it was measured: where (graph or training environment), randomness, step limit, machine.

    Raises:
      ResipError: not a model folder, or an incomplete success figure.
    """
    missing = [name for name in ("n", "k", "rate", "interval", "seeds") if name not in success]
    if missing:
        raise ResipError(f"a success figure lacks {', '.join(missing)}")
    manifest = read_manifest(model)
    manifest["evaluation"] = {"success": dict(success), "settings": dict(settings)}
    _write_manifest(model, manifest)


def _trace(policy: DiffusionPolicy, golden: dict[str, Tensor]) -> torch.jit.ScriptModule:
    """Trace in float32; the golden inputs are repeated so that the batch is not taken for a constant 1."""
    module = ExportedPolicy(policy).eval()
    pair = tuple(value.repeat(2, *[1] * (value.dim() - 1)) for value in golden.values())
    with torch.inference_mode():
        return torch.jit.freeze(torch.jit.trace(module, pair, check_trace=False))


def _check_parity(module: torch.jit.ScriptModule, policy: DiffusionPolicy, golden: dict[str, Tensor]) -> None:
    """Compare the module with the training policy under diffusers' DDIM, alone and in a batch of three."""
    camera_views = views(policy.config)
    for copies in (1, 3):
        state, front, wrist, noise = (value.repeat(copies, *[1] * (value.dim() - 1)) for value in golden.values())
        wanted = policy.sample(state, camera_views["front"](front), camera_views["wrist"](wrist), noise)
        with torch.inference_mode():
            worst = float((module(state, front, wrist, noise) - wanted).abs().max())
        if not worst <= PARITY_TOLERANCE:
            raise ResipError(f"the exported module is {worst:.2g} off the trained policy: it is not written")


def _golden_inputs(demos: DemoSet, policy: DiffusionPolicy) -> dict[str, Tensor]:
    """An observation from the middle of the first demonstration, and fixed noise."""
    row = demos.episodes[0].start + len(demos.robot_state[demos.episodes[0]]) // 2
    frames = {camera: torch.from_numpy(demos.images(camera, slice(row, row + 1))) for camera in spaces.CAMERAS}
    shape = (1, policy.config.prediction_horizon, spaces.ACTION_DIM)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return {"robot_state": torch.from_numpy(demos.robot_state[row : row + 1]), **frames, "noise": noise}


def _manifest(out: Path, policy: DiffusionPolicy, config: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    image = ["B", spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3]
    chunk = ["B", policy.config.prediction_horizon, spaces.ACTION_DIM]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": config["data"]["provenance"]["task"],
        "contract": spaces.contract("image"),
        "sha256": {name: file_sha256(out / name) for name in (MODULE_FILE, GOLDEN_FILE)},
        "inputs": {
            "robot_state": {"shape": ["B", spaces.STATE_DIM], "type": "float32"},
            "front": {"shape": image, "type": "uint8"},
            "wrist": {"shape": image, "type": "uint8"},
            "noise": {"shape": chunk, "type": "float32", "distribution": "standard normal"},
        },
        "outputs": {"actions": {"shape": chunk, "type": "float32"}},
        "horizons": {
            "observation": policy.config.observation_horizon,
            "prediction": policy.config.prediction_horizon,
            "action": policy.config.action_horizon,
        },
        "sampler": {"name": "ddim", "steps": policy.config.inference_steps, "eta": 0.0},
        "data": config["data"],
        "training": {"algorithm": config["algorithm"], "settings": config["settings"], "result": metrics},
        "software": {**config["software"], "export_torch": version("torch")},
        "evaluation": None,
    }


def _write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    (out / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
    (out / CARD_FILE).write_text(render_card(manifest))


def _check_size(out: Path) -> None:
    size = sum((out / name).stat().st_size for name in (MODULE_FILE, GOLDEN_FILE, MANIFEST_FILE, CARD_FILE))
    if size > MAX_SIZE_BYTES:
        raise ResipError(f"{out} is {size / 1e6:.1f} MB, more than {MAX_SIZE_BYTES / 1e6:.0f}: train a smaller policy")
