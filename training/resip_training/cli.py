"""Commands that the training side adds to `resip`: their options; what they do is imported when they run."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tyro.conf import Positional

Randomness = Literal["low", "med", "high"]


@dataclass(frozen=True)
class Expert:
    """Measure how often a task's scripted expert succeeds in simulation."""

    task: Positional[str]
    """Name of the task, such as one_leg."""
    episodes: int = 50
    """Episodes to run, on as many seeds."""
    seed: int = 0
    """First seed; the others follow it."""
    randomness: Randomness = "low"
    """How far parts, obstacle and arm start from their nominal places."""
    threads: int = 2
    """Threads that step the simulations."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Run the episodes and print the success with its interval."""
        from resip_training.experts.run import evaluate_expert

        evaluate_expert(self.task, self.episodes, self.seed, self.randomness, self.threads, self.json)


@dataclass(frozen=True)
class Collect:
    """Record demonstrations of the scripted expert, with images, into a data set; it can be interrupted."""

    task: Positional[str]
    """Name of the task, such as one_leg."""
    out: Path
    """Folder of the data set; one that has some demonstrations is completed."""
    demos: int = 50
    """Successful episodes to have in the end."""
    seed: int = 0
    """First seed; the others follow it."""
    randomness: Randomness = "low"
    """How far parts, obstacle and arm start from their nominal places."""
    threads: int = 2
    """Threads that step the simulations."""
    copies: int = 0
    """Copies of each, displaced on the table, that are rendered and stored beside it."""

    def run(self) -> None:
        """Record until the data set is complete."""
        from resip_training.data.collect import collect

        collect(self.task, self.demos, self.seed, self.randomness, self.out, self.threads, self.copies)


@dataclass(frozen=True)
class TrainBC:
    """Clone demonstrations into a diffusion policy on images; the same command resumes an interrupted run."""

    dataset: Positional[Path]
    """Demonstrations that `resip collect` recorded."""
    out: Path
    """Folder of the run."""
    minutes: float = 45.0
    """Length of the training; ignored where steps are given."""
    steps: int | None = None
    """Updates; the result then follows from the seed."""
    seed: int = 0
    """Of everything random."""
    threads: int = 2
    """Threads that torch computes with."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Train, or go on training."""
        from resip_training.algorithms.bc import BCConfig
        from resip_training.train import Budget, train_bc

        budget = Budget(minutes=self.minutes, steps=self.steps)
        figures = train_bc(self.dataset, self.out, budget=budget, threads=self.threads, config=BCConfig(seed=self.seed))
        _write_json(figures, self.json)


@dataclass(frozen=True)
class Evaluate:
    """Measure how often a policy succeeds in simulation, without the ROS graph."""

    checkpoint: Positional[Path]
    """Folder of a training run or of an exported model."""
    episodes: int = 50
    """Episodes to run, on as many seeds."""
    seed: int = 0
    """First seed; the others follow it."""
    randomness: Randomness = "low"
    """How far parts, obstacle and arm start from their nominal places."""
    threads: int = 2
    """Threads of torch and of the simulations."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Run the episodes and print the success with its interval."""
        from resip_training.evaluate import evaluate

        evaluate(self.checkpoint, self.episodes, self.seed, self.randomness, self.threads, self.json)


@dataclass(frozen=True)
class Export:
    """Export a run's policy: TorchScript, manifest and golden input and output."""

    checkpoint: Positional[Path]
    """Folder of a training run."""
    dataset: Path
    """Demonstrations that it was trained on; the golden input is one of their observations."""
    out: Path
    """Folder of the exported model, such as models/one_leg."""

    def run(self) -> None:
        """Write the model."""
        from resip_training.export import export_policy

        export_policy(self.checkpoint, self.dataset, self.out)


@dataclass(frozen=True)
class Parity:
    """Compare the arm in training with the arm behind the bridge: step responses, and replays through the graph."""

    out: Path = Path("docs/images")
    """Folder of the two plots."""
    episodes: int = 10
    """Expert episodes to replay through the ROS graph; 0 measures the step responses only."""
    seed: int = 3000
    """First seed of the replayed episodes."""
    record: Path = Path("trials/parity")
    """Folder of the replays' recordings; what is there is not run again."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Measure and plot both."""
        from resip_training.parity import run_parity

        run_parity(self.out, self.episodes, self.seed, self.record, self.json)


@dataclass(frozen=True)
class BenchSim:
    """Measure how fast each task is simulated, and where the time goes, beside robosuite and ManiSkill."""

    seconds: float = 600.0
    """Simulated time of each simulator."""
    worlds: int = 64
    """Worlds of a task that are stepped together, in one thread."""
    peers: bool = True
    """Run the other simulators as well; on first use their packages are downloaded, 6 GB of them."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Measure and print two tables."""
        from resip_training.bench.sim import bench_sim

        bench_sim(self.seconds, self.worlds, self.peers, self.json)


@dataclass(frozen=True)
class BenchSoak:
    """Let a task's expert drive many worlds for long, and watch the memory."""

    task: Positional[str] = "one_leg"
    """Name of the task."""
    worlds: int = 64
    """Worlds that are stepped together, in one thread."""
    steps: int = 100_000
    """Control steps of all worlds together; the growth is that after each world's first episode."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Run, print the memory, and fail if it is too much or grows."""
        from resip_training.bench.soak import soak_sim

        soak_sim(self.task, self.worlds, self.steps, self.json)


@dataclass(frozen=True)
class ValidateSim:
    """Compare the threads that training simulates with the true shapes, and run the expert of one_leg on those."""

    episodes: int = 3
    """Episodes of the expert on the true shapes, some minutes each."""
    seed: int = 660_000
    """First seed; the others follow it."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Measure, run and print both."""
        from resip_training.validation.run import validate_sim

        validate_sim(self.episodes, self.seed, self.json)


def _write_json(figures: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(json_format.dumps(figures, indent=2) + "\n")


COMMANDS: Final[dict[str, type[Any]]] = {
    "expert": Expert,
    "collect": Collect,
    "train bc": TrainBC,
    "evaluate": Evaluate,
    "export": Export,
    "parity": Parity,
    "bench sim": BenchSim,
    "bench soak": BenchSoak,
    "validate sim": ValidateSim,
}
