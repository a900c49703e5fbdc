"""`resip render`: the episodes of a data set as other lights, colours, textures and cameras would have shown them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from resip import spaces
from resip.errors import ResipError, UnknownNameError

from resip_training.data.store import DemoSet, DemoWriter, Episode, Provenance, provenance_of, shard_path
from resip_training.progress import progress_bars
from resip_training.render.replay import Replay
from resip_training.shards import Shard
from resip_training.sim import tasks
from resip_training.sim.appearance import VisualRandomness
from resip_training.sim.task import Task

#: How long an appearance lasts; ``never``: nothing is drawn, all is nominal.
Every = Literal["frame", "episode", "never"]


def render_dataset(
    dataset: Path,
    out: Path,
    seed: int = 0,
    copies: int = 1,
    every: Every = "frame",
    stride: int = 1,
    shard: Shard | None = None,
) -> None:
    """Render both cameras of every episode of ``dataset``, under visual randomisation, into the set ``out``.

    All else is copied. What is in ``out`` already stays: the same command finishes an interrupted run. An
    appearance follows from seed, episode, copy and frame alone: shards give what one process would.

    Args:
      dataset: folder of the recorded set.
      out: folder of the new set; with ``shard``, of its shards.
      seed: of the appearances.
      copies: times that each episode is rendered.
      every: whether an appearance lasts for a frame, as in the reference, or for an episode; ``never`` draws none.
      stride: steps from one that is rendered to the next, from an episode's first on; the frames between are black,
        and nothing is learned from them (``DemoSet.shown``).
      shard: which part to render; None renders all, into one set.

    Raises:
      ResipError: ``dataset`` is not a data set of a known task, ``out`` holds something else, or no GL.
    """
    if copies < 1:
        raise ResipError(f"{copies} copies of each episode: at least 1")
    if stride < 1:
        raise ResipError(f"a stride of {stride} steps: at least 1")
    if every == "never" and copies > 1:
        raise ResipError(f"{copies} copies of each episode without randomisation would be alike: render 1")
    demos = DemoSet(dataset)
    task = task_of(demos)
    episodes_of = _demonstrations(demos, shard)
    length = np.diff(demos.episode_ends, prepend=0)
    steps_of = {demo_seed: copies * int(length[episodes].sum()) for demo_seed, episodes in episodes_of.items()}
    folder = out if shard is None else shard_path(out, shard.index, shard.count)
    writer = DemoWriter(folder, _provenance(demos, seed, copies, every, stride))
    repaint = _Repaint(demos, Replay(task), seed, every, stride)
    with progress_bars("steps") as bars:
        done = sum(steps_of[demo_seed] for demo_seed in writer.seeds)
        bar = bars.add_task(f"render {task.name}", total=sum(steps_of.values()), completed=done)
        for demo_seed, episodes in episodes_of.items():
            if demo_seed not in writer.seeds:
                writer.append_from(
                    repaint.episode(episode, (demo_seed, number, copy), lambda: bars.advance(bar))
                    for number, episode in enumerate(episodes)
                    for copy in range(copies)
                )
    repaint.replay.close()
    print(f"{len(writer.seeds)} demonstrations, {writer.n_steps} steps in {folder}")


def task_of(demos: DemoSet) -> Task:
    """The task of a set.

    Raises:
      ResipError: it is unknown, or was recorded with other parts than it has now.
    """
    try:
        task = tasks.get(demos.provenance["task"])
    except UnknownNameError as error:
        raise ResipError(f"{demos.path}: {error}") from error
    if tuple(demos.provenance["part_names"]) != task.part_names:
        raise ResipError(f"{demos.path} has the parts {demos.provenance['part_names']}, {task.name} {task.part_names}")
    return task


def _demonstrations(demos: DemoSet, shard: Shard | None) -> dict[int, list[int]]:
    """Which episodes a demonstration has, displaced copies included, by its seed: of all, or of a shard's."""
    episodes: dict[int, list[int]] = {}
    for episode, demo_seed in enumerate(demos.seeds.tolist()):
        episodes.setdefault(demo_seed, []).append(episode)
    return episodes if shard is None else dict(shard.of(list(episodes.items())))


def _provenance(demos: DemoSet, seed: int, copies: int, every: Every, stride: int) -> Provenance:
    """That of the recorded set, and what was done to it."""
    rendered = {
        "from": demos.path.resolve().name,
        "sha256": demos.sha256(),
        "seed": seed,
        "copies": copies,
        "every": every,
        "stride": stride,
        "ranges": None if every == "never" else asdict(VisualRandomness()),
    }
    return replace(provenance_of(demos.provenance), images=True, rendered=rendered)


class _Repaint:
    """Renders the episodes of a set under appearances that it draws."""

    def __init__(self, demos: DemoSet, replay: Replay, seed: int, every: Every, stride: int) -> None:
        self.replay = replay
        self._demos, self._seed, self._every, self._stride = demos, seed, every, stride

    def episode(self, episode: int, key: tuple[int, int, int], on_step: Callable[[], None]) -> Episode:
        """An episode of the set with new images; ``key`` (seed, number, copy) tells this rendering from all others."""
        rows = self._demos.episodes[episode]
        demos, n_steps = self._demos, rows.stop - rows.start
        shape = (n_steps, spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3)
        images = {camera: np.zeros(shape, np.uint8) for camera in spaces.CAMERAS}
        for frame in range(n_steps):
            if frame % self._stride == 0:
                if self._every == "frame" or (self._every == "episode" and frame == 0):
                    self.replay.show(self.replay.appearances.draw(self._seed, *key, frame))
                for camera, frames in images.items():
                    frames[frame] = self._view(camera, rows.start + frame)
            on_step()
        return Episode(
            robot_state=demos.robot_state[rows],
            part_poses=demos.part_poses[rows],
            action=demos.action[rows],
            reward=demos.reward[rows],
            joint_positions=demos.joint_positions[rows],
            world=demos.world[rows] if demos.has_worlds else None,
            front=images["front"],
            wrist=images["wrist"],
            seed=key[0],
            success=bool(demos.success[episode]),
        )

    def _view(self, camera: str, row: int) -> NDArray[np.uint8]:
        demos = self._demos
        width_m = demos.robot_state[row, spaces.STATE_GRIPPER_WIDTH.start]
        return self.replay.render_one(camera, demos.joint_positions[row], width_m, demos.part_poses[row])
