"""Runs: train in a folder, show progress, save atomically, stop cleanly and resume exactly.

A run's folder holds ``config.json`` (what decides its result), ``checkpoint.safetensors`` (everything that a resumed
run needs), ``best.safetensors`` (the weights that validated best, where an algorithm tells), ``metrics.json`` and
TensorBoard files.

Several processes may share a run (see `distributed`): the first one decides when it validates, saves and ends. Each
reads the checkpoint when it is resumed, so hosts share the folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

import torch
from resip.errors import ResipError
from resip.progress import Bars
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from resip_training import distributed
from resip_training.provenance import command_line, machine

CONFIG_FILE: Final = "config.json"
CHECKPOINT_FILE: Final = "checkpoint.safetensors"
BEST_FILE: Final = "best.safetensors"
METRICS_FILE: Final = "metrics.json"

_SAVE_EVERY_S: Final = 120.0
_LOG_EVERY_S: Final = 1.0

Figures = Mapping[str, float | Tensor]


class Trainer(Protocol):
    """What the loop below asks of an algorithm.

    Attributes:
      step: how far it is, in units of ``unit``.
      unit: what is counted: ``updates``, or ``control steps``.
      samples_per_step: samples that one ``step`` stands for, for the rate that is shown.
      validations: how often a run is validated.
    """

    step: int
    unit: str
    samples_per_step: int
    validations: int

    def train_step(self, progress: float) -> Figures:
        """Do one update, or one round of acting and updates.

        Args:
          progress: how much of the run is done, 0 to 1.

        Returns:
          What is logged, by name; numbers may stay on a GPU, which is only waited for when they are shown.
        """
        ...

    def validate(self) -> dict[str, float]:
        """Measure where the run is, in the first process; ``improved`` (1 or 0): the weights are the best so far."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Those of `tensors` that acting needs."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name, for a safetensors file."""
        ...

    def load_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        """Continue from `tensors` of the same configuration, saved at ``step``."""


@dataclass(frozen=True)
class Budget:
    """How long a run lasts: by steps (the result then follows from the seed) or by minutes of training.

    Attributes:
      minutes: training time; ignored when ``steps`` is given.
      steps: of the trainer, in its unit.
    """

    minutes: float = 45.0
    steps: int | None = None

    def progress(self, step: int, elapsed_s: float) -> float:
        """Fraction of the run that is done, 0 to 1."""
        done = step / self.steps if self.steps is not None else elapsed_s / (60 * self.minutes)
        return min(1.0, done)


@dataclass
class _Run:
    """A run in progress: what the loop below passes around."""

    trainer: Trainer
    out: Path
    budget: Budget
    elapsed_s: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, 0 to 1."""
        return self.budget.progress(self.trainer.step, self.elapsed_s)


def run(
    out: Path,
    config: dict[str, Any],
    make_trainer: Callable[[Progress], Trainer],
    budget: Budget,
    *,
    parallel: bool = False,
) -> dict[str, Any]:
    """Train in the folder ``out``, or go on with what is there.

    Args:
      out: folder of the run; one that exists is resumed and must hold the same configuration.
      config: what decides the result, plain JSON values; see `describe`.
      make_trainer: brings data into memory, showing that, and makes the algorithm.
      budget: how long; a finished run can be prolonged by a larger one.
      parallel: whether processes can share the trainer's work.

    Returns:
      The figures of the run: steps, minutes, and those of its validation.

    Raises:
      ResipError: the folder holds another run, or a damaged checkpoint, or another process trains in it, or the disk is
        full, or several processes were started for an algorithm that takes one.
      SystemExit: stopped by a signal, and saved.
    """
    with distributed.joined():
        if distributed.count() > 1 and not parallel:
            raise ResipError(f"{config['algorithm']} trains in one process: start it without a launcher")
        is_new = distributed.is_first() and not (out / CONFIG_FILE).exists()
        if distributed.is_first():
            check_or_write_config(out, config)
        multiply_fast()
        with _held(out):
            return _run(out, _leaving_nothing(out, make_trainer) if is_new else make_trainer, budget)


def _leaving_nothing(out: Path, make_trainer: Callable[[Progress], Trainer]) -> Callable[[Progress], Trainer]:
    """What makes a trainer; where it refuses, the folder of the run that never began is gone again."""

    def make(progress: Progress) -> Trainer:
        """Make the trainer."""
        try:
            return make_trainer(progress)
        except ResipError:
            (out / CONFIG_FILE).unlink()
            with suppress(OSError):  # there is something else in it
                out.rmdir()
            raise

    return make


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Keep a run's folder from any other command that would train in it, until this one ends, however it does."""
    if not distributed.is_first():
        yield
        return
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResipError(f"{out}: another process trains there; stop it, or choose another --out") from None
        yield
    finally:
        os.close(folder)


