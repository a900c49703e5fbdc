"""`resip figure`: the paper's studies of students and data (Figs. 4, 5 and 8), drawn from files of figures alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MultipleLocator, NullLocator, StrMethodFormatter
from resip.errors import ResipError
from resip.page import INK, PLOT_STYLE
from resip.trials.statistics import Success

from resip_training import paper
from resip_training.data.coverage import ARRAYS
from resip_training.plotting import VIEWS, label_axes, save_figure
from resip_training.report import plots
from resip_training.report.plots import Bar
from resip_training.report.records import read_evaluation

_DPI: Final = 120
_SIM, _REAL = plots.COLOURS[0], "#c92a2a"  # blue and red, as in the paper
_STUDENT: Final = {"image": plots.COLOURS[1], "state": plots.COLOURS[0]}
_POSITIONS: Final = {"action": "actions", "robot_state": "fingertip positions"}


@dataclass(frozen=True)
class Measured:
    """A policy of a study."""

    success: Success
    task: str
    randomness: str
    cloned_from: str | None
    """``demonstrations`` or ``rollouts``; None for the teacher, which is not cloned."""
    sees: str
    """``image`` or ``state``."""
    n_episodes: int
    """That it was cloned from."""
    random_looks: bool
    """Whether each episode looked otherwise."""

    @property
    def label(self) -> str:
        """In words."""
        if self.cloned_from is None:
            return "the teacher, on states"
        whose = "rollouts of the teacher" if self.cloned_from == "rollouts" else self.cloned_from
        looks = ", under random looks" if self.random_looks else ""
        return f"student on {self.sees}s, {self.n_episodes} {whose}{looks}"

    @property
    def paper_percent(self) -> int | None:
        """The paper's number for such a policy, where it gives one."""
        if self.cloned_from is None:
            return paper.TABLE_1.get((paper.TEACHER, self.task, self.randomness))
        return paper.FIGURE_4.get((self.cloned_from, self.task, self.randomness)) if self.sees == "image" else None


def draw_teacher(evaluations: Sequence[Path], out: Path) -> None:
    """Draw successes of students and of their teacher as bars (Fig. 4).

    Args:
      evaluations: files of `resip evaluate --json`, in the order of the bars.
      out: the picture.

    Raises:
      ResipError: one is no such file or of another task or level, or the picture cannot be written.
    """
    measured = read_measured(evaluations)
    bars = [
        Bar(
            one.label,
            one.success,
            plots.base_colour() if one.cloned_from is None else _STUDENT[one.sees],
            one.paper_percent,
        )
        for one in measured
    ]
    with mpl.rc_context(PLOT_STYLE):
        save_figure(plots.bars_figure({_title(measured): bars}), out, _DPI)
    print(f"figure: {out}")


def draw_scaling(evaluations: Sequence[Path], out: Path) -> None:
    """Draw the success of students over the number of rollouts cloned, and that of their teacher (Fig. 5).

    Args:
      evaluations: files of `resip evaluate --json`, of students and, if wanted, of the teacher.
      out: the picture.

    Raises:
      ResipError: as `draw_teacher`, or there is no student of a teacher's rollouts.
    """
    measured = read_measured(evaluations)
    students = sorted((one for one in measured if one.cloned_from == "rollouts"), key=lambda one: one.n_episodes)
    if not students:
        raise ResipError("no student of a teacher's rollouts is among these evaluations")
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axis = figure.subplots()
        _draw_students(axis, students)
        for teacher in (one for one in measured if one.cloned_from is None):
            _draw_level(axis, teacher.success)
        _draw_papers_scaling(axis, students[0])
        axis.set_title(_title(measured), loc="left", fontsize=10)
        axis.set_ylabel("success (%)")
        axis.set_ylim(-7.0, 103.0)
        axis.yaxis.set_major_locator(MultipleLocator(20))
        axis.set_xlabel("teacher's rollouts that the student was cloned from")
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
        save_figure(figure, out, _DPI)
    print(f"figure: {out}")


def draw_coverage(figures: Path, out: Path) -> None:
    """Draw the positions of a simulated and of a real set from three sides (Fig. 8).

    Args:
      figures: file of `resip data coverage --json`.
      out: the picture.

    Raises:
      ResipError: it is no such file, or the picture cannot be written.
    """
    with mpl.rc_context(PLOT_STYLE):
        try:
            figure = _coverage_figure(json.loads(figures.read_text()))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ResipError(f"{figures} is not a file of `resip data coverage` ({error!r})") from error
        save_figure(figure, out, _DPI)
    print(f"figure: {out}")


def read_measured(evaluations: Sequence[Path]) -> list[Measured]:
    """Read the evaluations of one study.

    Raises:
      ResipError: one is no file of `resip evaluate`, or they are of several tasks or levels.
    """
    measured = [_read_measured(path) for path in evaluations]
    if not measured:
        raise ResipError("a figure needs evaluations: give files of `resip evaluate --json`")
    for path, one in zip(evaluations, measured, strict=True):
        if (one.task, one.randomness) != (measured[0].task, measured[0].randomness):
            raise ResipError(
                f"{path} is of {one.task} ({one.randomness}), {evaluations[0]} of {measured[0].task} "
                f"({measured[0].randomness}): a figure shows one"
            )
    return measured


