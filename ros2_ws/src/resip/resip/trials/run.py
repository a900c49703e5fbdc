"""`resip trial`: the graph of a task with trials in its foreground, then the report."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from resip import process
from resip.errors import ResipError, check_name
from resip.graph import DEFAULT_RECORD, EVALUATE, TASKS, TRIAL_NODE, GraphArguments, graph, resolve
from resip.trials import records, report
from resip.trials.records import Settings, TrialSet

LOG_FILE: Final = "graph.log"


class AbortedError(ResipError):
    """Trials that the graph, not the policy, brought to an end."""


def run_trials(arguments: GraphArguments, json_file: Path | None = None) -> Path:
    """Run, judge and record trials, write their report, and print the outcome and the report's path.

    Given no directory of its own (``record``), every call makes a new one, but that of a protocol file is always the
    same; given one that holds a part of the same trials, it runs the rest. A blind evaluation is told of only when it
    is finished.

    Args:
      arguments: of the graph; ``trials`` is at least 1.
      json_file: where the figures go as well.

    Returns:
      The report.

    Raises:
      RecordError: the directory holds trials with other settings.
      GraphError: a node ended that the trials needed.
      AbortedError: a trial was aborted or interrupted; the message says why. The report is written all the same.
    """
    check_name("task", arguments.task, (*TASKS, EVALUATE))
    arguments = resolve(arguments)
    if arguments.trials < 1:
        raise ResipError(f"{arguments.trials} trials: ask for at least 1")
    if arguments.record == DEFAULT_RECORD:
        arguments = replace(arguments, record=str(_fresh_directory(Path(arguments.record), arguments.task)))
    directory = Path(arguments.record)
    nodes = graph(arguments)
    if not records.resume(directory, settings_of(arguments)).finished:
        process.run(nodes, TRIAL_NODE, directory / LOG_FILE, arguments.params_file)
    trials = records.read_set(directory)
    if trials.settings.blind and not trials.finished:
        _raise_if_aborted(trials)
    page = report.write_report([directory])
    if json_file is not None:
        json_file.write_text(json.dumps(trials.as_json(), indent=2) + "\n")
    console = Console(highlight=False)
    for line in _summary(trials):
        console.print(line, soft_wrap=True)
    console.print(f"report: {page}", soft_wrap=True)
    _raise_if_aborted(trials)
    return page


def _summary(trials: TrialSet) -> list[str]:
    """What came out, in lines."""
    if len(trials.settings.policies) == 1:
        return [f"{trials.settings.task}: {trials.success}"]
    return [*(f"{name}: {success}" for name, success in trials.successes.items()), *map(str, trials.comparisons)]


def settings_of(arguments: GraphArguments) -> Settings:
    """What the trial node writes down of the graph's arguments."""
    arguments = resolve(arguments)
    return Settings(
        task=arguments.task,
        robot=arguments.robot,
        policy=arguments.policy_name,
        randomness=arguments.randomness,
        n=arguments.trials,
        seed=arguments.seed,
        time_limit_s=arguments.time_limit_s,
        order=arguments.order,
        stop_early=arguments.stop_early,
        random_looks=arguments.random_looks,
        camera_latency_s=arguments.camera_latency_s,
    )


def _fresh_directory(parent: Path, task: str) -> Path:
    return parent / f"{task}_{datetime.now():%Y-%m-%d_%H-%M-%S}"


def _raise_if_aborted(trials: TrialSet) -> None:
    aborted = [outcome for outcome in trials.outcomes if not outcome.judged]
    if aborted:
        raise AbortedError(f"trial {aborted[0].index + 1} was aborted: {aborted[0].reason}")
    if not trials.finished:
        done, left = len(trials.outcomes), len(trials.left)
        again = f"; the same command with --record {trials.directory} runs the rest"
        raise AbortedError(f"{done} of {done + left} trials ran{again}")
