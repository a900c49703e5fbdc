"""What a run's folder tells a report: configuration, learning curves, evaluations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from resip.errors import ResipError
from resip.trials.statistics import Success
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator, ScalarEvent

from resip_training import paper
from resip_training.runs import read_config, read_metrics

Array = NDArray[np.float64]

EVALUATIONS: Final = "evaluation_*.json"
_TENSORBOARD: Final = "tensorboard"
_EVALUATION_FIELDS: Final = ("task", "randomness", "sha256", "settings", "wall_s", "machine", "command")
_MAX_POINTS: Final = 120  # of a curve: neighbours are averaged


@dataclass(frozen=True)
class Curve:
    """A figure over a run."""

    steps: Array
    """``(n,)``, rising."""
    values: Array
    """``(n,)``."""


@dataclass(frozen=True)
class Evaluation:
    """A file that `resip evaluate` left."""

    success: Success
    base_success: Success | None
    """Of the base alone, where there is a residual."""
    figures: dict[str, Any]
    """All that the file holds."""


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    name: str
    """Tells it from the others of a page."""
    config: dict[str, Any]
    metrics: dict[str, Any]
    curves: dict[str, Curve]
    """By their names in TensorBoard."""
    evaluations: list[Evaluation]

    @property
    def method(self) -> str:
        """As the paper names it."""
        return paper.method(self.config)

    @property
    def base_method(self) -> str:
        """As the paper names it; the same where nothing was learned on top."""
        return paper.base_method(self.config)

    @property
    def task(self) -> str:
        """That it was trained on."""
        return self._made_for["task"]

    @property
    def randomness(self) -> str:
        """That it was trained at."""
        return self._made_for["randomness"]

    @property
    def unit(self) -> str:
        """Of its steps."""
        return "updates" if self.config["algorithm"] == "bc" else "control steps"

    @property
    def _made_for(self) -> dict[str, Any]:
        return self.config["base"] if "base" in self.config else self.config["data"]["provenance"]

    @property
    def settings(self) -> dict[str, Any]:
        """Of the algorithm and of the base policy, by dotted names."""
        policy = {"policy": self.config["base"]["policy"]} if "base" in self.config else {}
        return flat({**policy, **self.config["settings"]})


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the folders of runs.

    Raises:
      ResipError: one is no run, or has a damaged file.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [
        Run(name, read_config(folder), read_metrics(folder), _read_curves(folder), _read_evaluations(folder))
        for name, folder in zip(names, folders, strict=True)
    ]


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Bring nested settings to one level, under dotted names."""
    levelled: dict[str, Any] = {}
    for key, value in nested.items():
        levelled |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return levelled


def _read_curves(folder: Path) -> dict[str, Curve]:
    if not (folder / _TENSORBOARD).is_dir():
        return {}
    files = EventAccumulator(str(folder / _TENSORBOARD), size_guidance={"scalars": 0})
    files.Reload()
    return {tag: _curve(files.Scalars(tag)) for tag in files.Tags()["scalars"]}


def _curve(events: list[ScalarEvent]) -> Curve:
    kept: list[ScalarEvent] = []
    for event in events:
        while kept and kept[-1].step >= event.step:  # a run that crashed goes on from before it
            kept.pop()
        kept.append(event)
    pieces = np.array_split(np.arange(len(kept)), min(len(kept), _MAX_POINTS))
    steps, values = (np.array([getattr(event, name) for event in kept], dtype=float) for name in ("step", "value"))
    return Curve(*(np.array([column[piece].mean() for piece in pieces]) for column in (steps, values)))


def _read_evaluations(folder: Path) -> list[Evaluation]:
    return [read_evaluation(path) for path in sorted(folder.glob(EVALUATIONS))]


def read_evaluation(path: Path) -> Evaluation:
    """Read a file that `resip evaluate` wrote.

    Raises:
      ResipError: it is none, or damaged.
    """
    try:
        figures = json.loads(path.read_text())
        base = figures.get("base_success")
        for name in _EVALUATION_FIELDS:
            figures[name]
        return Evaluation(Success(**figures["success"]), None if base is None else Success(**base), figures)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResipError(
            f"{path} is not a file of `resip evaluate` ({error!r}): remove it, or evaluate again"
        ) from error
