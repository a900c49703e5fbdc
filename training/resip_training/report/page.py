"""The page: which runs belong together, what its tables say, and the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from resip import page
from resip.errors import ResipError
from resip.trials import records as trial_records
from resip.trials.report import REPORT_FILE
from resip.trials.statistics import Success

from resip_training import paper
from resip_training.model_card import ranges
from resip_training.report import plots
from resip_training.report.plots import Bar, Group
from resip_training.report.records import Evaluation, Run, read_runs
from resip_training.runs import CONFIG_FILE

_TEMPLATE: Final = "report.html.j2"
_HASH_SHOWN: Final = 8


@dataclass(frozen=True)
class Result:
    """A row of the table of successes: a run's policy, or its base alone, as one evaluation measured it."""

    run: str
    method: str
    is_base: bool
    """The base alone, beside its residual."""
    task: str
    randomness: str
    trained_at: str
    success: Success
    paper_percent: int | None
    figures: dict[str, Any]
    """The evaluation's."""

    @property
    def seeds(self) -> str:
        """Compactly."""
        return ranges(list(self.success.seeds))


@dataclass(frozen=True)
class Validation:
    """A row of a run's table of validations, successes as counts."""

    step: int
    base: int
    corrected: int
    n: int
    best: bool


@dataclass(frozen=True)
class Curves:
    """The learning curves of runs whose steps are of one unit, as SVG text."""

    unit: str
    main: str | None
    others: str | None


def holds_runs(folders: Sequence[Path]) -> bool:
    """Whether these are folders of training runs, and not of trials.

    Raises:
      ResipError: one is neither, or some are of one kind and some of the other.
    """
    runs = [folder for folder in folders if (folder / CONFIG_FILE).exists()]
    trials = [folder for folder in folders if (folder / trial_records.SET_FILE).exists()]
    for folder in folders:
        if folder not in runs and folder not in trials:
            raise ResipError(
                f"{folder} holds neither trials ({trial_records.SET_FILE}) nor a training run ({CONFIG_FILE})"
            )
    if runs and trials:
        raise ResipError(f"{runs[0]} is a training run and {trials[0]} holds trials: a report shows one kind")
    return bool(runs)


