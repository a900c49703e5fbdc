"""Plots of training runs as SVG text: learning curves, and success beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, LogLocator, MultipleLocator, NullLocator, StrMethodFormatter
from resip.page import INK, PLOT_STYLE, svg
from resip.trials.statistics import Success

from resip_training.report.records import Curve

#: Of groups of runs, in their order; distinct in grey and to the colour blind (Okabe and Ito 2008).
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a", "#8c564b")
_BASE_ALONE: Final = "#aab4bd"

_COLUMNS: Final = 3
_WIDTH_IN: Final = 11.0
_PANEL_IN: Final = 2.6
_BAR_IN: Final = 0.34
_COUNT_WIDTH: Final = 11.0  # of "140 of 200", in units of the axis
_SEED_OPACITY: Final = 0.35
_MEAN_POINTS: Final = 200


@dataclass(frozen=True)
class Quantity:
    """What a panel shows."""

    tag: str
    """Name in TensorBoard."""
    title: str
    """With its unit."""
    factor: float = 1.0
    """From what is logged to that unit."""
    logarithmic: bool = False
    reference: str | None = None
    """Another name whose last value is what to beat."""


#: What a run is judged by.
MAIN: Final = (
    Quantity("validation/success", "success in validation (%)", 100.0, reference="validation/success/base"),
    Quantity("training_success", "success of training episodes (%)", 100.0),
    Quantity("loss", "training loss", logarithmic=True),
    Quantity("validation/loss/held_out", "loss on held-out demonstrations", logarithmic=True),
    Quantity("validation/position_error_mm", "position error, held-out demonstrations (mm)"),
    Quantity("validation/gripper_agreement", "gripper agreement, held-out demonstrations (%)", 100.0),
)
#: What explains it, where there is a better name than that in TensorBoard.
OTHERS: Final = (
    Quantity("residual_mean", "mean size of the residual, before alpha"),
    Quantity("kl", "KL divergence of an update (nats)"),
    Quantity("value_loss", "value loss", logarithmic=True),
    Quantity("policy_loss", "policy loss"),
    Quantity("explained_variance", "explained variance of the returns (%)", 100.0),
    Quantity("epochs", "epochs until the KL stop"),
    Quantity("episodes", "episodes that ended in an iteration"),
    Quantity("actor_rate", "step size of the actor", logarithmic=True),
    Quantity("learning_rate", "learning rate"),
    Quantity("samples_per_s", "samples (or control steps) per second"),
)
_DRAWN_WITH_ANOTHER: Final = {quantity.reference for quantity in MAIN if quantity.reference}


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds only."""

    label: str
    colour: str
    curves: list[dict[str, Curve]]
    """Of each run."""


@dataclass(frozen=True)
class Bar:
    """A measured success."""

    label: str
    success: Success
    colour: str
    paper_percent: int | None


def quantities(curves: Sequence[Mapping[str, Curve]]) -> tuple[list[Quantity], list[Quantity]]:
    """What these runs have logged, apart: what they are judged by, and the rest."""
    tags = {tag for one in curves for tag in one} - _DRAWN_WITH_ANOTHER
    main = [quantity for quantity in MAIN if quantity.tag in tags]
    named = [quantity for quantity in OTHERS if quantity.tag in tags]
    unnamed = tags - {quantity.tag for quantity in (*main, *named)} - {"validation/improved"}
    return main, named + [Quantity(tag, tag.replace("_", " ")) for tag in sorted(unnamed)]


def learning_curves(groups: Sequence[Group], shown: Sequence[Quantity], unit: str) -> str:
    """Draw a panel for each quantity over the steps of the runs, in ``unit``; seeds thin, their mean thick."""
    columns = 2 if len(shown) in (2, 4) else min(len(shown), _COLUMNS)
    rows = -(-len(shown) // columns)
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, _PANEL_IN * rows + 0.3 * len(groups)), layout=_layout())
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, quantity in zip(axes, shown, strict=False):
            for group in groups:
                _draw_group(axis, group, quantity)
            _label(axis, quantity, unit)
        for axis in axes[len(shown) :]:
            axis.set_axis_off()
        lines = [axes[0].plot([], [], color=group.colour, label=group.label)[0] for group in groups]
        figure.legend(handles=lines, loc="outside upper left", frameon=False)
        return svg(figure)


