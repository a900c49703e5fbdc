"""Ship a policy on states, a base or what was learned on one, as a folder that any command takes for a run.

Beside the run's weights there is the same policy as TorchScript, see `resip.policy.artefact`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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
)
from torch import Tensor

from resip_training.checkpoints import Teacher, load_teacher
from resip_training.export import PARITY_TOLERANCE, check_sizes, trace
from resip_training.exported import ExportedTeacher
from resip_training.model_card import ranges
from resip_training.runs import BEST_FILE, CONFIG_FILE, best_step, read_config, read_metrics, save_tensors, write_text

_GOLDEN_SEEDS: Final = (0, 1, 2)  # of three observations; the module is recorded on the first, compared on all

_CARD: Final = """\
# {task}: teacher on states

A policy ({acts}) that acts from the robot's state and the true poses of all parts: in simulation only. It is
there to be evaluated, rolled out and distilled into a policy that sees.
Made by `resip export`; `config.json` holds the contract, the data and every setting, `{weights}` the weights.

    resip evaluate models/{name} --episodes 200
    resip play {task} --agent models/{name}{show}

`{module}` is the same policy as TorchScript, which needs only torch; `{manifest}` describes it, `{golden}` holds an
example of both methods:

    chunk = module.chunk(robot_state, part_poses, noise)                # asked again after T_a = {horizon}
    action = module.correct(robot_state, part_poses, chunk[:, step])    # at every step

## Data

{data}

## Training

{algorithm}: {steps} {unit} in {minutes:g} minutes on {threads} CPU thread(s), seed {seed}; the weights are those of
step {best_step}{chosen}.

## Evaluation

{evaluation}
Weights: sha256 `{sha256}`.

## Limits