def _run(out: Path, make_trainer: Callable[[Progress], Trainer], budget: Budget) -> dict[str, Any]:
    console = Console(quiet=not distributed.is_first())
    with _bars(console) as progress:
        run = _Run(make_trainer(progress), out, budget)
        _resume(run)
        task = progress.add_task("training", total=1.0, note="")
        finished = _loop(run, progress, task)
    metrics = _finish(run, finished)
    if not finished:
        console.print(f"stopped at step {run.trainer.step} and saved: the same command goes on from there")
        raise SystemExit(130)
    console.print(f"{out}: " + ", ".join(f"{name} {value}" for name, value in metrics.items()))
    return metrics


def multiply_fast() -> None:
    """Let oneDNN multiply matrices on the CPU where it is exact: twice as fast as what torch uses by itself on AMD's.

    torch asks oneDNN only where bfloat16 may be used inside, and CPUs that have units for that (AMX, AVX512-BF16) use
    it: seven bits of mantissa are not what is exported, and the same run would learn otherwise on another machine.
    """
    mkldnn: Any = torch.backends.mkldnn  # its types lack this
    before, mkldnn.matmul.fp32_precision = mkldnn.matmul.fp32_precision, "bf16"
    if not _multiplies_exactly():
        mkldnn.matmul.fp32_precision = before


def _multiplies_exactly() -> bool:
    """Whether products of float32 matrices keep what bfloat16 and TF32 lose; small ones may take another way."""
    with torch.no_grad():
        matrices = [torch.full((n, n), 1.0 + 2.0**-12) for n in (16, 64, 256, 512)]
        return all(torch.equal(matrix @ torch.eye(len(matrix)), matrix) for matrix in matrices)


