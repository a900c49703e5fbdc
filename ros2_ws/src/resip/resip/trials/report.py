"""`resip report`: one self-contained HTML page for one or several sets of trials."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from resip import page, spaces
from resip.progress import track
from resip.recording.reader import Bag, BagError
from resip.trials import comparison, measure, plots, records, sankey, timeline, video
from resip.trials.comparison import Comparison
from resip.trials.records import Outcome, TrialSet
from resip.trials.stages import COMPLETE
from resip.trials.statistics import Success, Timing

REPORT_FILE: Final = "report.html"
_TEMPLATE: Final = "report.html.j2"
_MAX_VIDEO_BYTES: Final = 3_000_000
_MAX_VIDEOS_BYTES: Final = 60_000_000  # of a whole page: what a browser opens at once
_STAGE_COLOURS: Final = ("#4c6ef5", "#12b886", "#f59f00", "#e64980", "#15aabf", "#7950f2")


@dataclass(frozen=True)
class TrialView:
    """What the page shows of one trial beyond its outcome."""

    outcome: Outcome
    videos: dict[str, str]
    """Camera to base64 MP4."""
    plot: str | None
    """Inline SVG."""
    stage_bar: list[dict[str, Any]]
    note: str | None = None
    """Why something is missing."""
    latency_samples: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Samples (ms) of each of ``measure.LATENCIES``."""


@dataclass(frozen=True)
class PolicyView:
    """What the page shows of one policy of a set."""

    name: str
    """On the page: with the set's, where there are several."""
    path: str
    success: Success
    reached: dict[str, Success]
    sankey: str
    latency: dict[str, Timing]
    """Of all its trials together."""
    outcomes: list[Outcome]
    """Its judged trials."""
    seconds: float | None
    """Mean duration of a success; None where there is none."""


@dataclass(frozen=True)
class SetView:
    """One set of trials on the page."""

    trials: TrialSet
    views: list[TrialView]
    policies: list[PolicyView]
    stage_times: list[tuple[str, float]]
    """Mean seconds a trial spent in each stage."""


def write_report(directories: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page for sets of trials; several are compared at its top.

    Args:
      directories: each written by ``resip trial``.
      out: the file; by default ``report.html`` in the first directory.

    Returns:
      The file written.

    Raises:
      RecordError: a directory holds no trials.
    """
    sets = [records.read_set(directory) for directory in directories]
    n_trials = sum(len(trials.outcomes) for trials in sets)
    budget = min(_MAX_VIDEO_BYTES, _MAX_VIDEOS_BYTES // max(1, len(spaces.CAMERAS) * n_trials))
    views = [_set_view(trials, budget, alone=len(sets) == 1) for trials in sets]
    out = out or directories[0] / REPORT_FILE
    out.write_text(_render(views))
    return out


def report(directories: Sequence[Path], out: Path | None = None) -> None:
    """Carry out ``resip report``: write the page and print its path.

    Raises:
      RecordError: a directory holds no trials.
    """
    path = write_report(directories, out)
    Console().print(f"report: {path}", soft_wrap=True)


def _render(views: list[SetView]) -> str:
    return page.render(
        "resip.trials", _TEMPLATE, sets=views, comparisons=_comparisons(views), latency_names=measure.LATENCIES
    )


def _comparisons(views: list[SetView]) -> list[Comparison]:
    """Every two policies of the page; of one task only, for tasks are not compared."""
    if len(views) == 1:
        return views[0].trials.comparisons
    if len({view.trials.settings.task for view in views}) > 1:
        return []
    policies = [policy for view in views for policy in view.policies]
    return comparison.compare({one.name: {o.seed: o.success for o in one.outcomes} for one in policies})


def _set_view(trials: TrialSet, max_video_bytes: int, alone: bool) -> SetView:
    described = f"report of {trials.directory.name}"
    outcomes = track(trials.outcomes, described, transient=True)
    views = [_trial_view(trials, outcome, max_video_bytes) for outcome in outcomes]
    policies = [_policy_view(trials, name, views, alone) for name in trials.settings.policies]
    return SetView(trials, views, policies, _stage_times(trials))


def _policy_view(trials: TrialSet, name: str, views: list[TrialView], alone: bool) -> PolicyView:
    outcomes, reached = trials.judged[name], trials.reached[name]
    judged = {outcome.index for outcome in outcomes}
    samples = [view.latency_samples for view in views if view.outcome.index in judged]
    latencies = {key: np.concatenate([one[key] for one in samples if key in one]) for one in samples for key in one}
    durations = [outcome.duration_s for outcome in outcomes if outcome.success]
    several = len(trials.settings.policies) > 1
    return PolicyView(
        name=name if alone else f"{trials.directory.name}: {name}" if several else trials.directory.name,
        path=trials.settings.policies[name],
        success=trials.successes[name],
        reached=reached,
        sankey=sankey.draw(list(reached), [_got(outcome) for outcome in outcomes]),
        latency=measure.timings(latencies),
        outcomes=outcomes,
        seconds=sum(durations) / len(durations) if durations else None,
    )


def _got(outcome: Outcome) -> set[str]:
    """Marks that a trial reached; that it is complete is its result's word."""
    return (set(outcome.reached) - {COMPLETE}) | ({COMPLETE} if outcome.success else set())


def _trial_view(trials: TrialSet, outcome: Outcome, max_video_bytes: int) -> TrialView:
    directory = records.trial_directory(trials.directory, outcome.index) / records.BAG_DIRECTORY
    if outcome.duration_s <= 0:
        return TrialView(outcome, {}, None, [], note="The policy never started.")
    try:
        bag = Bag(directory)
        trial = timeline.read(bag, outcome.run_s)
        videos = {camera: _video(bag, camera, outcome, max_video_bytes) for camera in spaces.CAMERAS}
    except BagError as error:
        return TrialView(outcome, {}, None, _stage_bar(outcome), note=str(error))
    shown = {camera: data for camera, data in videos.items() if data is not None}
    samples = measure.latency_samples(trial)
    return TrialView(outcome, shown, plots.pose_plot(trial), _stage_bar(outcome), latency_samples=samples)


def _video(bag: Bag, camera: str, outcome: Outcome, max_bytes: int) -> str | None:
    data = video.encode_mp4(timeline.frames(bag, camera, outcome.run_s), outcome.duration_s, max_bytes)
    return None if data is None else base64.b64encode(data).decode()


def _stage_bar(outcome: Outcome) -> list[dict[str, Any]]:
    """Stages with their share of the trial and a colour that a name keeps over all trials of a page."""
    colours: dict[str, str] = {}
    bar = []
    for stage in outcome.stages:
        name, length_s = stage["name"], stage["end_s"] - stage["start_s"]
        colour = colours.setdefault(name, _STAGE_COLOURS[len(colours) % len(_STAGE_COLOURS)])
        share = 100 * length_s / outcome.duration_s
        bar.append({"name": name, "share": share, "seconds": length_s, "start_s": stage["start_s"], "colour": colour})
    return bar


def _stage_times(trials: TrialSet) -> list[tuple[str, float]]:
    totals: dict[str, float] = {}
    ran = [outcome for outcome in trials.outcomes if outcome.stages]
    for outcome in ran:
        for stage in outcome.stages:
            totals[stage["name"]] = totals.get(stage["name"], 0.0) + stage["end_s"] - stage["start_s"]
    return [(name, total / len(ran)) for name, total in totals.items()]
