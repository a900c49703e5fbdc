"""`resip bench policy`: from two camera frames and the joints to a chunk, beside an eager loop of the same weights.

The eager loop is what training validates with: the policy's modules under diffusers' DDIM. Both take turns in one
run, with the same threads, the same preprocessing and the same noise, and their chunks are compared. Wall time is
measured, for it is what a robot waits for: other programs should rest.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from resip import images, spaces
from resip.control import panda
from resip.policy.artefact import MODULE_FILE, Policy, golden_inputs, load_policy
from resip.progress import track
from resip.trials.statistics import Timing
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor

from resip_training.checkpoints import load_weights
from resip_training.models.diffusion_policy import DiffusionPolicy, part_poses_dim, views
from resip_training.origin import load_origin

_WARM_UP_TURNS: Final = 5
_QD_RAD_S: Final = np.zeros(panda.DOF)
_WIDTH_M: Final = 0.06

#: (state (16,), front, wrist (240, 320, 3)) -> actions (T_p, 10).
Predict = Callable[[NDArray[np.float64], NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float64]]


class EagerPolicy:
    """The weights of an exported policy in the modules that they were trained in; see `artefact.Policy`.

    Args:
      folder: of the exported policy.
      device: where it computes.

    Raises:
      ResipError: the folder's module holds no weights by name, or those of another network.
    """

    def __init__(self, folder: Path, device: str) -> None:
        origin = load_origin(folder)
        config = origin.policy
        self._policy = DiffusionPolicy(config, part_poses_dim(origin.weights)).to(device)
        load_weights(folder, self._policy, origin.weights, device)
        self._views = views(config)
        self._shape = (1, config.prediction_horizon, spaces.ACTION_DIM)
        self._generator, self._device = torch.Generator(), device

    def reset(self, seed: int) -> None:
        """Restart the noise."""
        self._generator.manual_seed(seed)

    def chunk(
        self, state: NDArray[np.float64], front: NDArray[np.uint8], wrist: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """Predict a chunk ``(T_p, 10)``."""
        noise = torch.randn(self._shape, generator=self._generator).to(self._device)
        front_view, wrist_view = self._views["front"](self._given(front)), self._views["wrist"](self._given(wrist))
        actions = self._policy.sample(self._given(state.astype(np.float32)), front_view, wrist_view, noise)
        return actions[0].cpu().numpy().astype(np.float64)

    def _given(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).unsqueeze(0).to(self._device)


@dataclass
class _Times:
    """Seconds of each turn."""

    preprocess_s: list[float]
    inference_s: list[float]

    def as_json(self) -> dict[str, Any]:
        """Timings of each stage and of both together, by name."""
        stages = {
            "preprocess": self.preprocess_s,
            "inference": self.inference_s,
            "total": np.add(self.preprocess_s, self.inference_s),
        }
        timings = {name: Timing.of(1e3 * np.asarray(values), "ms") for name, values in stages.items()}
        return {name: timing.as_json() for name, timing in timings.items() if timing is not None}


def bench_policy(model: Path, turns: int, threads: int, device: str, json_path: Path | None) -> dict[str, Any]:
    """Measure both by turns, at both sizes of camera frames; print a table and write the figures.

    Args:
      model: folder of an exported policy on images.
      turns: of each.
      threads: that torch computes with.
      device: where both compute: ``cpu``, or ``cuda``, where the exported policy is a CUDA graph.
      json_path: file for the figures.

    Returns:
      What was written.

    Raises:
      ResipError: no such model or device, or a model whose module does not name its weights.
    """
    deployed = load_policy(model, threads=threads, device=device)
    deployed.warm_up()
    eager = EagerPolicy(model, device)
    _, front, wrist, _ = golden_inputs(model)
    small = (front[0].numpy(), wrist[0].numpy())
    large = tuple(frame.repeat(2, axis=0).repeat(2, axis=1) for frame in small)
    rows = [_measure(deployed, eager, frames, turns) for frames in (small, large)]
    figures: dict[str, Any] = {
        "model": str(model),
        "sha256": deployed.manifest["sha256"][MODULE_FILE],
        "turns": turns,
        "settings": {"threads": threads, "device": device, "torch": torch.__version__},
        "rows": rows,
    }
    Console(width=None if sys.stdout.isatty() else 120).print(_table(rows))
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _measure(deployed: Policy, eager: EagerPolicy, frames: tuple[NDArray[np.uint8], ...], turns: int) -> dict[str, Any]:
    """Both by turns, the first of them by turns as well."""
    times = {"exported": _Times([], []), "eager": _Times([], [])}
    policies: list[tuple[str, Policy | EagerPolicy]] = [("exported", deployed), ("eager", eager)]
    worst = 0.0
    height, width, _ = frames[0].shape
    for turn in track(range(-_WARM_UP_TURNS, turns), f"{width}x{height}", transient=True):
        chunks = []
        for name, policy in policies[:: 1 if turn % 2 else -1]:
            policy.reset(turn + _WARM_UP_TURNS)
            began_s = time.perf_counter()
            state = panda.robot_state(panda.RESET_RAD, _QD_RAD_S, np.array(_WIDTH_M))
            prepared = [images.preprocess(frame) for frame in frames]
            prepared_s = time.perf_counter()
            chunks.append(policy.chunk(state, *prepared))
            if turn >= 0:
                times[name].preprocess_s.append(prepared_s - began_s)
                times[name].inference_s.append(time.perf_counter() - prepared_s)
        worst = max(worst, float(np.abs(chunks[0] - chunks[1]).max()))
    timings = {name: each.as_json() for name, each in times.items()}
    return {
        "frames": f"{width}x{height}",
        **timings,
        "ratio": timings["eager"]["total"]["median"] / timings["exported"]["total"]["median"],
        "largest_difference": worst,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    ratios = ", ".join(f"{row['ratio']:.2f} at {row['frames']}" for row in rows)
    worst = max(row["largest_difference"] for row in rows)
    table = Table(
        box=SIMPLE_HEAD,
        title="From two frames and the joints to a chunk, ms",
        caption=f"eager over exported, medians: {ratios}; largest difference of an action {worst:.1e}",
    )
    table.add_column("frames")
    table.add_column("policy")
    table.add_column("stage")
    for heading in ("median", "p95", "p99"):
        table.add_column(heading, justify="right")
    for row in rows:
        for name in ("exported", "eager"):
            for stage, timing in row[name].items():
                numbers = [f"{timing[quantile]:.2f}" for quantile in ("median", "p95", "p99")]
                table.add_row(row["frames"], name, stage, *numbers)
    return table
