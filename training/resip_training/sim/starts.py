"""`resip starts`: how far parts start from their nominal places, measured beside what the levels are meant to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from numpy.typing import NDArray
from resip import rotation
from resip.progress import track

from resip_training.sim import tasks
from resip_training.sim.task import Task, nominal_poses
from resip_training.sim.worlds import Worlds

Array = NDArray[np.float64]

#: What 95 % of a level's displacements lie within (m, degrees). Low and med: the original benchmark's levels; high:
#: med times 1.5, by which the reference's forces and torques grow from med to high.
DEFINITION: Final = {"low": (0.015, 15.0), "med": (0.05, 45.0), "high": (0.075, 67.5)}
_WORLDS: Final = 64
_BINS: Final = 40


def displacements(task: Task, level: str, seeds: range, threads: int = 0) -> tuple[Array, Array]:
    """Horizontal distance (m) and heading (rad) of each part from its nominal pose, each ``(n, n_parts)``.

    Heading is that of what points forward in the nominal layout, so that a round part may roll about its own axis.

    Raises:
      UnknownNameError: the task has no such level.
    """
    count = min(_WORLDS, len(seeds))
    worlds = Worlds(task, count, tasks.randomness(task, level), threads=threads)
    batches = [list(seeds[i : i + count]) for i in range(0, len(seeds), count)]
    poses = []
    for batch in track(batches, f"starts {task.name} {level}"):
        worlds.reset(np.arange(count) < len(batch), [*batch, *[0] * (count - len(batch))])
        poses.append(worlds.part_poses()[: len(batch), :-1])
    placed, nominal = np.concatenate(poses), nominal_poses(task)[:-1]
    distance_m = np.linalg.norm(placed[..., :2] - nominal[:, :2], axis=-1)
    upright = rotation.matrix_from_quat(np.broadcast_to(nominal, placed.shape)[..., 3:])
    forward = (rotation.matrix_from_quat(placed[..., 3:]) @ np.swapaxes(upright, -1, -2))[..., 0]
    return distance_m, np.abs(np.arctan2(forward[..., 1], forward[..., 0]))


def meant(task: Task, level: str) -> tuple[float, float]:
    """What a level is meant to be: m and degrees that 95 % of the displacements lie within.

    Parts that are placed instead of kicked all lie within their square and range of angles.
    """
    randomness = tasks.randomness(task, level)
    if randomness.placement_m > 0.0:
        return float(np.sqrt(2) * randomness.placement_m), float(np.rad2deg(randomness.placement_yaw_rad))
    return DEFINITION[level]


def measure_starts(name: str, folder: Path, episodes: int, seed: int, threads: int = 0) -> dict[str, Any]:
    """Measure every level of a task, print and plot it (``starts_TASK.png``), and return the 95 % quantiles.

    Raises:
      ResipError: unknown task, or the plot cannot be written.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    task = tasks.get(name)
    figure, axes = pyplot.subplots(
        len(task.randomness),
        2,
        figsize=(9, 2.4 * len(task.randomness)),
        layout="constrained",
        squeeze=False,
    )
    figures: dict[str, Any] = {"task": name, "n": episodes, "seed": seed, "levels": {}}
    for level, row in zip(task.randomness, axes, strict=True):
        distance_m, angle_rad = displacements(task, level, range(seed, seed + episodes), threads)
        within_m, within_deg = meant(task, level)
        quantities = ((100 * distance_m, 100 * within_m, "cm"), (np.rad2deg(angle_rad), within_deg, "deg"))
        for axis, (values, within, unit) in zip(row, quantities, strict=True):
            _histogram(axis, values, task.part_names, within)
            quantile = float(np.quantile(values, 0.95))
            figures["levels"].setdefault(level, {})[f"quantile_95_{unit}"] = quantile
            axis.set_title(f"{level}: 95 % within {quantile:.1f} {unit} (meant: {within:.3g})", fontsize="medium")
            print(f"{name} {level}: 95 % of the displacements within {quantile:.1f} {unit}, meant {within:.3g}")
    axes[0, 0].legend(fontsize="x-small")
    axes[-1, 0].set_xlabel("distance from the nominal place (cm)")
    axes[-1, 1].set_xlabel("heading from the nominal one (deg)")
    figure.suptitle(f"{name}: {episodes} starts a level")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"starts_{name}.png", dpi=90)
    pyplot.close(figure)
    return figures


def _histogram(axis: Any, values: Array, names: tuple[str, ...], within: float) -> None:
    edges = np.linspace(0.0, max(values.max(), 1.2 * within), _BINS)
    for part, name in enumerate(names):
        axis.hist(values[:, part], edges, histtype="step", label=name)
    axis.axvline(within, color="black", linestyle=":", linewidth=1)
    axis.set_ylabel("parts")
