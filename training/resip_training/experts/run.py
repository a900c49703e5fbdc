"""`resip expert`: how often a task's scripted expert succeeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mujoco
from resip.trials.statistics import Success
from rich.progress import track

from resip_training.experts.rollout import run_expert


def evaluate_expert(
    task: str,
    episodes: int,
    seed: int,
    randomness: str,
    threads: int,
    json_path: Path | None,
    device: str = "cpu",
) -> None:
    """Run the expert on ``episodes`` seeds from ``seed`` on, print its success and write it to ``json_path``.

    Raises:
      ResipError: unknown task, randomness or device, or no GPU.
    """
    seeds = range(seed, seed + episodes)
    runs = run_expert(task, randomness, seeds, num_envs=min(16, episodes), threads=threads, device=device)
    done = sorted(track(runs, f"expert {task}", total=episodes), key=lambda run: run.seed)
    success = Success.of([run.success for run in done], [run.seed for run in done])
    steps = [len(run) for run in done if run.success]
    failures = {run.seed: "a part left the table" if run.fallen else "out of time" for run in done if not run.success}
    print(f"expert {task} ({randomness}): {success}")
    if steps:
        print(f"mean length of a success: {sum(steps) / len(steps):.0f} control steps")
    for failed, reason in failures.items():
        print(f"  seed {failed}: {reason}")
    if json_path is not None:
        figures: dict[str, Any] = {
            "task": task,
            "randomness": randomness,
            "success": success.as_json(),
            "mean_steps": sum(steps) / len(steps) if steps else None,
            "failures": failures,
            "settings": {"simulator": f"mujoco {mujoco.__version__}", "device": device, "drive": "impedance"},
        }
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
