"""Plots of a trial as SVG text: commanded and reached pose, their distance, and the gripper."""

from __future__ import annotations

from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from resip import rotation, spaces
from resip.page import INK, PLOT_STYLE, svg
from resip.trials.timeline import Timeline, Track

Array = NDArray[np.float64]

COMMANDED: Final = "#d9480f"
REACHED: Final = "#1c6dd0"
_ROUNDING_S: Final = 1e-6  # stamps are equal to within it
_MAX_POINTS: Final = 700  # more than a screen has pixels for


def pose_plot(trial: Timeline) -> str:
    """Draw x, y, z commanded and reached, the distance and angle between them, and the gripper, over time."""
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(11.0, 5.4), layout=ConstrainedLayoutEngine(h_pad=0.1))
        axes = figure.subplots(2, 3, sharex=True)
        for i, name in enumerate("xyz"):
            _draw_axis(axes[0, i], trial, i, name)
        _draw_errors(axes[1, 0], axes[1, 1], trial)
        _draw_gripper(axes[1, 2], trial)
        for axis in axes[1]:
            axis.set_xlabel("time (s)")
        axes[0, 0].set_xlim(0.0, max(trial.duration_s, 0.1))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False)
        return svg(figure)


def _draw_axis(axis: Axes, trial: Timeline, index: int, name: str) -> None:
    target, reached = trial.target, _thin(trial.reached)
    axis.plot(reached.times_s, 1e3 * reached.values[:, index], color=REACHED, label="reached")
    # a target holds for a control period, until the next one
    axis.step(
        target.times_s, 1e3 * target.values[:, index], where="post", color=COMMANDED, label="commanded", linewidth=1.0
    )
    axis.set_title(f"{name} (mm)", loc="left", fontsize=9)


def _draw_errors(distance_axis: Axes, angle_axis: Axes, trial: Timeline) -> None:
    distance_axis.set_title("distance to the command (mm)", loc="left", fontsize=9)
    angle_axis.set_title("angle to the command (deg)", loc="left", fontsize=9)
    times_s, distance_m, angle_rad = tracking_errors(trial)
    distance_axis.plot(times_s, 1e3 * distance_m, color=INK, linewidth=1.0)
    angle_axis.plot(times_s, np.rad2deg(angle_rad), color=INK, linewidth=1.0)
    distance_axis.set_ylim(bottom=0.0)
    angle_axis.set_ylim(bottom=0.0)


def tracking_errors(trial: Timeline) -> tuple[Array, Array, Array]:
    """Distance (m) and angle (rad) between each target and the pose reached when its control period is over.

    Returns:
      The times (s) at which the pose was looked up, the distances and the angles, ``(n,)`` each.
    """
    ends_s = trial.target.times_s + spaces.CONTROL_PERIOD_S
    index = np.searchsorted(trial.reached.times_s, ends_s - _ROUNDING_S)
    known = index < len(trial.reached.times_s)
    ends_s, index = ends_s[known], index[known]
    reached, target = trial.reached.values[index], trial.target.values[known]
    distance_m = np.linalg.norm(reached[:, :3] - target[:, :3], axis=1)
    angle_rad = rotation.angle_between(
        rotation.matrix_from_quat(reached[:, 3:]), rotation.matrix_from_quat(target[:, 3:])
    )
    return ends_s, distance_m, angle_rad


def _draw_gripper(axis: Axes, trial: Timeline) -> None:
    width, command = _thin(trial.gripper_width_m), trial.gripper_command
    axis.set_title("gripper width (mm), shaded where told to close", loc="left", fontsize=9)
    axis.plot(width.times_s, 1e3 * width.values, color=REACHED)
    axis.set_ylim(0.0, 85.0)
    if len(command.times_s):
        closed = command.values > 0
        axis.fill_between(
            command.times_s, 0.0, 85.0, where=closed.tolist(), step="post", color=COMMANDED, alpha=0.10, linewidth=0
        )


def _thin(track: Track) -> Track:
    stride = max(1, len(track.times_s) // _MAX_POINTS)
    return Track(track.times_s[::stride], track.values[::stride])
