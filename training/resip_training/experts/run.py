"""`resip expert`: how often the scripted experts succeed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import mujoco
from resip.errors import UnknownNameError
from resip.trials.statistics import Success
from rich.progress import track

from resip_training.experts.rollout import EXPERTS, run_expert

#: Stands for every task that has an expert.
ALL: Final = "all"
_MAX_ENVS: Final = 16


def evaluate_experts(
    task: str, episodes: int, seed: int, levels: Sequence[str], threads: int, json_path: Path | None
) -> None:
    """Run the expert of a task, or of all, on ``episodes`` seeds from ``seed`` on at each level of randomness.

    Prints each success and writes the figures to ``json_path``.

    Raises:
      ResipError: unknown task or randomness.
    """
    if task != ALL and task not in EXPERTS:
        raise UnknownNameError("expert", task, (ALL, *EXPERTS))
    names = tuple(EXPERTS) if task == ALL else (task,)
    seeds = range(seed, seed + episodes)
    figures = [evaluate_expert(name, level, seeds, threads) for name in names for level in levels]
    if json_path is not None:
        settings = {"simulator": f"mujoco {mujoco.__version__}", "drive": "impedance"}
        json_path.write_text(json.dumps({"experts": figures, "settings": settings}, indent=2) + "\n")


def evaluate_expert(task: str, level: str, seeds: Sequence[int], threads: int) -> dict[str, Any]:
    """Run one expert at one level, print its success and return the figures.

    Raises:
      ResipError: unknown task or randomness.
    """
    runs = run_expert(task, level, seeds, num_envs=min(_MAX_ENVS, len(seeds)), threads=threads)
    done = sorted(track(runs, f"expert {task} {level}", total=len(seeds)), key=lambda run: run.seed)
    success = Success.of([run.success for run in done], [run.seed for run in done])
    steps = [len(run) for run in done if run.success]
    mean_steps = sum(steps) / len(steps) if steps else None
    failures = {run.seed: "a part left the table" if run.fallen else "out of time" for run in done if not run.success}
    print(f"expert {task} ({level}): {success}")
    if mean_steps is not None:
        print(f"mean length of a success: {mean_steps:.0f} control steps")
    for failed, reason in failures.items():
        print(f"  seed {failed}: {reason}")
    return {
        "task": task,
        "randomness": level,
        "success": success.as_json(),
        "mean_steps": mean_steps,
        "failures": failures,
    }