def success_bars(panels: Mapping[str, Sequence[Bar]]) -> str:
    """Draw `bars_figure` for a page."""
    with mpl.rc_context(PLOT_STYLE):
        return svg(bars_figure(panels))


def bars_figure(panels: Mapping[str, Sequence[Bar]]) -> Figure:
    """Draw measured successes with their 95 % intervals, and the paper's; a panel for each task and level."""
    heights = [len(bars) + 0.6 for bars in panels.values()]
    figure = Figure(figsize=(_WIDTH_IN, _BAR_IN * sum(heights) + 0.75 * len(panels) + 0.5), layout=_layout())
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axis, (title, bars) in zip(axes, panels.items(), strict=True):
        _draw_bars(axis, bars)
        axis.set_title(title, loc="left", fontsize=10)
    axes[-1].set_xlabel("success (%)")
    named = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(named.values()), list(named), loc="outside upper right", ncols=2, frameon=False)
    return figure


def base_colour() -> str:
    """Of a base that is measured beside its residual."""
    return _BASE_ALONE


def _layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)


def _draw_group(axis: Axes, group: Group, quantity: Quantity) -> None:
    curves = [curves[quantity.tag] for curves in group.curves if quantity.tag in curves]
    for curve in curves:
        opacity = _SEED_OPACITY if len(curves) > 1 else 1.0
        marker = "o" if len(curve.steps) <= 20 and quantity.tag.startswith("validation/") else ""
        axis.plot(
            curve.steps, quantity.factor * curve.values, color=group.colour, alpha=opacity, marker=marker, markersize=3
        )
    if len(curves) > 1:
        mean = _mean(curves)
        axis.plot(mean.steps, quantity.factor * mean.values, color=group.colour, linewidth=2.2)
    for curves_of_run in group.curves:
        if quantity.reference in curves_of_run:
            to_beat = quantity.factor * curves_of_run[quantity.reference].values[-1]
            axis.axhline(to_beat, color=group.colour, linestyle=":", linewidth=1.2)


def _mean(curves: Sequence[Curve]) -> Curve:
    """The mean of curves over the steps that all of them have."""
    first, last = max(curve.steps[0] for curve in curves), min(curve.steps[-1] for curve in curves)
    steps = np.linspace(first, max(first, last), _MEAN_POINTS)
    return Curve(steps, np.mean([np.interp(steps, curve.steps, curve.values) for curve in curves], axis=0))


def _label(axis: Axes, quantity: Quantity, unit: str) -> None:
    note = ", base alone dotted" if quantity.reference else ""
    axis.set_title(quantity.title + note, loc="left", fontsize=9)
    axis.set_xlabel(unit)
    axis.set_xlim(left=0.0)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    if quantity.logarithmic:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
    elif quantity.title.startswith("success"):
        axis.set_ylim(-3.0, 103.0)


def _draw_bars(axis: Axes, bars: Sequence[Bar]) -> None:
    for row, bar in enumerate(bars):
        rate, (low, high) = 100 * bar.success.rate, (100 * end for end in bar.success.interval)
        axis.barh(row, rate, height=0.62, color=bar.colour)
        whisker = axis.errorbar(
            rate, row, xerr=[[rate - low], [high - rate]], fmt="none", ecolor=INK, elinewidth=1.2, capsize=3
        )
        whisker.set_label("ours, with 95 % interval")
        ends = [end for end in (high, bar.paper_percent) if end is not None and end <= high + _COUNT_WIDTH]
        axis.text(max(ends) + 1.6, row, f"{bar.success.k} of {bar.success.n}", va="center", fontsize=8.5)
        if bar.paper_percent is not None:
            axis.plot(bar.paper_percent, row, "D", ms=7, mfc="white", mec=INK, mew=1.3, ls="none", label="the paper's")
    axis.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axis.set_ylim(len(bars) - 0.5, -0.5)
    axis.set_xlim(0.0, 112.0)
    axis.xaxis.set_major_locator(MultipleLocator(20))
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