It needs poses that no camera gives, and has met {randomness} randomness only. It has not been run on a real robot.
"""

_DATA: Final = """\
{n_demonstrations} demonstrations ({n_steps} steps at 10 Hz) by the {source}, {randomness} randomness, in simulation;
resets of seeds {seeds}. Hash of the numbers: `{data_sha256}`."""

_ROW: Final = "| {randomness} | {base} | {success} | {seeds} |\n"
_TABLE: Final = "| randomness | base alone | as it acts | seeds |\n|---|---|---|---|\n"


def export_teacher(run: Path, out: Path, evaluations: Sequence[Path] = ()) -> None:
    """Write the best policy of a run, without what training alone needs, and its card.

    Args:
      run: folder of a training run on states, or of a teacher that was shipped before, which keeps its evaluations
        unless others are given.
      out: the folder, for instance ``models/one_leg_teacher``.
      evaluations: files of `resip evaluate RUN --json`, of these very weights.

    Raises:
      ResipError: no such run, an evaluation of other weights, or a policy that is too large.
    """
    teacher, config = load_teacher(run), read_config(run)
    measured = [json.loads(path.read_text()) for path in evaluations]
    for path, figures in zip(evaluations, measured, strict=True):
        if figures.get("sha256") != teacher.sha256():
            raise ResipError(f"{path} measured other weights than the best of {run}: evaluate it again")
    out.mkdir(parents=True, exist_ok=True)
    prefix = "average." if config["algorithm"] == "bc" else ""
    weights = {prefix + name.removeprefix("base.") if prefix else name: t for name, t in teacher.weights.items()}
    save_tensors(out / BEST_FILE, weights, {})
    _write_module(out, teacher)
    trained = {} if "best_step" in config else {"result": read_metrics(run), "best_step": best_step(run)}
    shipped = {**config, "sha256": teacher.sha256(), **trained}
    shipped["evaluations"] = measured or config.get("evaluations", [])
    write_text(out / CONFIG_FILE, json.dumps(shipped, indent=2) + "\n")
    write_text(out / CARD_FILE, _card(out.name, teacher, shipped))
    check_sizes(out)
    size_mb = (out / BEST_FILE).stat().st_size / 1e6
    print(f"{out}: {teacher.task}, {size_mb:.1f} MB, {len(shipped['evaluations'])} evaluations")


def _write_module(out: Path, teacher: Teacher) -> None:
    """Write the policy as TorchScript, with a golden example of both methods and the manifest.

    Raises:
      ResipError: the module differs from the trained policy.
    """
    example = _golden_inputs(teacher)
    state, parts = example["robot_state"], example["part_poses"]
    planner = teacher.planner or teacher.policy
    planned = planner.sample(torch.cat([state, parts], dim=-1), example["noise"])
    example["base_action"] = planned[:, 0]
    recorded = {name: value[:1] for name, value in example.items()}
    seen = (recorded["robot_state"], recorded["part_poses"])
    inputs = {"chunk": (*seen, recorded["noise"]), "correct": (*seen, recorded["base_action"])}
    module = trace(ExportedTeacher(teacher).eval(), inputs)
    with torch.inference_mode():
        actions = module.chunk(state, parts, example["noise"])
        action = module.correct(state, parts, example["base_action"])
    _check_parity(out, {"chunk": actions - planned, "correct": action - _executed(teacher, example)})
    module.save(str(out / MODULE_FILE))
    tensors = {**example, "actions": actions, "action": action}
    arrays: dict[str, Any] = {name: value.numpy() for name, value in tensors.items()}
    np.savez_compressed(out / GOLDEN_FILE, **arrays)
    write_text(out / MANIFEST_FILE, json.dumps(_manifest(out, teacher), indent=2) + "\n")


def _golden_inputs(teacher: Teacher) -> dict[str, Tensor]:
    """Observations from the middle of what was trained on, and the noise that an agent has in these episodes."""
    limits, shape = teacher.policy.observe.normalizer, teacher.policy.noise_shape
    generators = [torch.Generator().manual_seed(seed) for seed in _GOLDEN_SEEDS]
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    spread = torch.stack([torch.rand(len(limits.centre), generator=generator) - 0.5 for generator in generators])
    observation = limits.centre + spread * limits.half_range
    state, parts = observation.split([spaces.STATE_DIM, len(limits.centre) - spaces.STATE_DIM], dim=-1)
    return {"robot_state": state, "part_poses": parts, "noise": noise}


def _executed(teacher: Teacher, example: dict[str, Tensor]) -> Tensor:
    """What the agent of training, evaluation and rollouts does first, ``(n, 10)``."""
    agent = teacher.agent(len(_GOLDEN_SEEDS))
    agent.start(np.ones(len(_GOLDEN_SEEDS), dtype=bool), _GOLDEN_SEEDS)
    return agent.act(torch.cat([example["robot_state"], example["part_poses"]], dim=-1))


def _check_parity(out: Path, differences: dict[str, Tensor]) -> None:
    for method, difference in differences.items():
        worst = float(difference.abs().max())
        if not worst <= PARITY_TOLERANCE:
            raise ResipError(
                f"{out}: {method} of the module is {worst:.2g} off the trained policy (allowed {PARITY_TOLERANCE}): "
                "it is not exported"
            )


def _manifest(out: Path, teacher: Teacher) -> dict[str, Any]:
    policy = teacher.policy
    chunk, action = ["B", *policy.noise_shape], ["B", spaces.ACTION_DIM]
    parts_dim = policy.observe.inputs.observation_dim - spaces.STATE_DIM
    seen = {"robot_state": ["B", spaces.STATE_DIM], "part_poses": ["B", parts_dim]}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "task": teacher.task,
        "contract": spaces.contract("state"),
        "sha256": {name: file_sha256(out / name) for name in (MODULE_FILE, GOLDEN_FILE)},
        "weights_sha256": teacher.sha256(),
        "acts": teacher.learned or "base alone",
        "methods": {  # all numbers are float32; the noise is standard normal
            "chunk": {"inputs": {**seen, "noise": chunk}, "outputs": {"actions": chunk}},
            "correct": {"inputs": {**seen, "base_action": action}, "outputs": {"action": action}},
        },
        "horizons": {"observation": 1, "prediction": policy.prediction_horizon, "action": policy.action_horizon},
        "software": {"export_torch": version("torch")},
    }


def _card(name: str, teacher: Teacher, config: dict[str, Any]) -> str:
    result = config["result"]
    return _CARD.format(
        task=teacher.task,
        name=name,
        acts=teacher.learned or "base alone",
        show=" --show-residual" if teacher.residual is not None else "",
        weights=BEST_FILE,
        module=MODULE_FILE,
        manifest=MANIFEST_FILE,
        golden=GOLDEN_FILE,
        horizon=teacher.policy.action_horizon,
        randomness=teacher.randomness,
        data=_data(config, teacher.randomness),
        algorithm=config["algorithm"],
        steps=result.get("steps", 0),
        unit="updates" if config["algorithm"] == "bc" else "control steps",
        minutes=result.get("minutes", 0),
        threads=result.get("threads", 1),
        seed=config["settings"]["seed"],
        best_step=config["best_step"],
        chosen=", which validated best" if config["best_step"] != result.get("steps") else "",
        evaluation=_evaluation(config["evaluations"]),
        sha256=teacher.sha256(),
    )


def _data(config: dict[str, Any], randomness: str) -> str:
    data = config["data"]
    if data is None:  # what was learned on the base needed none
        return f"Those of its base, the run {config['base']['run']} (weights: sha256 `{config['base']['sha256']}`)."
    return _DATA.format(
        n_demonstrations=data["n_demonstrations"],
        n_steps=data["n_steps"],
        source=data["provenance"]["source"],
        randomness=randomness,
        seeds=ranges(data["seeds"]),
        data_sha256=data["sha256"][:16],
    )


def _evaluation(measured: list[dict[str, Any]]) -> str:
    if not measured:
        return "Not measured yet.\n"
    rows = [
        _ROW.format(
            randomness=figures["randomness"],
            base=_rate(figures.get("base_success", figures["success"])),
            success=_rate(figures["success"]) if "base_success" in figures else "",
            seeds=ranges(figures["success"]["seeds"]),
        )
        for figures in measured
    ]
    return _TABLE + "".join(rows)


def _rate(success: dict[str, Any]) -> str:
    low, high = success["interval"]
    return f"{success['k']} of {success['n']} ({low:.0%} to {high:.0%})"
