"""Export a trained policy on images: modules, manifest, golden example and model card in one folder."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Mapping
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
    HALF_FILE,
    INPUTS,
    MANIFEST_FILE,
    MODULE_FILE,
    PROGRAM_FILE,
    Predict,
    file_sha256,
    load_policy,
    read_manifest,
)
from torch import Tensor, nn

from resip_training.data.store import DemoSet
from resip_training.exported import ExportedPolicy, half_stored
from resip_training.model_card import render_card
from resip_training.models.diffusion_policy import DiffusionPolicy, views
from resip_training.origin import part_pose_limits
from resip_training.runs import read_metrics
from resip_training.train import load_policy_of

MAX_SIZE_BYTES: Final = 20_000_000
PARITY_TOLERANCE: Final = 1e-4

#: Largest change of an action by weights in float16: position (m), 6D, and the gripper, whose sign alone is executed.
HALF_TOLERANCE: Final = torch.tensor([1e-4] * 3 + [1e-3] * 6 + [1e-2])

_ORIGINS: Final = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


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
    files = _write_modules(out, policy, golden)
    _write_manifest(out, _manifest(out, files, policy, config, read_metrics(run)))
    load_policy(out, threads=threads).warm_up()
    check_sizes(out)
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


def trace(module: nn.Module, inputs: dict[str, tuple[Tensor, ...]]) -> torch.jit.ScriptModule:
    """Record methods of a module as TorchScript for batches of any size.

    Args:
      module: in evaluation mode.
      inputs: an example of one row for each method; it is repeated, so that the batch is not taken for a constant 1.
    """
    with warnings.catch_warnings(), torch.no_grad():
        # of what is a constant here; that nothing else became one is checked with other inputs and batches
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace_module(module, {name: _pair(rows) for name, rows in inputs.items()}, check_trace=False)


def _write_modules(out: Path, policy: DiffusionPolicy, golden: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Write the module in each of its forms, and the golden example; what the manifest says of the forms."""
    example = tuple(golden[name] for name in INPUTS)
    exported = ExportedPolicy(policy).eval()
    module = trace(exported, {"forward": example})
    _check_parity(module, policy, golden)
    with torch.inference_mode():
        actions = module(*example)
    arrays: dict[str, Any] = {name: value.numpy() for name, value in {**golden, "actions": actions}.items()}
    np.savez_compressed(out / GOLDEN_FILE, **arrays)
    module.save(str(out / MODULE_FILE))
    files = {MODULE_FILE: _described(out / MODULE_FILE, "TorchScript", "float32", _difference(module, golden, actions))}
    files[PROGRAM_FILE] = _write_program(out, exported, golden, actions)
    half = write_half(out, exported, golden, actions)
    return files if half is None else {**files, HALF_FILE: half}


def _write_program(out: Path, module: nn.Module, golden: dict[str, Tensor], actions: Tensor) -> dict[str, Any]:
    program = _export_program(module, tuple(golden[name] for name in INPUTS))
    difference = _difference(program.module(), golden, actions)
    _check_difference(PROGRAM_FILE, difference)
    torch.export.save(program, out / PROGRAM_FILE)
    return _described(out / PROGRAM_FILE, "torch.export", "float32", difference)


def write_half(out: Path, module: nn.Module, golden: dict[str, Tensor], actions: Tensor) -> dict[str, Any] | None:
    """Write a module with its weights in float16, if they are good enough for its golden actions.

    Returns:
      What the manifest says of the file; None where it was not written, which is said.
    """
    half = trace(half_stored(module), {"forward": tuple(golden[name] for name in INPUTS)})
    difference = _difference(half, golden, actions)
    if bool((difference > HALF_TOLERANCE).any()):
        (out / HALF_FILE).unlink(missing_ok=True)
        print(
            f"{HALF_FILE} is not written: weights in float16 move the golden actions by {float(difference.max()):.2g}"
        )
        return None
    half.save(str(out / HALF_FILE))
    return _described(out / HALF_FILE, "TorchScript", "float16, computed in float32", difference)


