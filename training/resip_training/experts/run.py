"""`resip expert`: how often the scripted experts succeed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import mujoco
from resip.errors import UnknownNameError
from resip.progress import track
from resip.trials.statistics import Success

from resip_training.experts.rollout import EXPERTS, run_expert, run_expert_in
from resip_training.sim.remote.client import RemoteEnv

#: Stands for every task that has an expert.
ALL: Final = "all"
WORKER_ADDRESSES: Final = ("unix:", "tcp:")
_MAX_ENVS: Final = 16


def evaluate_experts(
    task: str,
    seeds: Sequence[int],
    levels: Sequence[str],
    threads: int = 0,
    json_path: Path | None = None,
    device: str = "cpu",
) -> None:
    """Run the expert of a task, or of all, on each seed at each level of randomness.

    Prints each success and writes the figures to ``json_path``.

    Args:
      task: its name, or ``ALL``.
      seeds: of the episodes.
      levels: of randomness.
      threads: that step the simulations; 0 takes all cores.
      json_path: file for the figures.
      device: where the physics runs: one of ``env.DEVICES``, or the address of a worker.

    Raises:
      ResipError: unknown task or randomness, no such device, or no such simulation at that address.
    """
    if task != ALL and task not in EXPERTS:
        raise UnknownNameError("expert", task, (ALL, *EXPERTS))
    names = tuple(EXPERTS) if task == ALL else (task,)
    figures = [_evaluate(name, level, seeds, threads, device) for name in names for level in levels]
    if json_path is not None:
        json_path.write_text(json.dumps({"experts": figures}, indent=2) + "\n")


def _evaluate(task: str, level: str, seeds: Sequence[int], threads: int, device: str) -> dict[str, Any]:
    settings = {"simulator": f"mujoco {mujoco.__version__}", "device": device, "drive": "impedance"}
    if not device.startswith(WORKER_ADDRESSES):
        runs = run_expert(task, level, seeds, num_envs=min(_MAX_ENVS, len(seeds)), threads=threads, device=device)
    else:
        env = RemoteEnv(device, task, randomness=level)
        settings = {"simulator": env.simulator}
        runs = run_expert_in(env, seeds)
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
        "settings": settings,
    }
