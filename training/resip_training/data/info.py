"""`resip data info`: what a demonstration set holds, in figures and as a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from resip import spaces
from resip.trials.statistics import Success

from resip_training.data.store import DemoSet, knows_failures, success_of_rollouts
from resip_training.plotting import VIEWS, label_axes, save_figure

Array = NDArray[np.float32]

_STATE_NAMES: Final = tuple(
    f"{quantity}_{axis}"
    for quantity, axes in (
        ("position_m", "xyz"),
        ("rot6d", "012345"),
        ("linear_velocity_m_s", "xyz"),
        ("angular_velocity_rad_s", "xyz"),
    )
    for axis in axes
) + ("gripper_width_m",)
_ACTION_NAMES: Final = (*_STATE_NAMES[:9], "gripper")
_POSE_NAMES: Final = tuple(f"{quantity}_{axis}" for quantity, axes in (("m", "xyz"), ("q", "xyzw")) for axis in axes)
_OPEN, _CLOSED = "#1c6dd0", "#d9480f"


def data_info(dataset: Path, plot: Path | None = None, json_path: Path | None = None) -> dict[str, Any]:
    """Print what a set holds, plot it to ``plot`` and write the figures to ``json_path``.

    Raises:
      ResipError: no sound data set, or the plot cannot be written.
    """
    demos = DemoSet(dataset)
    figures = describe(demos)
    for line in _lines(demos, figures):
        print(line)
    if plot is not None:
        save_figure(draw(demos), plot)
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def describe(demos: DemoSet) -> dict[str, Any]:
    """What a set holds, as plain JSON values."""
    lengths = np.diff(demos.episode_ends, prepend=0)
    parts, rollouts = _bodies(demos), _rollouts(demos)
    return {
        "provenance": demos.provenance,
        "demonstrations": demos.n_demonstrations,
        "episodes": demos.n_episodes,
        "steps": demos.n_steps,
        "images": demos.has_images,
        "simulator_states": demos.has_worlds,
        "sha256": demos.sha256(),
        "seeds": demos.seeds.tolist(),
        "successes": int(demos.success.sum()),
        "rollouts": None if rollouts is None else rollouts.as_json(),
        "length": {
            "mean": float(lengths.mean()),
            "sd": float(lengths.std()),
            "min": int(lengths.min()),
            "max": int(lengths.max()),
        },
        "gripper_toggles": _toggles(demos),
        "robot_state": _ranges(demos.robot_state, _STATE_NAMES),
        "action": _ranges(demos.action, _ACTION_NAMES),
        "part_poses": _ranges(demos.part_poses, tuple(f"{part} {name}" for part in parts for name in _POSE_NAMES)),
    }


def _rollouts(demos: DemoSet) -> Success | None:
    """How often the policy that acted in this set succeeded; None for another set, and where only images were made."""
    return success_of_rollouts(demos.path) if knows_failures(demos.provenance) else None


def _bodies(demos: DemoSet) -> tuple[str, ...]:
    """What the set knows the poses of."""
    return (*demos.provenance["part_names"], "obstacle") if demos.knows_parts else ()


def _toggles(demos: DemoSet) -> float:
    """Times that the gripper's command changes in an episode, on average."""
    closes = demos.action[:, spaces.ACTION_GRIPPER.start] > 0
    return float(np.mean([np.count_nonzero(np.diff(closes[rows])) for rows in demos.episodes]))


