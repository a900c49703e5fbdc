"""Runs: train in a folder, show progress, save atomically, stop cleanly and resume exactly."""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Final

import torch
from resip import spaces
from resip.errors import ResipError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter

from resip_training.algorithms.bc import BCConfig, BCTrainer, load_training_data
from resip_training.data.images import AugmentConfig
from resip_training.data.store import DemoSet
from resip_training.models.diffusion_policy import DiffusionPolicy, PolicyConfig
from resip_training.models.encoder import ViewConfig

CONFIG_FILE: Final = "config.json"
CHECKPOINT_FILE: Final = "checkpoint.safetensors"
METRICS_FILE: Final = "metrics.json"

_SAVE_EVERY_S: Final = 120.0
_VALIDATIONS: Final = 10  # over a whole run
_LOG_EVERY_STEPS: Final = 20


@dataclass(frozen=True)
class Budget:
    """How long a run lasts: by steps (the result then follows from the seed) or by minutes of training.

    Attributes:
      minutes: training time; ignored when ``steps`` is given.
      steps: updates.
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

    trainer: BCTrainer
    out: Path
    budget: Budget
    elapsed_s: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, 0 to 1."""
        return self.budget.progress(self.trainer.step, self.elapsed_s)


def train_bc(
    dataset: Path,
    out: Path,
    *,
    budget: Budget | None = None,
    threads: int = 1,
    config: BCConfig | None = None,
) -> dict[str, Any]:
    """Clone demonstrations into a diffusion policy, or go on with an interrupted run.

    Args:
      dataset: demonstrations of `resip collect`.
      out: folder of the run; one that exists is resumed and must hold the same settings.
      budget: how long; a finished run can be prolonged by a larger one.
      threads: threads that torch computes with.
      config: settings.

    Returns:
      The figures of the run: steps, samples/s, minutes, validation errors.

    Raises:
      ResipError: no such data set, or the folder holds another run.
    """
    torch.set_num_threads(threads)
    budget, config = budget or Budget(), config or BCConfig()
    demos = DemoSet(dataset, images=True)
    _check_or_write_config(out, _run_config(demos, config))
    console = Console()
    with _progress(console) as progress:
        loading = progress.add_task("reading images", total=2 * demos.n_steps, note="")
        data = load_training_data(demos, config, lambda n: progress.advance(loading, n))
        progress.remove_task(loading)
        run = _Run(BCTrainer(config, data), out, budget)
        _resume(run)
        task = progress.add_task("training", total=1.0, note="")
        finished = _loop(run, progress, task)
    metrics = _finish(run)
    if not finished:
        console.print(f"stopped at step {run.trainer.step} and saved: the same command goes on from there")
        raise SystemExit(130)
    console.print(f"{out}: " + ", ".join(f"{name} {value}" for name, value in metrics.items()))
    return metrics


def load_policy_of(run: Path) -> tuple[DiffusionPolicy, dict[str, Any]]:
    """Load the averaged policy of a run and the run's configuration.

    Raises:
      ResipError: the folder holds no run, or one without a checkpoint.
    """
    config = _read_config(run)
    tensors, _ = _read_checkpoint(run)
    average = {name.removeprefix("average."): t for name, t in tensors.items() if name.startswith("average.")}
    policy = DiffusionPolicy(policy_config(config["settings"]["policy"]), len(average["parts_normalizer.centre"]))
    policy.load_state_dict(average)
    return policy.eval(), config


def read_metrics(run: Path) -> dict[str, float]:
    """Figures that the run's last save wrote."""
    path = run / METRICS_FILE
    return json.loads(path.read_text()) if path.exists() else {}


def policy_config(values: dict[str, Any]) -> PolicyConfig:
    """Rebuild the policy's configuration from its JSON form."""
    nested = {camera: ViewConfig(**values[camera]) for camera in spaces.CAMERAS}
    return PolicyConfig(**{**values, **nested})


def bc_config(values: dict[str, Any]) -> BCConfig:
    """Rebuild the settings of behaviour cloning from their JSON form."""
    nested = {"policy": policy_config(values["policy"]), "augment": AugmentConfig(**values["augment"])}
    return BCConfig(**{**values, **nested})


def _loop(run: _Run, progress: Progress, task: TaskID) -> bool:
    """Train until the budget is used or a signal asks to stop; say whether the budget is used."""
    writer = SummaryWriter(str(run.out / "tensorboard"))
    start, started_at_step, last_save = time.monotonic() - run.elapsed_s, run.trainer.step, time.monotonic()
    began = time.monotonic()
    with _stop_requested() as stop:
        while run.progress < 1.0 and not stop():
            metrics = run.trainer.train_step(run.progress)
            before, run.elapsed_s = run.progress, time.monotonic() - start
            if run.trainer.step % _LOG_EVERY_STEPS == 0:
                rate = (run.trainer.step - started_at_step) * run.trainer.config.batch_size / (time.monotonic() - began)
                _log(writer, run.trainer.step, {**metrics, "samples_per_s": rate})
                progress.update(task, completed=run.progress, note=_note(run, metrics, rate))
            if int(run.progress * _VALIDATIONS) > int(before * _VALIDATIONS):
                run.validation = run.trainer.validate()
                _log(writer, run.trainer.step, {f"validation/{name}": v for name, v in run.validation.items()})
                progress.console.print(_milestone(run, metrics))
            if time.monotonic() - last_save > _SAVE_EVERY_S:
                _save(run)
                last_save = time.monotonic()
    writer.close()
    return run.progress >= 1.0


