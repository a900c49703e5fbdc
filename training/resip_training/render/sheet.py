"""`resip sheet`: contact sheets, to see at a glance that a task, or a data set's images, look right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from resip import spaces
from resip.errors import ResipError

from resip_training.data.store import DemoSet
from resip_training.experts.rollout import Trajectory, run_expert
from resip_training.render.replay import Replay
from resip_training.sim import tasks

#: Rows of a sheet: starts of episodes of their own, then moments of the first one, as shares of its length.
STARTS: Final = 3
PHASES: Final = (0.2, 0.4, 0.6, 0.8, 1.0)

#: Of a data set's sheet: how many episodes at most, and at which shares of each one's length.
EPISODES: Final = 6
MOMENTS: Final = (0.1, 0.5, 0.9)

_TILE_PX: Final = (200, 150)
_HEADER_PX: Final = 18
_MARGIN_PX: Final = 60
_BACKGROUND: Final = (255, 255, 255)
_INK: Final = (40, 40, 40)
_COLORS: Final = 256
_EXPERT_TRIES: Final = 5


def write_sheets(names: Sequence[str], out: Path, seed: int) -> None:
    """Write ``sheet_TASK.png`` into ``out`` for each task of ``names``, all tasks if there are none.

    Raises:
      ResipError: unknown task, one without an expert that succeeds, ``out`` is no folder, or no GL.
    """
    for name in names:
        tasks.get(name)
    if not out.is_dir():
        raise ResipError(f"{out} is no folder: make it, or give another with --out")
    for name in names or tuple(tasks.TASKS):
        _write(sheet(name, seed), out, name)


def write_dataset_sheet(dataset: Path, out: Path) -> None:
    """Write ``sheet_NAME.png`` into ``out``, of the images that the set ``dataset`` of that name holds.

    Raises:
      ResipError: no sound data set with images, or ``out`` is no folder.
    """
    demos = DemoSet(dataset, images=True)
    _write(dataset_sheet(demos), out, dataset.resolve().name)


def dataset_sheet(demos: DemoSet) -> Image.Image:
    """A data set's contact sheet: a row an episode, spread over the set; front and wrist at some moments of it."""
    chosen = np.unique(np.linspace(0, demos.n_episodes - 1, EPISODES).round().astype(int)).tolist()
    rows = []
    for episode in chosen:
        rows_of = demos.episodes[episode]
        shown = rows_of.start + np.flatnonzero(demos.shown[rows_of])
        steps = [int(shown[round(share * (len(shown) - 1))]) for share in MOMENTS]
        views = [demos.images(camera, slice(step, step + 1))[0] for camera in spaces.CAMERAS for step in steps]
        rows.append((str(demos.seeds[episode]), views))
    return _drawn([f"{camera}, {share:.0%}" for camera in spaces.CAMERAS for share in MOMENTS], rows)


def _write(picture: Image.Image, out: Path, name: str) -> None:
    if not out.is_dir():
        raise ResipError(f"{out} is no folder: make it, or give another with --out")
    path = out / f"sheet_{name}.png"
    _dithered(picture).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def _dithered(picture: Image.Image) -> Image.Image:
    """The picture with a palette: a file of less than half the size."""
    palette = picture.quantize(_COLORS, kmeans=1)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)


def sheet(task: str, seed: int) -> Image.Image:
    """A task's contact sheet: a row a state, front and wrist, each nominal and randomised."""
    level = next(iter(tasks.get(task).randomness))
    runs = _successes(task, level, seed)
    moments = [("start", run, 0) for run in runs]
    moments += [(f"{share:.0%}", runs[0], round(share * (len(runs[0]) - 1))) for share in PHASES]
    replay = Replay(tasks.get(task))
    rows = [(label, _row(replay, run, step, (seed, number))) for number, (label, run, step) in enumerate(moments)]
    replay.close()
    return _drawn([f"{camera}{kind}" for camera in spaces.CAMERAS for kind in ("", ", randomised")], rows)


def _successes(task: str, level: str, seed: int) -> list[Trajectory]:
    """The expert's first successful episodes from ``seed`` on, as many as there are starts."""
    seeds = range(seed, seed + STARTS + _EXPERT_TRIES)
    runs = sorted(run_expert(task, level, seeds, threads=1), key=lambda run: run.seed)
    successes = [run for run in runs if run.success][:STARTS]
    if len(successes) < STARTS:
        raise ResipError(f"{task}: {len(successes)} of {len(seeds)} episodes of the expert succeed, too few to show")
    return successes


def _row(replay: Replay, run: Trajectory, step: int, key: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Views of one state: of each camera, nominal and randomised."""
    width_m = run.robot_state[step, spaces.STATE_GRIPPER_WIDTH.start]
    views = []
    for appearance in (replay.appearances.nominal, replay.appearances.draw(*key)):
        replay.show(appearance)
        poses = run.joint_positions[step], width_m, run.part_poses[step]
        views.append([replay.render_one(camera, *poses) for camera in spaces.CAMERAS])
    return [view for pair in zip(*views, strict=True) for view in pair]


def _drawn(columns: list[str], rows: list[tuple[str, list[NDArray[np.uint8]]]]) -> Image.Image:
    width, height = _TILE_PX
    picture = Image.new("RGB", (_MARGIN_PX + width * len(columns), _HEADER_PX + height * len(rows)), _BACKGROUND)
    pen = ImageDraw.Draw(picture)
    for c, title in enumerate(columns):
        pen.text((_MARGIN_PX + width * c + 4, 3), title, fill=_INK)
    for r, (label, views) in enumerate(rows):
        top = _HEADER_PX + height * r
        pen.text((4, top + height // 2), label, fill=_INK)
        for c, view in enumerate(views):
            tile = Image.fromarray(view).resize(_TILE_PX, Image.Resampling.LANCZOS)
            picture.paste(tile, (_MARGIN_PX + width * c, top))
    return picture
