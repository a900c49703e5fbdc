"""Ship a policy on states, a base or what was learned on one, as a folder that any command takes for a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from resip.errors import ResipError

from resip_training.checkpoints import Teacher, load_teacher
from resip_training.model_card import ranges
from resip_training.runs import BEST_FILE, CONFIG_FILE, best_step, read_config, read_metrics, save_tensors, write_text

CARD_FILE: Final = "README.md"
MAX_SIZE_BYTES: Final = 20_000_000

_CARD: Final = """\
# {task}: teacher on states

A policy ({acts}) that acts from the robot's state and the true poses of all parts: in simulation only. It is
there to be evaluated, rolled out and distilled into a policy that sees.
Made by `resip export`; `config.json` holds the contract, the data and every setting, `{weights}` the weights.

    resip evaluate models/{name} --episodes 200
    resip play {task} --agent models/{name}{show}

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
      run: folder of a training run on states.
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
    if (out / BEST_FILE).stat().st_size > MAX_SIZE_BYTES:
        raise ResipError(f"{out} is more than {MAX_SIZE_BYTES / 1e6:.0f} MB: train a smaller policy")
    shipped = {
        **config,
        "sha256": teacher.sha256(),
        "result": read_metrics(run),
        "best_step": best_step(run),
        "evaluations": measured,
    }
    write_text(out / CONFIG_FILE, json.dumps(shipped, indent=2) + "\n")
    write_text(out / CARD_FILE, _card(out.name, teacher, shipped))
    print(f"{out}: {teacher.task}, {(out / BEST_FILE).stat().st_size / 1e6:.1f} MB, {len(measured)} evaluations")


def _card(name: str, teacher: Teacher, config: dict[str, Any]) -> str:
    result = config["result"]
    return _CARD.format(
        task=teacher.task,
        name=name,
        acts=teacher.learned or "base alone",
        show=" --show-residual" if teacher.residual is not None else "",
        weights=BEST_FILE,
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