def _finish(run: _Run) -> dict[str, Any]:
    """Validate and save; return the figures."""
    run.validation = run.trainer.validate()
    _save(run)
    return read_metrics(run.out)


def _note(run: _Run, metrics: dict[str, float], rate: float) -> str:
    left_s = run.elapsed_s * (1 / max(run.progress, 1e-6) - 1)
    epoch = run.trainer.step / run.trainer.steps_per_epoch
    note = f"step {run.trainer.step} epoch {epoch:.1f} loss {metrics['loss/action']:.4f} {rate:.0f} samples/s"
    if run.validation:
        note += f" held-out error {run.validation['position_error_mm']:.1f} mm"
    return f"{note}, {left_s / 60:.1f} min left"


def _milestone(run: _Run, metrics: dict[str, float]) -> str:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in {**metrics, **run.validation}.items())
    return f"{run.progress:4.0%} step {run.trainer.step}, {run.elapsed_s / 60:.1f} min: {figures}"


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
    return Progress(*columns, console=console)


def _log(writer: SummaryWriter, step: int, values: dict[str, float]) -> None:
    for name, value in values.items():
        writer.add_scalar(name, value, step)


@contextmanager
def _stop_requested() -> Iterator[Any]:
    """Turn Ctrl-C and SIGTERM into a flag, so that the step under way is finished and saved."""
    received: list[int] = []

    def note_signal(number: int, _frame: FrameType | None) -> None:
        """Remember the signal."""
        received.append(number)

    previous = {number: signal.signal(number, note_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run_config(demos: DemoSet, config: BCConfig) -> dict[str, Any]:
    """Describe a run: what decides its result, in plain JSON values."""
    description = {
        "algorithm": "bc",
        "settings": asdict(config),
        "contract": spaces.contract("image"),
        "data": {
            "provenance": demos.provenance,
            "sha256": demos.sha256(),
            "n_demonstrations": demos.n_demonstrations,
            "n_episodes": demos.n_episodes,
            "n_steps": demos.n_steps,
            "seeds": sorted({int(seed) for seed in demos.seeds}),
        },
        "software": {name: version(name) for name in ("torch", "diffusers", "resip_training")},
    }
    return json.loads(json.dumps(description))


def _check_or_write_config(out: Path, config: dict[str, Any]) -> None:
    if (out / CONFIG_FILE).exists():
        recorded = _read_config(out)
        for name in ("algorithm", "settings", "contract", "data"):
            if recorded.get(name) != config[name]:
                raise ResipError(
                    f"{out} holds a run with other {name}: resume it with the same command, or choose another --out"
                )
        return
    out.mkdir(parents=True, exist_ok=True)
    written = {**config, "created": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    _write_text(out / CONFIG_FILE, json.dumps(written, indent=2) + "\n")


def _read_config(run: Path) -> dict[str, Any]:
    path = run / CONFIG_FILE
    if not path.exists():
        raise ResipError(f"{run} is not a training run: it has no {CONFIG_FILE}")
    return json.loads(path.read_text())


def _read_checkpoint(run: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    path = run / CHECKPOINT_FILE
    if not path.exists():
        raise ResipError(f"{run} has no checkpoint yet: train it first")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise ResipError(f"{path} is damaged ({error}): train again into another folder") from error


def _resume(run: _Run) -> None:
    if (run.out / CHECKPOINT_FILE).exists():
        tensors, metadata = _read_checkpoint(run.out)
        run.trainer.load_tensors(tensors, int(metadata["step"]))
        run.elapsed_s = float(metadata["elapsed_s"])


def _save(run: _Run) -> None:
    """Replace the checkpoint at once: a reader or a crash sees the old one or the new one."""
    path = run.out / CHECKPOINT_FILE
    partial = path.with_suffix(".partial")
    metadata = {"step": str(run.trainer.step), "elapsed_s": repr(run.elapsed_s)}
    save_file(run.trainer.tensors(), partial, metadata=metadata)
    os.replace(partial, path)
    metrics = {
        "steps": run.trainer.step,
        "epochs": round(run.trainer.step / run.trainer.steps_per_epoch, 2),
        "minutes": round(run.elapsed_s / 60, 2),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        **run.validation,
    }
    _write_text(run.out / METRICS_FILE, json.dumps(metrics, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    os.replace(partial, path)
