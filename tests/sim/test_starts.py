"""`resip starts`: each level's displacements are what the level is meant to be, and are plotted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from resip.errors import ResipError
from resip_training.sim import tasks
from resip_training.sim.starts import displacements, meant, measure_starts

N = 192


@pytest.mark.parametrize("level", ["low", "med", "high"])
@pytest.mark.parametrize("name", list(tasks.TASKS))
def test_ninety_five_percent_of_the_displacements_lie_within_the_levels_definition(name: str, level: str) -> None:
    task = tasks.get(name)
    within_m, within_deg = meant(task, level)
    distance_m, angle_rad = displacements(task, level, range(40_000, 40_000 + N))
    assert distance_m.shape == angle_rad.shape == (N, len(task.parts))
    assert np.quantile(distance_m, 0.95) < 1.1 * within_m
    assert np.quantile(angle_rad, 0.95) < 1.1 * np.deg2rad(within_deg)
    assert np.quantile(distance_m, 0.95) > 0.7 * within_m, "nor is the level easier than its definition"


def test_the_plot_shows_every_level(tmp_path: Path) -> None:
    figures = measure_starts("peg_hole", tmp_path, episodes=8, seed=0, threads=1)
    assert list(figures["levels"]) == ["low", "med", "high"]
    assert (tmp_path / "starts_peg_hole.png").stat().st_size > 10_000


def test_an_unknown_task_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResipError, match="two_legs"):
        measure_starts("two_legs", tmp_path, episodes=8, seed=0)
