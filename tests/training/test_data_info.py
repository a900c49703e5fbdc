"""What a set holds is printed, plotted and written as figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_demos import write_demos
from resip.errors import ResipError
from resip_training.data.info import data_info, describe, draw
from resip_training.data.store import DemoSet


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    """Six episodes of twenty steps, each closing the gripper once."""
    return write_demos(tmp_path_factory.mktemp("info") / "demos")


def test_the_figures_are_those_of_the_set(demos: DemoSet) -> None:
    figures = describe(demos)
    assert (figures["demonstrations"], figures["episodes"], figures["steps"]) == (6, 6, 120)
    assert figures["length"] == {"mean": 20.0, "sd": 0.0, "min": 20, "max": 20}
    assert figures["successes"] == 6
    assert figures["gripper_toggles"] == 1.0
    assert figures["sha256"] == demos.sha256()
    assert figures["action"]["gripper"]["min"] == -1.0
    assert figures["action"]["gripper"]["max"] == 1.0
    assert figures["robot_state"]["position_m_z"]["max"] == pytest.approx(0.2)
    assert len(figures["robot_state"]) == 16
    assert len(figures["action"]) == 10
    assert list(figures["part_poses"])[::7] == ["top m_x", "leg4 m_x", "obstacle m_x"]


def test_a_reader_learns_what_the_set_is(demos: DemoSet, capsys: pytest.CaptureFixture[str]) -> None:
    data_info(demos.path)
    printed = capsys.readouterr().out
    assert "one_leg, randomness low, by expert" in printed
    assert "6 demonstrations, 6 episodes, 120 steps (0 min at 10 Hz), with images" in printed
    assert "timestep_s: 0.002" in printed


def test_the_plot_shows_every_action_and_every_start(demos: DemoSet) -> None:
    axes = {axis.get_title(): axis for axis in draw(demos).axes}
    for view in ("top", "side", "front"):
        points = [scatter.get_offsets() for scatter in axes[f"actions, {view} view"].collections]
        assert sum(map(len, points)) == demos.n_steps
    starts = axes["parts at the start, top view"].collections
    assert [len(scatter.get_offsets()) for scatter in starts] == [6, 6, 6]


def test_plot_and_figures_are_written(demos: DemoSet, tmp_path: Path) -> None:
    data_info(demos.path, plot=tmp_path / "coverage.png", json_path=tmp_path / "info.json")
    assert (tmp_path / "coverage.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "info.json").read_text())["steps"] == 120


def test_a_plot_that_cannot_be_written_is_named(demos: DemoSet, tmp_path: Path) -> None:
    for name in ("coverage.xyz", "absent/coverage.png"):
        with pytest.raises(ResipError, match=f"cannot write the plot .*{name}"):
            data_info(demos.path, plot=tmp_path / name)


def test_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResipError, match="not a demonstration data set"):
        data_info(tmp_path)