def _export_program(module: nn.Module, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """A program for batches of any size, without what only tells of this machine and this run of the export."""
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, _pair(example), dynamic_shapes=tuple({0: batch} for _ in example))
    program.example_inputs = None
    graphs = [part.graph for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
    for node in itertools.chain.from_iterable(graph.nodes for graph in graphs):
        for name in _ORIGINS:
            node.meta.pop(name, None)
    return program


def _pair(rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(_repeated(row, 2) for row in rows)


def _repeated(row: Tensor, copies: int) -> Tensor:
    return row.repeat(copies, *[1] * (row.dim() - 1))


def _check_parity(module: Predict, policy: DiffusionPolicy, golden: dict[str, Tensor]) -> None:
    """Compare the module with the training policy under diffusers' DDIM."""
    camera_views = views(policy.config)
    state, front, wrist, noise = (golden[name] for name in INPUTS)
    wanted = policy.sample(state, camera_views["front"](front), camera_views["wrist"](wrist), noise)
    _check_difference(MODULE_FILE, _difference(module, golden, wanted))


def _difference(module: Callable[..., Tensor], golden: dict[str, Tensor], wanted: Tensor) -> Tensor:
    """Largest difference ``(10,)`` of a module's actions from the wanted ones, alone and in a batch of three."""
    differences = []
    for copies in (1, 3):
        with torch.inference_mode():
            actions = module(*(_repeated(golden[name], copies) for name in INPUTS))
        differences.append((actions - wanted).abs().flatten(0, 1).amax(dim=0))
    return torch.stack(differences).amax(dim=0)


def _check_difference(name: str, difference: Tensor) -> None:
    worst = float(difference.max())
    if not worst <= PARITY_TOLERANCE:
        raise ResipError(
            f"{name} is {worst:.2g} off the trained policy (allowed {PARITY_TOLERANCE}): it is not exported"
        )


def _described(path: Path, form: str, weights: str, difference: Tensor) -> dict[str, Any]:
    """What the manifest says of a file; its difference is from the golden actions."""
    by_kind = {
        "position_m": float(difference[spaces.ACTION_POSITION].max()),
        "rot6d": float(difference[spaces.ACTION_ROT6D].max()),
        "gripper": float(difference[spaces.ACTION_GRIPPER].max()),
    }
    return {"form": form, "weights": weights, "bytes": path.stat().st_size, "difference": by_kind}


def _golden_inputs(demos: DemoSet, policy: DiffusionPolicy) -> dict[str, Tensor]:
    """An observation from the middle of the first demonstration, and fixed noise."""
    rows = np.flatnonzero(demos.shown[demos.episodes[0]])
    row = demos.episodes[0].start + int(rows[len(rows) // 2])
    frames = {camera: torch.from_numpy(demos.images(camera, slice(row, row + 1))) for camera in spaces.CAMERAS}
    shape = (1, policy.config.prediction_horizon, spaces.ACTION_DIM)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return {"robot_state": torch.from_numpy(demos.robot_state[row : row + 1]), **frames, "noise": noise}


def _manifest(
    out: Path,
    files: dict[str, dict[str, Any]],
    policy: DiffusionPolicy,
    config: dict[str, Any],
    metrics: dict[str, Any],
) -> dict[str, Any]:
    image = ["B", spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3]
    chunk = ["B", policy.config.prediction_horizon, spaces.ACTION_DIM]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": config["data"]["provenance"]["task"],
        "contract": spaces.contract("image"),
        "sha256": {name: file_sha256(out / name) for name in (*files, GOLDEN_FILE)},
        "files": files,
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
        "training": {
            "algorithm": config["algorithm"],
            "begun_with": config.get("begun_with"),
            "encoder_weights": config.get("encoder_weights"),
            "settings": config["settings"],
            "result": metrics,
            **part_pose_limits(policy),
        },
        "software": {**config["software"], "export_torch": version("torch")},
        "evaluation": None,
    }


def _write_manifest(out: Path, manifest: dict[str, Any]) -> None:
    (out / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
    (out / CARD_FILE).write_text(render_card(manifest))


def check_sizes(out: Path) -> None:
    """Refuse files that no repository should hold.

    Raises:
      ResipError: a file is too large.
    """
    for path in sorted(out.iterdir()):
        if path.stat().st_size > MAX_SIZE_BYTES:
            size = f"{path.stat().st_size / 1e6:.1f} MB"
            raise ResipError(f"{path} has {size}, more than {MAX_SIZE_BYTES / 1e6:.0f}: train a smaller policy")
