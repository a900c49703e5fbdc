"""The files that trials leave: ``trial_000/outcome.json`` each, and ``trials.json`` for the set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from resip.errors import ResipError
from resip.trials.protocol import Result
from resip.trials.statistics import Success

OUTCOME_FILE: Final = "outcome.json"
SET_FILE: Final = "trials.json"
BAG_DIRECTORY: Final = "bag"


class RecordError(ResipError):
    """A directory that holds no trials, or a file of theirs that cannot be read."""


@dataclass(frozen=True)
class Outcome:
    """One trial: how it ended and what it measured. Times in s, ROS time unless named wall."""

    index: int
    seed: int
    result: Result
    reason: str
    run_s: tuple[float, float] = (0.0, 0.0)
    """ROS times at which the policy started and the trial was decided."""
    wall_s: float = 0.0
    ticks: int = 0
    missed_ticks: int = 0
    held_ticks: int = 0
    tick_rate_hz: float = 0.0
    lost_messages: int = 0
    latency: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    model: dict[str, str] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.result == "success"

    @property
    def judged(self) -> bool:
        """Whether the trial says something about the policy: it was not aborted."""
        return self.result != "aborted"

    @property
    def duration_s(self) -> float:
        """Time from the policy's start to the verdict."""
        return self.run_s[1] - self.run_s[0]

    @property
    def rtf(self) -> float:
        """Real-time factor: ROS time over wall time; 0 if the policy never started."""
        return self.duration_s / self.wall_s if self.wall_s > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain values for the file."""
        derived = {"success": self.success, "duration_s": self.duration_s, "rtf": self.rtf}
        return {**asdict(self), "run_s": list(self.run_s), **derived}


@dataclass(frozen=True)
class Settings:
    """What was asked of a set of trials."""

    task: str
    robot: str
    policy: str
    randomness: str
    n: int
    seed: int
    time_limit_s: float


@dataclass(frozen=True)
class TrialSet:
    """A directory of trials."""

    directory: Path
    settings: Settings
    outcomes: tuple[Outcome, ...]
    """In the order of their index."""

    @property
    def success(self) -> Success:
        """Success figure over the judged trials."""
        judged = [outcome for outcome in self.outcomes if outcome.judged]
        return Success.of([outcome.success for outcome in judged], [outcome.seed for outcome in judged])

    def as_json(self) -> dict[str, Any]:
        """The object of ``trials.json`` and ``--json``."""
        ran = [outcome for outcome in self.outcomes if outcome.wall_s > 0]
        return {
            "settings": asdict(self.settings),
            "success": self.success.as_json(),
            "interval": "Wilson score, 95 %",
            "aborted": sum(not outcome.judged for outcome in self.outcomes),
            "missed_ticks": sum(outcome.missed_ticks for outcome in self.outcomes),
            "held_ticks": sum(outcome.held_ticks for outcome in self.outcomes),
            "lost_messages": sum(outcome.lost_messages for outcome in self.outcomes),
            "rtf": sum(o.duration_s for o in ran) / sum(o.wall_s for o in ran) if ran else 0.0,
            "trials": [outcome.as_json() for outcome in self.outcomes],
        }


def trial_directory(directory: Path, index: int) -> Path:
    """Where trial ``index`` of a set keeps its files."""
    return directory / f"trial_{index:03d}"


def write_outcome(directory: Path, outcome: Outcome) -> None:
    """Write a trial's ``outcome.json`` into the set's directory."""
    _write(trial_directory(directory, outcome.index) / OUTCOME_FILE, outcome.as_json())


def read_outcome(path: Path) -> Outcome:
    """Read an ``outcome.json``.

    Raises:
      RecordError: it is not one.
    """
    return _outcome(_read(path), path)


def write_set(trials: TrialSet) -> None:
    """Write a set's ``trials.json``."""
    _write(trials.directory / SET_FILE, trials.as_json())


def read_set(directory: Path) -> TrialSet:
    """Read a set of trials.

    Raises:
      RecordError: the directory holds none, or a file of it is damaged.
    """
    path = directory / SET_FILE
    if not path.is_file():
        raise RecordError(f"no trials in {directory}: expected a directory that `resip trial` wrote, with {SET_FILE}")
    content = _read(path)
    try:
        settings = Settings(**content["settings"])
        outcomes = tuple(_outcome(entry, path) for entry in content["trials"])
    except (KeyError, TypeError) as error:
        raise RecordError(f"{path} is not a file of trials: {error}") from error
    return TrialSet(directory, settings, outcomes)


def read_outcomes(directory: Path, indices: Sequence[int]) -> list[Outcome]:
    """Read the outcomes of those trials among ``indices`` that have one.

    Raises:
      RecordError: a file is damaged.
    """
    paths = [trial_directory(directory, index) / OUTCOME_FILE for index in indices]
    return [read_outcome(path) for path in paths if path.is_file()]


def unfinished(directory: Path, settings: Settings) -> list[int]:
    """Indices of the trials still to run: a set that was cut off goes on where it stopped.

    Raises:
      RecordError: the directory holds trials that were run with other settings; the message names them.
    """
    indices = range(settings.n)
    if (directory / SET_FILE).is_file():
        before, now = asdict(read_set(directory).settings), asdict(settings)
        differing = [f"{key} was {before[key]}, is {now[key]}" for key in now if key != "n" and before[key] != now[key]]
        if differing:
            raise RecordError(f"{directory} holds trials with other settings: {'; '.join(differing)}: name another one")
    judged = {outcome.index for outcome in read_outcomes(directory, indices) if outcome.judged}
    return [index for index in indices if index not in judged]


def _outcome(entry: dict[str, Any], path: Path) -> Outcome:
    fields = {name: entry[name] for name in Outcome.__dataclass_fields__ if name in entry}
    try:
        return Outcome(**{**fields, "run_s": tuple(fields["run_s"])})
    except (KeyError, TypeError) as error:
        raise RecordError(f"{path} is not a trial's outcome: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RecordError(f"cannot read {path}: {error}") from error


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace a file in one step, so that an interrupt leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(content, indent=2) + "\n")
    fresh.replace(path)