def write_report(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page for training runs, which are compared.

    Args:
      folders: of the runs.
      out: the file; by default ``report.html`` in the first folder.

    Returns:
      The file written.

    Raises:
      ResipError: a folder is no run, or has a damaged file.
    """
    runs = read_runs(folders)
    groups = _groups(runs)
    results = [result for run in runs for evaluation in run.evaluations for result in _results(run, evaluation)]
    text = page.render(
        "resip_training.report",
        _TEMPLATE,
        runs=runs,
        trained_on=sorted({f"{run.method} on {run.task}, {run.randomness} randomness" for run in runs}),
        results=results,
        bars=_success_bars(results, {run.name: group.colour for group, members in groups for run in members}),
        curves=_curves(groups),
        validations={run.name: _validations(run) for run in runs},
        differing=differing({run.name: run.settings for run in runs}),
        data={run.name: _data(run) for run in runs},
        speed={run.name: _speed(run) for run in runs},
        shown=_shown,
        hash_shown=_HASH_SHOWN,
    )
    out = out or folders[0] / REPORT_FILE
    out.write_text(text)
    return out


def report(folders: Sequence[Path], out: Path | None = None) -> None:
    """Carry out ``resip report`` for training runs: write the page and print its path."""
    print(f"report: {write_report(folders, out)}")


def differing(settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Settings in which runs differ: name of the setting -> name of the run -> value, where the run has it."""
    names = {name: None for of_run in settings.values() for name in of_run}  # a set that keeps the order
    values = {name: {run: of_run[name] for run, of_run in settings.items() if name in of_run} for name in names}
    return {name: of_runs for name, of_runs in values.items() if len({_shown(v) for v in of_runs.values()}) > 1}


def _groups(runs: Sequence[Run]) -> list[tuple[Group, list[Run]]]:
    """Bring together the runs that differ in their seed only."""
    members: dict[str, list[Run]] = {}
    for run in runs:
        settings = {name: value for name, value in run.settings.items() if name != "seed"}
        same = (run.config["algorithm"], run.task, run.randomness, settings)
        members.setdefault(json.dumps(same, sort_keys=True), []).append(run)
    labels = [_label(runs, of_group) for of_group in members.values()]
    groups = []
    for i, (label, of_group) in enumerate(zip(labels, members.values(), strict=True)):
        if labels.count(label) > 1:
            label = f"{label}: {', '.join(run.name for run in of_group)}"
        if len(of_group) > 1:
            label = f"{label} ({len(of_group)} seeds, thick: their mean)"
        colour = plots.COLOURS[i % len(plots.COLOURS)]
        groups.append((Group(label, colour, [run.curves for run in of_group]), of_group))
    return groups


def _label(runs: Sequence[Run], of_group: Sequence[Run]) -> str:
    first = of_group[0]
    one_kind = len({(run.task, run.randomness) for run in runs}) == 1
    return first.method if one_kind else f"{first.method}, {first.task} {first.randomness}"


def _curves(groups: Sequence[tuple[Group, list[Run]]]) -> list[Curves]:
    drawn = []
    for unit in dict.fromkeys(runs[0].unit for _, runs in groups):
        of_unit = [group for group, runs in groups if runs[0].unit == unit and any(group.curves)]
        main, others = plots.quantities([curves for group in of_unit for curves in group.curves])
        pictures = [plots.learning_curves(of_unit, shown, unit) if shown else None for shown in (main, others)]
        drawn.append(Curves(unit, *pictures))
    return drawn


def _results(run: Run, evaluation: Evaluation) -> Iterable[Result]:
    figures = evaluation.figures
    task, level = figures["task"], figures["randomness"]
    rows = [(run.method, False, evaluation.success)]
    if evaluation.base_success is not None:
        rows.insert(0, (run.base_method, True, evaluation.base_success))
    for method, is_base, success in rows:
        percent = paper.TABLE_1.get((method, task, level))
        yield Result(run.name, method, is_base, task, level, run.randomness, success, percent, figures)


def _success_bars(results: Sequence[Result], colours: dict[str, str]) -> str | None:
    panels: dict[str, list[Bar]] = {}
    for result in results:
        colour = plots.base_colour() if result.is_base else colours[result.run]
        label = f"{result.run}: {result.method}{' alone' if result.is_base else ''}"
        bar = Bar(label, result.success, colour, result.paper_percent)
        panels.setdefault(f"{result.task}, {result.randomness} randomness", []).append(bar)
    return plots.success_bars(panels) if panels else None


def _validations(run: Run) -> list[Validation]:
    """Of a run that is measured beside its base."""
    curves = [run.curves.get(f"validation/{name}") for name in ("success", "success/base", "improved")]
    if any(curve is None for curve in curves) or "validation_episodes" not in run.settings:
        return []
    success, base, improved = (curve for curve in curves if curve is not None)
    n = run.settings["validation_episodes"]
    last_best = max((step for step, best in zip(improved.steps, improved.values, strict=True) if best), default=-1)
    return [
        Validation(int(step), round(n * alone), round(n * both), n, step == last_best)
        for step, both, alone in zip(success.steps, success.values, base.values, strict=True)
    ]


def _data(run: Run) -> dict[str, str]:
    """Where a run comes from: its demonstrations, its base, the software."""
    rows = {}
    data, base = run.config.get("data"), run.config.get("base", {})
    if data:
        made = data["provenance"]
        rows["demonstrations"] = (
            f"{data['n_demonstrations']} of {made['task']} ({made['randomness']}) by the {made['source']},"
            f" {data['n_steps']} steps, seeds {ranges(data['seeds'])}"
        )
        rows["their sha256"] = data["sha256"][:_HASH_SHOWN]
    if "run" in base:
        rows["base"] = f"{run.base_method}, {base['run']}"
        rows["its sha256"] = base["sha256"][:_HASH_SHOWN]
    rows["software"] = ", ".join(f"{name} {version}" for name, version in run.config["software"].items())
    rows["begun"] = run.config.get("created", "unknown")
    rows["command"] = run.config.get("command", "unknown")
    return rows


def _speed(run: Run) -> dict[str, str]:
    """How far a run is, how long that took, and where."""
    metrics = run.metrics
    if not metrics.get("minutes"):
        return {"steps": "nothing saved yet", "minutes": "", "rate": "", "threads": "", "machine": ""}
    rate = metrics["steps"] / (60 * metrics["minutes"])
    return {
        "steps": f"{metrics['steps']:,} {run.unit}".replace(",", " "),
        "minutes": f"{metrics['minutes']:.1f}",
        "rate": f"{rate:.3g} {run.unit}/s",
        "threads": str(metrics["threads"]),
        "machine": metrics["machine"],
    }


def _shown(value: object) -> str:
    """A setting's value as text."""
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