def _read_measured(path: Path) -> Measured:
    evaluation = read_evaluation(path)
    figures = evaluation.figures
    if "learned" not in figures:
        raise ResipError(f"{path} does not say what the policy learned from: evaluate it again")
    learned, data = figures["learned"], figures["learned"]["data"] or {}
    cloned_from = None
    if learned["algorithm"] == "bc":
        cloned_from = "rollouts" if data.get("source") == "teacher" else "demonstrations"
    return Measured(
        evaluation.success,
        figures["task"],
        figures["randomness"],
        cloned_from,
        learned["observation"],
        data.get("n_demonstrations", 0),
        figures["settings"].get("random_looks", False),  # older files are of the plain cell
    )


def _title(measured: Sequence[Measured]) -> str:
    return f"{measured[0].task}, {measured[0].randomness} randomness"


def _draw_students(axis: Axes, students: Sequence[Measured]) -> None:
    """Points with intervals, over a logarithmic number of rollouts."""
    numbers = [one.n_episodes for one in students]
    rates = np.array([100 * one.success.rate for one in students])
    ends = 100 * np.array([one.success.interval for one in students])
    whiskers = np.abs(ends.T - rates)
    colour = _STUDENT["state"]
    axis.errorbar(
        numbers, rates, yerr=whiskers, fmt="o-", color=colour, capsize=3, label="student on states, with 95 % interval"
    )
    for one, rate in zip(students, rates, strict=True):
        beside = {"xytext": (6, -11), "textcoords": "offset points", "fontsize": 8.5}
        axis.annotate(f"{one.success.k} of {one.success.n}", (one.n_episodes, rate), **beside)
    axis.set_xscale("log")
    _tick(axis, numbers)


def _tick(axis: Axes, numbers: Sequence[int]) -> None:
    """Number the axis at what was measured."""
    axis.xaxis.set_major_locator(FixedLocator(numbers))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))


def _draw_level(axis: Axes, teacher: Success) -> None:
    """The teacher's success as a line with its interval."""
    low, high = teacher.interval
    axis.axhline(100 * teacher.rate, color=INK, linewidth=1.2, label=f"their teacher, {teacher.k} of {teacher.n}")
    axis.axhspan(100 * low, 100 * high, color=plots.base_colour(), alpha=0.35, linewidth=0)


def _draw_papers_scaling(axis: Axes, like: Measured) -> None:
    """What the paper gives for this task and level."""
    points = {n: percent for (n, *which), percent in paper.FIGURE_5.items() if which == [like.task, like.randomness]}
    if points:
        style = {"ms": 7, "mfc": "white", "mec": INK, "mew": 1.3, "ls": "none"}
        axis.plot(list(points), list(points.values()), "D", label="the paper's student", **style)
        _tick(axis, sorted({*axis.get_xticks().astype(int).tolist(), *points}))
    teachers = paper.TABLE_1.get((paper.TEACHER, like.task, like.randomness))
    if teachers is not None:
        axis.axhline(teachers, color=INK, linewidth=1.2, linestyle=":", label="the paper's teacher")


def _coverage_figure(figures: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(11.0, 7.4), layout="constrained")
    axes = figure.subplots(len(ARRAYS), len(VIEWS))
    for row, name in zip(axes, ARRAYS, strict=True):
        _draw_positions(row, figures, name)
    covered = " and ".join(_covered(figures, name) for name in ARRAYS)
    title = f"{figures['task']}: {covered}\nare within {figures['near_mm']:g} mm of a simulated one"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    labels = [
        f"{which} ({figures[key]['name']}, {figures[key]['n_episodes']} episodes)"
        for which, key in (("simulated", "sim"), ("real", "real"))
    ]
    handles, _ = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, markerscale=5)
    return figure


def _covered(figures: dict[str, Any], name: str) -> str:
    covered = figures["real_covered"][name]
    low, high = (100 * end for end in covered["interval"])
    return f"{100 * covered['share']:.0f} % (95 % interval {low:.0f} to {high:.0f} %) of the real {_POSITIONS[name]}"


def _draw_positions(row: Sequence[Axes], figures: dict[str, Any], name: str) -> None:
    for axis, (title, x, y) in zip(row, VIEWS, strict=True):
        for which, colour in (("sim", _SIM), ("real", _REAL)):
            positions_m = np.array(figures[which]["positions_mm"][name]) / 1000
            axis.scatter(positions_m[:, x], positions_m[:, y], s=2.0, c=colour, alpha=0.45, linewidths=0, label=which)
        axis.set_title(f"{_POSITIONS[name]}, {title}", loc="left", fontsize=9)
        label_axes(axis, x, y)
