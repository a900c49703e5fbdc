"""`resip bench blending`: how smooth the command is where one chunk follows another, at once or blended.

Chunks are recorded while the policy acts in the training environment, and executed again by the node's executor, each
arriving ``late_steps`` after its observation: the same chunks with and without a blend. What the blend does to the
success is not in these figures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from resip import spaces
from resip.policy.chunks import Chunk, ChunkExecutor
from resip.trials.statistics import Timing
from torch import Tensor

from resip_training.evaluate import load, run_episodes

Array = NDArray[np.float64]

_DIFFERENCES: Final = 3  # jerk: the third difference of positions


def bench_blending(
    model: Path, episodes: int, seed: int, blend_steps: int, late_steps: int, json_path: Path | None
) -> dict[str, Any]:
    """Record chunks, execute them both ways, and print the jerk at their borders.

    Args:
      model: a training run or exported model on images.
      episodes: to record.
      seed: of the first.
      blend_steps: see `ChunkExecutor`.
      late_steps: control steps from a chunk's observation to its arrival.
      json_path: file for the figures.

    Returns:
      What was written.
    """
    horizon, recorded = _record(model, range(seed, seed + episodes))
    jerks: dict[str, Timing | None] = {}
    for name, steps in (("at once", 0), ("blended", blend_steps)):
        values = [border_jerks(chunks, horizon, steps, late_steps, blend_steps) for chunks in recorded]
        jerks[name] = Timing.of(np.concatenate(values), "m/s^3")
    figures = {
        "model": str(model),
        "seeds": list(range(seed, seed + episodes)),
        "borders": sum(len(chunks) - 1 for chunks in recorded),
        "settings": {"blend_steps": blend_steps, "late_steps": late_steps, "action_horizon": horizon},
        "jerk": {name: timing.as_json() for name, timing in jerks.items() if timing is not None},
    }
    for name, timing in figures["jerk"].items():
        print(f"jerk at chunk borders, {name}: median {timing['median']:.2f}, p95 {timing['p95']:.2f} {timing['unit']}")
    if json_path is not None:
        json_path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def border_jerks(chunks: Sequence[Array], horizon: int, blend_steps: int, late_steps: int, window_steps: int) -> Array:
    """Size of the commanded position's third difference wherever it reaches over a border, or a blend behind it.

    Args:
      chunks: ``(T_p, 10)`` each, ``horizon`` steps after the one before.
      horizon: actions after which a chunk was asked for.
      blend_steps: see `ChunkExecutor`.
      late_steps: steps from a chunk's observation to its arrival.
      window_steps: looked at behind a border; the same for all that are compared.

    Returns:
      ``(n,)``, m/s^3.
    """
    positions = executed(chunks, horizon, blend_steps, late_steps)[:, spaces.ACTION_POSITION]
    jerk = np.linalg.norm(np.diff(positions, n=_DIFFERENCES, axis=0), axis=1) / spaces.CONTROL_PERIOD_S**_DIFFERENCES
    borders = [horizon * i + late_steps for i in range(1, len(chunks))]
    # jerk[i] is of positions i to i + 3; the last one before the border is borders - 1
    rows = {i for border in borders for i in range(border - _DIFFERENCES, border + window_steps)}
    return jerk[sorted(i for i in rows if 0 <= i < len(jerk))]


def executed(chunks: Sequence[Array], horizon: int, blend_steps: int, late_steps: int) -> Array:
    """Actions ``(n, 10)`` that the executor gives at each control step, the first chunk's from its observation on."""
    executor = ChunkExecutor(horizon, blend_steps)
    actions = []
    for step in range(horizon * len(chunks)):
        arrived, remainder = divmod(step - late_steps, horizon)
        if step == 0:
            executor.add(Chunk(0.0, chunks[0]))
        elif remainder == 0 and arrived > 0:
            executor.add(Chunk(horizon * arrived * spaces.CONTROL_PERIOD_S, chunks[arrived]))
        action = executor.action_at(step * spaces.CONTROL_PERIOD_S)
        assert action is not None, "chunks are longer than the time to the next one"
        actions.append(action)
    return np.stack(actions)


def _record(model: Path, seeds: range) -> tuple[int, list[list[Array]]]:
    """The action horizon, and the chunks of an episode for each seed."""
    policy = load(model)
    recorded: list[list[Array]] = []

    def predict(*inputs: Tensor) -> Tensor:
        """What the policy predicts, which is kept."""
        actions = policy.predict(*inputs)
        recorded[-1].append(actions[0].numpy().astype(np.float64))
        return actions

    torch.set_num_threads(1)
    for seed in seeds:
        recorded.append([])
        run_episodes(predict, policy.task, policy.randomness, [seed], policy.horizons, threads=1)
    return policy.horizons["action"], recorded
