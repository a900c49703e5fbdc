"""`resip collect`: demonstrations of a task's expert, with rendered images, into a data set."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path

import mujoco
from resip import spaces
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from resip_training.data.displaced import DISPLACEMENT_M, displaced
from resip_training.data.store import DemoWriter, Episode, Provenance
from resip_training.experts.rollout import Disturbance, Trajectory, run_expert
from resip_training.render.replay import Replay
from resip_training.sim import tasks

#: Episodes simulated between two writes: what an interrupt may lose.
_BATCH = 5


def collect(task: str, demos: int, seed: int, randomness: str, out: Path, threads: int, copies: int = 0) -> None:
    """Record ``demos`` successful episodes from seed ``seed`` on into ``out``; a set that has some is completed.

    Args:
      task: name of the task.
      demos: how many the set is to hold.
      seed: first seed; one whose episode fails is skipped.
      randomness: level of the resets.
      out: folder of the set.
      threads: of the simulation.
      copies: displaced copies that are rendered and stored beside each (see ``displaced``).

    Raises:
      ResipError: unknown task or randomness, ``out`` holds something else, or no GL to render with.
    """
    description = tasks.get(task)
    tasks.randomness(description, randomness)
    disturbance = Disturbance()
    simulator = {
        "name": f"mujoco {mujoco.__version__}",
        "timestep_s": description.timestep_s,
        "drive": "impedance",
        "disturbance": asdict(disturbance),
        "displaced_copies": {"number": copies, "within_m": DISPLACEMENT_M},
    }
    writer = DemoWriter(out, Provenance(task, randomness, "expert", description.part_names, simulator))
    replay = Replay(description)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task(f"collect {task}", total=demos, completed=len(writer.seeds))
        fresh = (s for s in itertools.count(seed) if s not in writer.seeds)
        while len(writer.seeds) < demos:
            seeds = list(itertools.islice(fresh, min(_BATCH, demos - len(writer.seeds))))
            for run in run_expert(task, randomness, seeds, threads=threads, disturbance=disturbance):
                if run.success:
                    writer.append_from(_episode(displaced(run, copy), replay) for copy in range(copies + 1))
                    progress.update(bar, completed=len(writer.seeds))
    replay.close()
    print(f"{len(writer.seeds)} demonstrations, {writer.n_steps} steps in {out}")


def _episode(run: Trajectory, replay: Replay) -> Episode:
    width_m = run.robot_state[:, spaces.STATE_GRIPPER_WIDTH.start]
    images = {camera: replay.render(camera, run.joint_positions, width_m, run.part_poses) for camera in spaces.CAMERAS}
    return Episode(
        robot_state=run.robot_state,
        part_poses=run.part_poses,
        action=run.action,
        reward=run.reward,
        joint_positions=run.joint_positions,
        front=images["front"],
        wrist=images["wrist"],
        seed=run.seed,
        success=run.success,
    )
