"""`resip bench bc`: how fast states are cloned, beside robomimic's loader and loop with a network of the same size.

Both clone the same demonstrations, one action an observation, with the same batch, in one thread, turn by turn.
Ours also clips gradients and keeps averaged weights; robomimic's defaults do neither. CPU time is measured, see
`bench.sim`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from resip_training import runs
from resip_training.algorithms.state_bc import StateBCConfig, StateBCTrainer, StateData, load_state_data
from resip_training.bench.figures import BCFigures
from resip_training.bench.peer import BC_PEER, run_peer
from resip_training.data.store import DemoSet
from resip_training.models.mlp import MlpConfig

_WARM_UP_UPDATES: Final = 20
#: The compact MLP-S on all that is observed; without dropout, which robomimic's has not.
_POLICY: Final = MlpConfig(
    poses="absolute", prediction_horizon=1, action_horizon=1, actions="absolute", parts="all", dropout=0.0
)


@dataclass(frozen=True)
class _Peer:
    """The same demonstrations and sizes for the other program."""

    arrays: Path
    config: StateBCConfig

    def measure(self, updates: int) -> BCFigures:
        """Let it do ``updates``.

        Raises:
          PeerError: it cannot be installed, or failed.
        """
        layers = 1 + 2 * _POLICY.blocks  # of the same width as ours: the first, and two in each block
        sizes = (_POLICY.width, layers, self.config.batch_size, updates)
        return run_peer(BC_PEER, BCFigures, str(self.arrays), *map(str, sizes))


def bench_bc(dataset: Path, updates: int, repeats: int, json_path: Path | None) -> dict[str, Any]:
    """Measure both by turns; print a table and write the figures.

    Args:
      dataset: demonstrations of `resip collect`.
      updates: that are timed in each turn.
      repeats: turns of each.
      json_path: file for the figures.

    Returns:
      What was written.

    Raises:
      PeerError: robomimic cannot be installed, or failed.
    """
    torch.set_num_threads(1)
    runs.multiply_fast()
    config = StateBCConfig(_POLICY)
    demos = DemoSet(dataset)
    data = load_state_data(demos, config)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        peer = _Peer(Path(folder) / "demos.npz", config)
        _write_arrays(peer.arrays, demos, data)
        for _ in range(repeats):
            ours.append(measure(config, data, updates))
            theirs.append(peer.measure(updates))
    figures = _figures(ours, theirs)
    Console(width=None if sys.stdout.isatty() else 120).print(_table(figures))
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def measure(config: StateBCConfig, data: StateData, updates: int) -> BCFigures:
    """Time ``updates`` of this project's trainer."""
    trainer = StateBCTrainer(config, data)
    for _ in range(_WARM_UP_UPDATES):
        trainer.train_step(0.5)
    began_s = time.process_time()
    for _ in range(updates):
        trainer.train_step(0.5)
    cpu_s = time.process_time() - began_s
    return BCFigures(
        project=f"resip {version('resip_training')}, torch {torch.__version__}",
        parameters=sum(parameter.numel() for parameter in trainer.policy.parameters()),
        batch_size=config.batch_size,
        updates=updates,
        samples_per_cpu_s=config.batch_size * updates / cpu_s,
    )


def _write_arrays(path: Path, demos: DemoSet, data: StateData) -> None:
    """The demonstrations, actions in [-1, 1] as robomimic's network gives them."""
    trainer = StateBCTrainer(StateBCConfig(_POLICY, batch_size=1), data)
    action = trainer.policy.action_normalizer.normalize(data.action)
    ends = np.array([episode.stop for episode in demos.episodes])
    np.savez(path, observation=data.observation.numpy(), action=action.numpy(), episode_ends=ends)


def _figures(ours: list[BCFigures], theirs: list[BCFigures]) -> dict[str, Any]:
    ratios = [a.samples_per_cpu_s / b.samples_per_cpu_s for a, b in zip(ours, theirs, strict=True)]
    rows = [
        {**asdict(turns[0]), "samples_per_cpu_s": median(turn.samples_per_cpu_s for turn in turns)}
        for turns in (ours, theirs)
    ]
    return {"rows": rows, "ratio": median(ratios), "ratios": ratios}


def _table(figures: dict[str, Any]) -> Table:
    turns = len(figures["ratios"])
    table = Table(
        box=SIMPLE_HEAD,
        title="Behaviour cloning from states, by a second of one core's time",
        caption=f"ratio {figures['ratio']:.2f}; medians over {turns} turns of each",
    )
    table.add_column("project")
    for heading in ("parameters", "batch", "updates a turn", "samples"):
        table.add_column(heading, justify="right")
    for row in figures["rows"]:
        table.add_row(
            row["project"],
            str(row["parameters"]),
            str(row["batch_size"]),
            str(row["updates"]),
            f"{row['samples_per_cpu_s']:.0f}",
        )
    return table
