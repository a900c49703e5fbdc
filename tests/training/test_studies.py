"""The paper's studies: what their figures show of files alone, and how far real data are covered by simulated ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_demos import PROVENANCE, make_episode, write_demos
from resip import cli
from resip.errors import ResipError
from resip.trials.statistics import Success
from resip_training.data.coverage import measure_coverage
from resip_training.data.store import DemoWriter
from resip_training.report import plots, studies
from resip_training.report.studies import draw_coverage, draw_scaling, draw_teacher, read_measured

PNG = b"\x89PNG"


def evaluated(path: Path, k: int, sees: str = "state", source: str | None = None, n: int = 0, **changes: Any) -> Path:
    """A file of `resip evaluate --json`: ``k`` of 20, cloned from ``n`` episodes of ``source``, or else a teacher."""
    data = None if source is None else {"source": source, "n_demonstrations": n, "n_steps": 9 * n, "sha256": "d" * 64}
    figures = {
        "task": "one_leg",
        "randomness": "low",
        "sha256": "a" * 64,
        "success": Success.of([i < k for i in range(20)], range(500, 520)).as_json(),
        "learned": {"algorithm": "residual-ppo" if source is None else "bc", "observation": sees, "data": data},
        "settings": {},
        "wall_s": 12.0,
        "machine": "2 cores",
        "command": "resip evaluate RUN",
    }
    path.write_text(json.dumps({**figures, **changes}))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Students on images of demonstrations and of rollouts, students on states of 10 to 100 rollouts, their teacher."""
    return [
        evaluated(tmp_path / "images_of_demos.json", 8, "image", "expert", 50),
        evaluated(tmp_path / "images.json", 12, "image", "teacher", 100),
        *(evaluated(tmp_path / f"{n}.json", k, "state", "teacher", n) for n, k in ((100, 13), (10, 4), (30, 9))),
        evaluated(tmp_path / "teacher.json", 19),
    ]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are written, which are written all the same."""
    saved, save = [], studies.save_figure
    monkeypatch.setattr(studies, "save_figure", lambda figure, *rest: (saved.append(figure), save(figure, *rest)))
    return saved


def test_the_papers_numbers_stand_beside_policies_of_the_same_kind_alone(files: list[Path]) -> None:
    measured = read_measured(files)
    assert [one.paper_percent for one in measured] == [50, 73, None, None, None, 95]
    assert measured[0].label == "student on images, 50 demonstrations"
    assert measured[2].label == "student on states, 100 rollouts of the teacher"


def test_a_student_that_was_measured_under_random_looks_says_so(tmp_path: Path) -> None:
    file = evaluated(tmp_path / "looks.json", 1, "image", "teacher", 100, settings={"random_looks": True})
    assert read_measured([file])[0].label == "student on images, 100 rollouts of the teacher, under random looks"


def test_the_papers_numbers_are_those_of_one_leg_at_low_randomness(tmp_path: Path) -> None:
    other = [
        evaluated(tmp_path / "a.json", 12, "image", "teacher", 100, randomness="med"),
        evaluated(tmp_path / "b.json", 12, "image", "expert", 100, randomness="med"),
    ]
    assert [one.paper_percent for one in read_measured(other)] == [None, None]


def test_a_bar_for_each_policy_in_the_order_of_the_files(files: list[Path], tmp_path: Path, drawn: list[Any]) -> None:
    chosen = [files[0], files[1], files[2], files[5]]
    draw_teacher(chosen, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(PNG)
    (axis,) = drawn[0].axes
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([40, 60, 65, 95])
    assert [text.get_text() for text in axis.get_yticklabels()][-1] == "the teacher, on states"
    colours = [bar.get_facecolor() for bar in axis.patches]
    assert colours[0] == colours[1] != colours[2]


def test_students_are_drawn_over_their_rollouts_with_intervals(
    files: list[Path], tmp_path: Path, drawn: list[Any]
) -> None:
    draw_scaling(files[2:], tmp_path / "study.png")
    (axis,) = drawn[0].axes
    (whiskers,) = axis.containers
    np.testing.assert_array_equal(whiskers.lines[0].get_xdata(), [10, 30, 100])
    np.testing.assert_allclose(whiskers.lines[0].get_ydata(), [20, 45, 65])
    bottom, top = whiskers.lines[2][0].get_segments()[0][:, 1]
    assert (bottom, top) == pytest.approx(
        [100 * end for end in Success.of([True] * 4 + [False] * 16, range(20)).interval]
    )
    labels = {line.get_label(): line.get_ydata()[0] for line in axis.lines}
    assert labels["their teacher, 19 of 20"] == pytest.approx(95)
    assert (labels["the paper's student"], labels["the paper's teacher"]) == (77, 95)
    assert list(axis.get_xticks()) == [10, 30, 100, 10_000]


def test_files_that_do_not_belong_together_are_refused(files: list[Path], tmp_path: Path) -> None:
    other = evaluated(tmp_path / "other.json", 3, task="peg_hole")
    with pytest.raises(
        ResipError, match=r"other.json is of peg_hole \(low\), .* of one_leg \(low\): a figure shows one"
    ):
        draw_teacher([files[0], other], tmp_path / "study.png")
    with pytest.raises(ResipError, match="no student of a teacher's rollouts"):
        draw_scaling([files[0], files[5]], tmp_path / "study.png")
    with pytest.raises(ResipError, match="a figure needs evaluations"):
        draw_teacher([], tmp_path / "study.png")
    assert not (tmp_path / "study.png").exists()


def test_other_files_are_named(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ResipError, match=r"gone.json is not a file of `resip evaluate`"):
        draw_teacher([tmp_path / "gone.json"], tmp_path / "study.png")
    old = json.loads(files[0].read_text())
    del old["learned"]
    files[0].write_text(json.dumps(old))
    with pytest.raises(ResipError, match="does not say what the policy learned from: evaluate it again"):
        draw_teacher(files, tmp_path / "study.png")
    with pytest.raises(ResipError, match=r"images.json is not a file of `resip data coverage`"):
        draw_coverage(files[1], tmp_path / "study.png")
    with pytest.raises(ResipError, match=r"cannot write the plot .*study.nothing"):
        draw_teacher(files[1:], tmp_path / "study.nothing")


def test_counts_do_not_cover_the_papers_mark() -> None:
    far, near = (Success.of([i < k for i in range(20)], range(20)) for k in (2, 13))
    figure = plots.bars_figure({"": [plots.Bar("", far, "red", 90), plots.Bar("", near, "red", 90)]})
    beside = [text.get_position()[0] for text in figure.axes[0].texts]
    assert beside[0] < 90 < beside[1]


# ---- coverage ----


def test_the_share_of_real_positions_that_simulated_ones_are_near_to(tmp_path: Path) -> None:
    """Of two real episodes one is simulated as well; of the other one all is 10 cm off."""
    sim = write_demos(tmp_path / "sim", n_episodes=1, images=False).path
    writer = DemoWriter(tmp_path / "real", replace(PROVENANCE, images=False))
    episode = make_episode(0, images=False)
    away = {"action": episode.action.copy(), "robot_state": episode.robot_state.copy()}
    for positions in away.values():
        positions[:, 1] += 0.1
    writer.append(episode)
    writer.append(replace(episode, **away, seed=1))
    writer.append(replace(episode, **away, seed=2, success=False))  # what failed does not count
    figures = measure_coverage(sim, tmp_path / "real", tmp_path / "coverage.json")
    for covered in figures["real_covered"].values():
        assert covered["share"] == 0.5
        assert covered["interval"] == [0.0, 1.0], "two episodes tell little"
        assert covered["p95_mm"] > 90
    assert figures["real"]["n_episodes"] == 2
    assert len(figures["real"]["positions_mm"]["action"]) == 40
    assert json.loads((tmp_path / "coverage.json").read_text()) == figures


def test_a_set_of_another_task_covers_nothing(tmp_path: Path) -> None:
    sim = write_demos(tmp_path / "sim", n_episodes=1, images=False).path
    DemoWriter(tmp_path / "lamp", replace(PROVENANCE, task="lamp", images=False)).append(make_episode(0, images=False))
    with pytest.raises(ResipError, match="lamp holds demonstrations of 'lamp', not of 'one_leg'"):
        measure_coverage(sim, tmp_path / "lamp", tmp_path / "coverage.json")


def test_the_positions_of_both_sets_are_drawn_from_three_sides_of_the_file_alone(
    tmp_path: Path, drawn: list[Any]
) -> None:
    sim = write_demos(tmp_path / "sim", n_episodes=3, images=False)
    write_demos(tmp_path / "real", n_episodes=2, images=False)
    coverage = tmp_path / "coverage.json"
    for command in (
        f"data coverage {sim.path} {tmp_path / 'real'} --json {coverage}",
        f"figure coverage {coverage} --out {tmp_path / 'study.png'}",
    ):
        assert cli.run(command.split()) == 0
    axes = drawn[0].axes
    assert len(axes) == 6
    side_view = axes[1].collections[0].get_offsets()
    np.testing.assert_allclose(side_view, sim.action[:, [0, 2]], atol=0.00051)
    assert "100 % (95 % interval 100 to 100 %) of the real actions" in drawn[0].get_suptitle()
    assert (tmp_path / "study.png").read_bytes().startswith(PNG)
