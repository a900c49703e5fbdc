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
from resip.graph import TASKS, TRIAL_NODE, GraphArguments, graph
from resip.trials import records, report
from resip.trials.records import Settings, TrialSet

LOG_FILE: Final = "graph.log"
_DEFAULT_RECORD: Final = GraphArguments().record


class AbortedError(ResipError):
    """Trials that the graph, not the policy, brought to an end."""


def run_trials(arguments: GraphArguments, json_file: Path | None = None) -> Path:
    """Run, judge and record trials, write their report, and print the outcome and the report's path.

    Given no directory of its own (``record``), every call makes a new one; given one that holds a part of
    the same trials, it runs the rest.

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
    check_name("task", arguments.task, TASKS)
    if arguments.trials < 1:
        raise ResipError(f"{arguments.trials} trials: ask for at least 1")
    if arguments.record == _DEFAULT_RECORD:
        arguments = replace(arguments, record=str(_fresh_directory(Path(arguments.record), arguments.task)))
    directory = Path(arguments.record)
    nodes = graph(arguments)
    if records.unfinished(directory, settings_of(arguments)):
        process.run(nodes, TRIAL_NODE, directory / LOG_FILE, arguments.params_file)
    trials = records.read_set(directory)
    page = report.write_report([directory])
    if json_file is not None:
        json_file.write_text(json.dumps(trials.as_json(), indent=2) + "\n")
    console = Console(highlight=False)
    console.print(f"{arguments.task}: {trials.success}", soft_wrap=True)
    console.print(f"report: {page}", soft_wrap=True)
    _raise_if_aborted(trials)
    return page


def settings_of(arguments: GraphArguments) -> Settings:
    """What the trial node writes down of the graph's arguments."""
    return Settings(
        task=arguments.task,
        robot=arguments.robot,
        policy=arguments.policy_name,
        randomness=arguments.randomness,
        n=arguments.trials,
        seed=arguments.seed,
        time_limit_s=arguments.time_limit_s,
    )


def _fresh_directory(parent: Path, task: str) -> Path:
    return parent / f"{task}_{datetime.now():%Y-%m-%d_%H-%M-%S}"


def _raise_if_aborted(trials: TrialSet) -> None:
    aborted = [outcome for outcome in trials.outcomes if not outcome.judged]
    if aborted:
        raise AbortedError(f"trial {aborted[0].index + 1} was aborted: {aborted[0].reason}")
    if len(trials.outcomes) < trials.settings.n:
        raise AbortedError(f"{len(trials.outcomes)} of {trials.settings.n} trials ran")