def describe(algorithm: str, settings: Mapping[str, Any], contract: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """Describe a run in plain JSON values; what a resumed run must share, and the software it began with."""
    software = {name: version(name) for name in ("torch", "diffusers", "resip_training")}
    description = {"algorithm": algorithm, "settings": settings, "contract": contract, **others, "software": software}
    return json.loads(json.dumps(description))


def read_config(run: Path) -> dict[str, Any]:
    """A run's configuration.

    Raises:
      ResipError: the folder holds no run, or a damaged one.
    """
    path = run / CONFIG_FILE
    if not path.exists():
        raise ResipError(f"{run} is not a training run: it has no {CONFIG_FILE}")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ResipError(f"{path} is damaged ({error}): train again into another folder") from error
    if not isinstance(config, dict) or not {"algorithm", "settings", "contract"} <= config.keys():
        raise ResipError(f"{path} is not the configuration of a training run")
    return config


def read_metrics(run: Path) -> dict[str, Any]:
    """Figures that the run's last save wrote."""
    path = run / METRICS_FILE
    return json.loads(path.read_text()) if path.exists() else {}


def read_weights(run: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it: of the best checkpoint, or else of the last.

    Raises:
      ResipError: there is no checkpoint yet, or it is damaged.
    """
    return with_prefix(read_tensors(_acting_file(run), prefix)[0], prefix)


def best_step(run: Path) -> int:
    """At which step the run had the weights of `read_weights`."""
    return int(read_tensors(_acting_file(run), "-")[1]["step"])


def _acting_file(run: Path) -> Path:
    return run / (BEST_FILE if (run / BEST_FILE).exists() else CHECKPOINT_FILE)


def read_tensors(path: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a checkpoint whose names begin with ``prefix``, and its metadata.

    Raises:
      ResipError: no such file, or a damaged one.
    """
    if not path.exists():
        raise ResipError(f"{path.parent} has no checkpoint yet: train it first")
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ResipError(f"{path} is damaged ({error}): train again into another folder") from error


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, without it."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with ``prefix`` before their names."""
    return {prefix + name: value for name, value in tensors.items()}


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's moments by name."""
    states = optimizer.state_dict()["state"]
    return {f"{prefix}{index}.{name}": value for index, moments in states.items() for name, value in moments.items()}


def load_optimizer(prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Invert `optimizer_tensors`."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in with_prefix(tensors, prefix).items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    state: dict[str, Any] = optimizer.state_dict()
    state["state"] = moments
    optimizer.load_state_dict(state)


def check_or_write_config(out: Path, config: dict[str, Any]) -> None:
    """Begin a run's folder, or see that the one that is there is of the same run.

    A folder without any weights, whose run never came so far, is begun anew.

    Raises:
      ResipError: it holds another run.
    """
    if (out / CONFIG_FILE).exists() and _acting_file(out).exists():
        recorded = read_config(out)
        for name in (key for key in config if key != "software"):
            if recorded.get(name) != config[name]:
                raise ResipError(
                    f"{out} holds a run with other {name}: resume it with the same command, or choose another --out"
                )
        return
    out.mkdir(parents=True, exist_ok=True)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    written = {**config, "created": created, "command": command_line()}
    write_text(out / CONFIG_FILE, json.dumps(written, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file at once."""
    with _whole_or_not(path) as partial:
        partial.write_text(text)


def _loop(run: _Run, progress: Progress, task: TaskID) -> bool:
    """Train until the budget is used or a signal asks to stop; say whether the budget is used."""
    trainer = run.trainer
    writer = SummaryWriter(str(run.out / "tensorboard")) if distributed.is_first() else None
    began = time.monotonic()
    started_at_step, elapsed_before_s = trainer.step, run.elapsed_s
    logged_s = saved_s = run.elapsed_s
    with _stop_requested() as stop:
        while run.progress < 1.0 and not distributed.anyone(stop()):
            before = run.progress
            metrics = trainer.train_step(before)
            run.elapsed_s = elapsed_before_s + distributed.of_first(time.monotonic() - began)
            if run.elapsed_s - logged_s > _LOG_EVERY_S:
                samples = (trainer.step - started_at_step) * trainer.samples_per_step
                rate = samples / (run.elapsed_s - elapsed_before_s)
                _log(writer, trainer.step, {**metrics, "samples_per_s": rate})
                progress.update(task, completed=run.progress, note=_note(run, metrics, rate))
                logged_s = run.elapsed_s
            if int(run.progress * trainer.validations) > int(before * trainer.validations):
                _validate(run, writer)
                progress.console.print(_milestone(run, metrics))
            if run.elapsed_s - saved_s > _SAVE_EVERY_S:
                _save(run)
                saved_s = run.elapsed_s
    if writer is not None:
        writer.close()
    return run.progress >= 1.0


def _validate(run: _Run, writer: SummaryWriter | None = None) -> None:
    if not distributed.is_first():
        return
    run.validation = run.trainer.validate()
    _log(writer, run.trainer.step, {f"validation/{name}": v for name, v in run.validation.items()})
    if run.validation.get("improved"):
        save_tensors(run.out / BEST_FILE, run.trainer.weights(), {"step": str(run.trainer.step)})


def _finish(run: _Run, finished: bool) -> dict[str, Any]:
    """Validate a finished run, unless that was just done, and save; return the figures.

    One that was stopped is saved at once: a launcher soon kills what it has stopped.
    """
    if finished and not run.validation:
        _validate(run)
    _save(run)
    return read_metrics(run.out)


def _note(run: _Run, metrics: Figures, rate: float) -> str:
    left_s = run.elapsed_s * (1 / max(run.progress, 1e-6) - 1)
    figures = {**metrics, **run.validation}
    shown = ", ".join(f"{name} {figures[name]:.4g}" for name in list(figures)[:3])
    return f"{run.trainer.step} {run.trainer.unit}, {rate:.0f} samples/s, {shown}, {left_s / 60:.1f} min left"


def _milestone(run: _Run, metrics: Figures) -> str:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in {**metrics, **run.validation}.items())
    return f"{run.progress:4.0%} {run.trainer.step} {run.trainer.unit}, {run.elapsed_s / 60:.1f} min: {figures}"


def _bars(console: Console) -> Bars:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    return Bars(*columns, console=console)


def _log(writer: SummaryWriter | None, step: int, values: Figures) -> None:
    if writer is None:
        return
    for name, value in values.items():
        writer.add_scalar(name, value, step)


@contextmanager
def _stop_requested() -> Iterator[Any]:
    """Turn Ctrl-C and SIGTERM into a flag, so that the step under way is finished and saved."""
    received: list[int] = []

    def note_signal(number: int, _frame: FrameType | None) -> None:
        """Remember the signal, and tell at the first why nothing ends yet."""
        if not received and distributed.is_first():
            os.write(2, b"\nstopping: what is under way, a validation perhaps, is finished and saved\n")
        received.append(number)

    previous = {number: signal.signal(number, note_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _resume(run: _Run) -> None:
    if (run.out / CHECKPOINT_FILE).exists():
        tensors, metadata = read_tensors(run.out / CHECKPOINT_FILE)
        run.trainer.load_tensors(tensors, int(metadata["step"]))
        run.elapsed_s = float(metadata["elapsed_s"])


def _save(run: _Run) -> None:
    tensors = run.trainer.tensors()  # of all processes
    if not distributed.is_first():
        return
    metadata = {"step": str(run.trainer.step), "elapsed_s": repr(run.elapsed_s)}
    save_tensors(run.out / CHECKPOINT_FILE, tensors, metadata)
    metrics = {
        "steps": run.trainer.step,
        "minutes": round(run.elapsed_s / 60, 2),
        "threads": torch.get_num_threads(),
        "machine": machine(),
        **run.validation,
    }
    write_text(run.out / METRICS_FILE, json.dumps(metrics, indent=2) + "\n")


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Replace a safetensors file at once: a reader or a crash sees the old one or the new one.

    Raises:
      ResipError: the disk is full; the old file is still there.
    """
    with _whole_or_not(path) as partial:
        save_file({name: value.contiguous() for name, value in tensors.items()}, partial, metadata=metadata)


@contextmanager
def _whole_or_not(path: Path) -> Iterator[Path]:
    partial = path.with_suffix(".partial")
    try:
        yield partial
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise ResipError(f"{path} could not be written ({error}): what it held before is still there") from error
