"""`resip bench soak`: what many worlds need of memory, and whether that grows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import mujoco
from resip.errors import ResipError
from resip.progress import track

from resip_training.bench.expert_run import ExpertRun

#: Limit on the resident memory of the process.
_MOST_MB: Final = 2000.0
#: Limit on what it grows by once every world has been through an episode: each keeps what its busiest step needed.
_MOST_GROWTH_MB: Final = 20.0


def soak_sim(task: str, worlds: int, steps: int, json_path: Path | None) -> dict[str, Any]:
    """Let the expert drive ``worlds`` worlds for ``steps`` control steps in all, and watch the resident memory.

    Args:
      task: its name.
      worlds: stepped together in one thread.
      steps: of all worlds together.
      json_path: file for the figures.

    Returns:
      The figures.

    Raises:
      ResipError: the process takes too much memory, or ever more.
    """
    run = ExpertRun(task, worlds)
    rounds = max(10, round(steps / worlds))
    resident_mb = []
    for _ in track(range(rounds), f"soak {task}"):
        run.step()
        resident_mb.append(_resident_mb())
    growth_mb = resident_mb[-1] - resident_mb[min(run.env.task.max_steps, rounds // 2)]
    figures = {
        "task": task,
        "simulator": f"mujoco {mujoco.__version__}",
        "worlds": worlds,
        "control_steps": rounds * worlds,
        "resets": run.resets,
        "resident_mb": [round(resident, 1) for resident in resident_mb[rounds // 10 - 1 :: rounds // 10]],
        "growth_mb": round(growth_mb, 1),
    }
    print(
        f"{task}: {worlds} worlds, {rounds * worlds} control steps, {run.resets} resets:"
        f" {resident_mb[-1]:.0f} MB resident, {growth_mb:+.1f} MB since the first episodes"
    )
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    if resident_mb[-1] > _MOST_MB or growth_mb > _MOST_GROWTH_MB:
        raise ResipError(f"{task}: more than {_MOST_MB:.0f} MB resident, or {_MOST_GROWTH_MB:.0f} MB of growth")
    return figures


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
