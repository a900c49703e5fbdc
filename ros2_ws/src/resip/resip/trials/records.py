"""The files that trials leave: ``trial_000/outcome.json`` each, and ``trials.json`` for the set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from resip.errors import ResipError
from resip.trials import comparison
from resip.trials.comparison import Comparison
from resip.trials.evaluation import Order, Slot, parse_policies, slots
from resip.trials.protocol import Result
from resip.trials.stages import COMPLETE, MARKS
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
    policy: str = ""
    """Its name in the evaluation; empty where there is but one."""
    reached: dict[str, float] = field(default_factory=dict)
    """How far it got (``stages.MARKS``): s since the policy started."""
    judge: str = "cell"
    """Whose word ``result`` and ``reached`` are: ``cell`` or ``operator``."""

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
    """One folder, or several policies: see ``evaluation.parse_policies``."""
    randomness: str
    n: int
    """Trials of each policy."""
    seed: int
    time_limit_s: float
    order: Order = "blind"
    stop_early: bool = False
    """Whether to stop as soon as two policies are told apart."""
    random_looks: bool = False
    """Whether the simulated cell looked different in each trial."""
    camera_latency_s: float = 0.0
    """How late the simulated frames came."""

    @property
    def policies(self) -> dict[str, str]:
        """What runs, by its name in the evaluation."""
        return parse_policies(self.policy)

    @property
    def blind(self) -> bool:
        """Whether nobody is told which policy runs."""
        return self.order == "blind" and len(self.policies) > 1

    def slots(self) -> list[Slot]:
        """The trials, in their order."""
        return slots(list(self.policies), self.n, self.seed, self.order)

    def seed_of(self, slot: Slot) -> int:
        """Seed of a trial: policies that share a start share it."""
        return self.seed + slot.start


@dataclass(frozen=True)
class TrialSet:
    """A directory of trials."""

    directory: Path
    settings: Settings
    outcomes: tuple[Outcome, ...]
    """In the order of their index."""

    @property
    def judged(self) -> dict[str, list[Outcome]]:
        """Judged trials of each policy."""
        names = list(self.settings.policies)
        found: dict[str, list[Outcome]] = {name: [] for name in names}
        for outcome in self.outcomes:
            if outcome.judged:
                found[outcome.policy or names[0]].append(outcome)
        return found

    @property
    def success(self) -> Success:
        """Success figure over the judged trials of all policies."""
        return _success([outcome for outcomes in self.judged.values() for outcome in outcomes])

    @property
    def successes(self) -> dict[str, Success]:
        """Success figure of each policy over its judged trials."""
        return {name: _success(outcomes) for name, outcomes in self.judged.items()}

    @property
    def reached(self) -> dict[str, dict[str, Success]]:
        """By policy: over its judged trials, how many got as far as each mark; without marks only ``complete``."""
        marks = self.marks
        return {name: {mark: _success(outcomes, mark) for mark in marks} for name, outcomes in self.judged.items()}

    @property
    def marks(self) -> tuple[str, ...]:
        """Marks that the trials were judged by: a cell may only tell what is complete."""
        told = any(outcome.judge == "operator" or set(outcome.reached) - {COMPLETE} for outcome in self.outcomes)
        return MARKS.get(self.settings.task, (COMPLETE,)) if told else (COMPLETE,)

    @property
    def comparisons(self) -> list[Comparison]:
        """Every two policies of the set compared."""
        by_start = {
            name: {outcome.seed: outcome.success for outcome in outcomes} for name, outcomes in self.judged.items()
        }
        return comparison.compare(by_start, self.settings.stop_early)

    @property
    def decided(self) -> bool:
        """Whether the set may stop early, and its two policies are told apart."""
        if not self.settings.stop_early:
            return False
        first, second = ({outcome.seed: outcome.success for outcome in outcomes} for outcomes in self.judged.values())
        return comparison.decided([(first[seed], second[seed]) for seed in first if seed in second])

    @property
    def finished(self) -> bool:
        """Whether every trial was judged that had to be."""
        return not self.left

    @property
    def left(self) -> list[Slot]:
        """Trials still to run."""
        if self.decided:
            return []
        judged = {outcome.index for outcome in self.outcomes if outcome.judged}
        return [slot for slot in self.settings.slots() if slot.index not in judged]

    def as_json(self) -> dict[str, Any]:
        """The object of ``trials.json`` and ``--json``."""
        ran = [outcome for outcome in self.outcomes if outcome.wall_s > 0]
        return {
            "settings": asdict(self.settings),
            "success": self.success.as_json(),
            "interval": "Wilson score, 95 %",
            "policies": {
                name: {mark: figure.as_json() for mark, figure in figures.items()}
                for name, figures in self.reached.items()
            },
            "comparisons": [one.as_json() for one in self.comparisons],
            "aborted": sum(not outcome.judged for outcome in self.outcomes),
            "missed_ticks": sum(outcome.missed_ticks for outcome in self.outcomes),
            "held_ticks": sum(outcome.held_ticks for outcome in self.outcomes),
            "lost_messages": sum(outcome.lost_messages for outcome in self.outcomes),
            "rtf": sum(o.duration_s for o in ran) / sum(o.wall_s for o in ran) if ran else 0.0,
            "trials": [outcome.as_json() for outcome in self.outcomes],
        }


def _success(outcomes: Sequence[Outcome], mark: str = COMPLETE) -> Success:
    got_there = [outcome.success if mark == COMPLETE else mark in outcome.reached for outcome in outcomes]
    return Success.of(got_there, [outcome.seed for outcome in outcomes])


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


def resume(directory: Path, settings: Settings) -> TrialSet:
    """What there is already of a set that is to be run: one that was cut off goes on where it stopped.

    Raises:
      RecordError: the directory holds trials that were run with other settings; the message names them.
    """
    if (directory / SET_FILE).is_file():
        before, now = asdict(read_set(directory).settings), asdict(settings)
        differing = [f"{key} was {before[key]}, is {now[key]}" for key in now if key != "n" and before[key] != now[key]]
        if differing:
            raise RecordError(f"{directory} holds trials with other settings: {'; '.join(differing)}: name another one")
    outcomes = read_outcomes(directory, range(len(settings.slots())))
    return TrialSet(directory, settings, tuple(outcomes))


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
