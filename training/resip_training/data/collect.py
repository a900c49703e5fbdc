"""`resip collect`: demonstrations of a task's expert into a data set, with rendered images or without."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path

import mujoco
from resip import spaces
from resip.progress import bars

from resip_training.data.displaced import DISPLACEMENT_M, displaced
from resip_training.data.store import WORLD, DemoWriter, Episode, Provenance
from resip_training.experts.rollout import Trajectory, run_expert
from resip_training.experts.variety import Disturbance, Style
from resip_training.render.replay import Replay
from resip_training.sim import snapshots, tasks
from resip_training.sim.env import AssemblyEnv


def collect(
    task: str,
    demos: int,
    seed: int,
    randomness: str,
    out: Path,
    threads: int,
    copies: int = 0,
    images: bool = True,
) -> None:
    """Record ``demos`` successful episodes from seed ``seed`` on into ``out``; a set that has some is completed.

    The simulator's states are recorded as well, but not where there are displaced copies, which have none.

    Args:
      task: name of the task.
      demos: how many the set is to hold.
      seed: first seed; one whose episode fails is skipped.
      randomness: level of the resets.
      out: folder of the set.
      threads: of the simulation.
      copies: displaced copies that are stored beside each (see ``displaced``).
      images: whether to render both cameras.

    Raises:
      ResipError: unknown task or randomness, ``out`` holds something else, or no GL to render with.
    """
    description = tasks.get(task)
    tasks.randomness(description, randomness)
    style, disturbance = Style(), Disturbance()
    record_worlds = copies == 0
    simulator = {
        "name": f"mujoco {mujoco.__version__}",
        "timestep_s": description.timestep_s,
        "drive": "impedance",
        "style": asdict(style),
        "disturbance": asdict(disturbance),
        "displaced_copies": {"number": copies, "within_m": DISPLACEMENT_M},
    }
    if record_worlds:
        simulator[WORLD] = snapshots.layout(AssemblyEnv(task, 1, randomness).worlds.snapshot())
    writer = DemoWriter(out, Provenance(task, randomness, "expert", description.part_names, simulator, images=images))
    replay = Replay(description) if images else None
    with bars("demonstrations") as progress:
        bar = progress.add_task(f"collect {task}", total=demos, completed=len(writer.seeds))
        fresh = (s for s in itertools.count(seed) if s not in writer.seeds)
        while len(writer.seeds) < demos:
            seeds = list(itertools.islice(fresh, demos - len(writer.seeds)))
            for run in run_expert(
                task,
                randomness,
                seeds,
                threads=threads,
                style=style,
                disturbance=disturbance,
                record_worlds=record_worlds,
            ):
                if run.success:
                    writer.append_from(as_episode(displaced(run, copy), replay) for copy in range(copies + 1))
                    progress.update(bar, completed=len(writer.seeds))
    if replay is not None:
        replay.close()
    print(f"{len(writer.seeds)} demonstrations, {writer.n_steps} steps in {out}")


def as_episode(run: Trajectory, replay: Replay | None) -> Episode:
    """An episode of a data set, with the pictures of both cameras if there is something to render them with."""
    width_m = run.robot_state[:, spaces.STATE_GRIPPER_WIDTH.start]
    seen = run.joint_positions, width_m, run.part_poses
    images = {} if replay is None else {camera: replay.render(camera, *seen) for camera in spaces.CAMERAS}
    return Episode(
        robot_state=run.robot_state,
        part_poses=run.part_poses,
        action=run.action,
        reward=run.reward,
        joint_positions=run.joint_positions,
        seed=run.seed,
        success=run.success,
        world=run.world,
        **images,
    )
