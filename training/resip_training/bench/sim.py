"""`resip bench sim`: how fast and how stiff the physics of each task is, beside two other simulators.

CPU time is measured, not wall time, and only ratios within one run mean something: on a shared machine a second
of CPU time does more or less work from one minute to the next.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip import spaces
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resip_training.bench.expert_run import ExpertRun
from resip_training.bench.figures import Figures
from resip_training.bench.peer import PEERS, PeerError, measure_peer
from resip_training.experts.rollout import EXPERTS
from resip_training.sim import tasks
from resip_training.sim.worlds import Worlds

Array = NDArray[np.float64]

#: Contacts are looked at every so many control steps.
_CONTACTS_EVERY: Final = 10
_PROFILED_SUBSTEPS: Final = 10

_TIMER = mujoco.mjtTimer
#: What a physics step spends its time on, and MuJoCo's timers that make it up.
_STAGES: Final[Mapping[str, tuple[mujoco.mjtTimer, ...]]] = MappingProxyType(
    {
        "collision": (_TIMER.mjTIMER_POS_COLLISION,),
        "contact forces": (_TIMER.mjTIMER_POS_MAKE, _TIMER.mjTIMER_POS_PROJECT, _TIMER.mjTIMER_CONSTRAINT),
        "bodies and drives": (
            _TIMER.mjTIMER_POS_KINEMATICS,
            _TIMER.mjTIMER_POS_INERTIA,
            _TIMER.mjTIMER_VELOCITY,
            _TIMER.mjTIMER_ACTUATION,
        ),
        "integration": (_TIMER.mjTIMER_ADVANCE,),
    }
)


@dataclass(frozen=True)
class TaskFigures:
    """A task of this project: what any simulator is asked, and where the time goes."""

    figures: Figures
    expert_ms: float
    """CPU time of the scripted expert for one action: not part of the speed."""
    reset_ms: float
    """CPU time of one world's reset: not part of the speed."""
    python_share: float
    """Of the CPU time of a control step: inverse kinematics, joint commands, observations, success."""
    physics_shares: dict[str, float]
    """Of the CPU time of a physics step, by stage."""


def bench_sim(seconds: float, worlds: int, peers: bool, json_path: Path | None) -> dict[str, Any]:
    """Measure every task that has an expert, and the peers; print a table and write the figures.

    Args:
      seconds: simulated time of each simulator, all its worlds together.
      worlds: of this project's tasks, stepped together in one thread.
      peers: whether to run the other simulators.
      json_path: file for the figures.

    Returns:
      What was written.
    """
    measured = [measure_task(name, seconds, worlds) for name in EXPERTS if name in tasks.TASKS]
    rows = [task.figures for task in measured]
    failures: dict[str, str] = {}
    for name in PEERS if peers else ():
        try:
            rows.append(measure_peer(name, seconds))
        except PeerError as error:
            failures[name] = str(error)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(_speed_table(rows, failures))
    console.print(_profile_table(measured))
    figures = {"tasks": [asdict(task) for task in measured], "peers": [asdict(row) for row in rows[len(measured) :]]}
    figures |= {"could_not_run": failures}
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def measure_task(name: str, seconds: float, worlds: int) -> TaskFigures:
    """Step a task's worlds, driven by its expert, for ``seconds`` of simulated time in all."""
    run = ExpertRun(name, worlds)
    run.stagger()
    run.clock.seconds.clear()
    run.resets = 0
    steps = max(1, round(seconds * spaces.CONTROL_HZ / worlds))
    counts, depths = [], []
    for k in range(steps):
        run.step()
        if k % _CONTACTS_EVERY == 0:
            for found in _contact_depths(run.worlds):
                counts.append(len(found))
                depths.append(found)
    cpu_s, total = run.clock.seconds, steps * worlds
    deep = np.concatenate([*depths, [0.0]])
    return TaskFigures(
        figures=Figures(
            name=name,
            simulator=f"mujoco {mujoco.__version__}",
            actions="expert",
            control_hz=spaces.CONTROL_HZ,
            timestep_s=run.env.task.timestep_s,
            worlds=worlds,
            simulated_s=total / spaces.CONTROL_HZ,
            steps_per_cpu_s=total / cpu_s["step"],
            realtime_factor=total / spaces.CONTROL_HZ / cpu_s["step"],
            contacts_mean=float(np.mean(counts)),
            penetration_p99_m=float(np.quantile(deep, 0.99)),
            penetration_max_m=float(deep.max()),
        ),
        expert_ms=1e3 * cpu_s["expert"] / total,
        reset_ms=1e3 * cpu_s.get("reset", 0.0) / max(run.resets, 1),
        python_share=1.0 - cpu_s["physics"] / cpu_s["step"],
        physics_shares=_physics_shares(run.worlds),
    )


def _contact_depths(worlds: Worlds) -> list[Array]:
    """How deep the touching points of each world are (m)."""
    depths = []
    for i in range(worlds.count):
        data = worlds.posed(i)
        mujoco.mj_collision(worlds.model, data)
        depths.append(-data.contact.dist[data.contact.dist < 0])
    return depths


def _physics_shares(worlds: Worlds) -> dict[str, float]:
    """Shares of a physics step's time by stage, over all worlds as they stand; reading the clock is part of it."""
    mujoco.set_mjcb_time(time.process_time)
    try:
        spent = np.sum([_stage_times(worlds, i) for i in range(worlds.count)], axis=0)
    finally:
        mujoco.set_mjcb_time(None)
    total = spent[int(_TIMER.mjTIMER_STEP)]
    shares = {stage: float(sum(spent[int(timer)] for timer in timers) / total) for stage, timers in _STAGES.items()}
    return shares | {"other": 1.0 - sum(shares.values())}


def _stage_times(worlds: Worlds, i: int) -> Array:
    model, data = worlds.batch.get_model(i), worlds.batch.get_data(i)
    for timer in data.timer:
        timer.duration = 0.0
    mujoco.mj_step(model, data, nstep=_PROFILED_SUBSTEPS)
    return np.array([timer.duration for timer in data.timer])


def _speed_table(rows: list[Figures], failures: dict[str, str]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Speed and contacts, by a second of one core's time")
    table.add_column("task")
    table.add_column("simulator")
    for heading in ("actions", "control", "worlds", "control steps", "x real time", "contacts", "depth p99", "deepest"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.name,
            row.simulator,
            row.actions,
            f"{row.control_hz:g} Hz",
            str(row.worlds),
            f"{row.steps_per_cpu_s:.0f}",
            f"{row.realtime_factor:.1f}",
            f"{row.contacts_mean:.1f}",
            f"{1e3 * row.penetration_p99_m:.2f} mm",
            f"{1e3 * row.penetration_max_m:.2f} mm",
        )
    for name, reason in failures.items():
        table.add_row(name, f"could not run: {reason}")
    return table


def _profile_table(measured: list[TaskFigures]) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Where the time goes")
    table.add_column("task")
    for heading in ("expert", "reset", "Python of a step", *_STAGES, "other"):
        table.add_column(heading, justify="right")
    for task in measured:
        shares = [f"{share:.0%}" for share in task.physics_shares.values()]
        name = task.figures.name
        table.add_row(name, f"{task.expert_ms:.2f} ms", f"{task.reset_ms:.1f} ms", f"{task.python_share:.0%}", *shares)
    return table