def _ranges(values: Array, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    statistics = {"min": values.min(axis=0), "max": values.max(axis=0), "mean": values.mean(axis=0)}
    statistics["sd"] = values.std(axis=0)
    return {name: {key: float(of[i]) for key, of in statistics.items()} for i, name in enumerate(names)}


def _lines(demos: DemoSet, figures: dict[str, Any]) -> list[str]:
    """The figures for a reader: what the set is, then a table of the ranges."""
    provenance, length = demos.provenance, figures["length"]
    images = "images" if demos.shown.all() else f"images of {int(demos.shown.sum())} of them"
    has = [what for what, there in ((images, demos.has_images), ("simulator states", demos.has_worlds)) if there]
    minutes = demos.n_steps / spaces.CONTROL_HZ / 60
    rollouts = _rollouts(demos)
    simulator = {name: value for name, value in provenance["simulator"].items() if name != "world"}
    return [
        f"{demos.path}: {provenance['task']}, randomness {provenance['randomness']}, by {provenance['source']}",
        f"{demos.n_demonstrations} demonstrations, {demos.n_episodes} episodes, {demos.n_steps} steps "
        f"({minutes:.0f} min at {spaces.CONTROL_HZ:g} Hz), with {' and '.join(has) or 'robot and part states only'}",
        f"length {length['mean']:.0f} +- {length['sd']:.0f} steps, {length['min']} to {length['max']}",
        f"{figures['successes']} of {demos.n_episodes} succeeded; "
        f"{figures['gripper_toggles']:.1f} gripper toggles an episode",
        *([] if rollouts is None else [f"of all rollouts: {rollouts}; {_plain(provenance['rollout'])}"]),
        f"sha256 {figures['sha256']}",
        *(f"{name}: {_plain(value)}" for name, value in simulator.items()),
        "",
        f"{'dimension':44}{'min':>10}{'max':>10}{'mean':>10}{'sd':>10}",
        *(
            f"{f'{array} {name}':44}" + "".join(f"{value:10.4f}" for value in row.values())
            for array in ("robot_state", "action", "part_poses")
            for name, row in figures[array].items()
        ),
    ]


def _plain(value: Any) -> str:
    """Settings on one line: ``slip 0.001, miss 0.01``; of things that a set was made from, their names alone."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(str(next(iter(one.values()))) for one in value)
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} {' to '.join(map(str, v)) if isinstance(v, list) else v}" for name, v in value.items())


# ---- the plot ----


def draw(demos: DemoSet) -> Figure:
    """Plot actions from three sides as the paper's figure 8 does, places that were reached, starts and lengths."""
    figure = Figure(figsize=(13.5, 8.0), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, (title, x, y) in zip(axes[0], VIEWS, strict=True):
        _draw_actions(axis, demos, x, y)
        axis.set_title(f"actions, {title}", fontsize="medium")
    axes[0, 0].legend(fontsize="small", markerscale=6)
    _draw_reached(figure, axes[1, 0], demos)
    _draw_starts(axes[1, 1], demos)
    _draw_lengths(axes[1, 2], demos)
    provenance = demos.provenance
    figure.suptitle(f"{provenance['task']}, {provenance['randomness']}: {demos.n_episodes} episodes")
    return figure


def _draw_actions(axis: Axes, demos: DemoSet, x: int, y: int) -> None:
    closes = demos.action[:, spaces.ACTION_GRIPPER.start] > 0
    for chosen, colour, label in ((~closes, _OPEN, "gripper open"), (closes, _CLOSED, "gripper closed")):
        axis.scatter(demos.action[chosen, x], demos.action[chosen, y], s=1.0, c=colour, alpha=0.35, label=label)
    label_axes(axis, x, y)


def _draw_reached(figure: Figure, axis: Axes, demos: DemoSet) -> None:
    phase = np.concatenate([np.linspace(0, 100, rows.stop - rows.start) for rows in demos.episodes])
    points = axis.scatter(demos.robot_state[:, 0], demos.robot_state[:, 1], s=1.0, c=phase, cmap="viridis")
    figure.colorbar(points, ax=axis, label="share of the episode (%)")
    axis.set_title("fingertip, top view", fontsize="medium")
    label_axes(axis, 0, 1)


def _draw_starts(axis: Axes, demos: DemoSet) -> None:
    firsts = demos.part_poses[[rows.start for rows in demos.episodes]]
    poses = firsts.reshape(len(firsts), firsts.shape[1] // spaces.PART_POSE_DIM, spaces.PART_POSE_DIM)
    for part, name in enumerate(_bodies(demos)):
        axis.scatter(poses[:, part, 0], poses[:, part, 1], s=9.0, alpha=0.6, label=name)
    if demos.knows_parts:
        axis.legend(fontsize="x-small")
    axis.set_title("parts at the start, top view", fontsize="medium")
    label_axes(axis, 0, 1)


def _draw_lengths(axis: Axes, demos: DemoSet) -> None:
    lengths = np.diff(demos.episode_ends, prepend=0)
    axis.hist(lengths, bins=min(30, max(5, len(lengths) // 2)), color=_OPEN)
    axis.set_title("lengths", fontsize="medium")
    axis.set_xlabel("steps")
    axis.set_ylabel("episodes")
