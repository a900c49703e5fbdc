"""`resip data coverage`: how much of what a real set does a simulated one does as well (the paper's Fig. 8)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from resip import spaces
from scipy.spatial import KDTree

from resip_training.data.store import DemoSet
from resip_training.data.windows import steps_of

#: What is compared, the first three columns of each: desired and measured position of the fingertip, base frame, m.
ARRAYS: Final = ("action", "robot_state")

_NEAR_M: Final = 0.01
_SHOWN: Final = 2_000  # positions of a set that the file holds
_RESAMPLED: Final = 2_000
_SEED: Final = 0


def measure_coverage(sim: Path, real: Path, json_path: Path) -> dict[str, Any]:
    """Measure which share of the real set's positions has a simulated one within a centimetre.

    Only episodes that succeeded count. The 95 % interval is that of the percentile bootstrap over real episodes: the
    steps of one are alike.

    Args:
      sim: folder of the simulated set.
      real: folder of the real one, of the same task.
      json_path: file for the figures, and for the positions, thinned and in mm, that `resip figure coverage` draws.

    Returns:
      The figures.

    Raises:
      ResipError: no sound data sets, or not of one task.
    """
    simulated = DemoSet(sim)
    task = simulated.provenance["task"]
    recorded = DemoSet(real, task=task)
    covered = {name: _covered(simulated, recorded, name) for name in ARRAYS}
    for name, figures in covered.items():
        low, high = figures["interval"]
        print(
            f"{name}: {figures['share']:.0%} of the real positions (95 % interval {low:.0%} to {high:.0%}) are within "
            f"{1000 * _NEAR_M:g} mm of a simulated one; "
            f"median {figures['median_mm']:.1f} mm, p95 {figures['p95_mm']:.1f} mm"
        )
    figures = {
        "task": task,
        "near_mm": 1000 * _NEAR_M,
        "real_covered": covered,
        "sim": _described(simulated),
        "real": _described(recorded),
    }
    json_path.write_text(json.dumps(figures) + "\n")  # thousands of positions: in one line
    return figures


def _covered(sim: DemoSet, real: DemoSet, name: str) -> dict[str, Any]:
    """Distances from the real set's positions to the nearest simulated ones."""
    tree = KDTree(_positions(sim, name))
    distances = [tree.query(getattr(real, name)[rows, :3])[0] for rows in real.successes]
    near = np.array([np.count_nonzero(of_episode <= _NEAR_M) for of_episode in distances])
    lengths = np.array([len(of_episode) for of_episode in distances])
    chosen = np.random.default_rng(_SEED).integers(len(near), size=(_RESAMPLED, len(near)))
    shares = near[chosen].sum(axis=1) / lengths[chosen].sum(axis=1)
    all_mm = 1000 * np.concatenate(distances)
    return {
        "share": float(near.sum() / lengths.sum()),
        "interval": np.percentile(shares, [2.5, 97.5]).tolist(),
        "median_mm": float(np.median(all_mm)),
        "p95_mm": float(np.percentile(all_mm, 95)),
    }


def _positions(demos: DemoSet, name: str) -> NDArray[np.float32]:
    """Fingertip positions ``(n, 3)`` of the episodes that succeeded."""
    assert spaces.ACTION_POSITION == spaces.STATE_POSITION == slice(0, 3)
    return getattr(demos, name)[steps_of(demos.successes, range(len(demos.successes))), :3]


def _described(demos: DemoSet) -> dict[str, Any]:
    return {
        "name": demos.path.resolve().name,
        **demos.described(),
        "positions_mm": {name: _thinned_mm(_positions(demos, name)) for name in ARRAYS},
    }


def _thinned_mm(positions: NDArray[np.float32]) -> list[list[int]]:
    rows = np.linspace(0, len(positions) - 1, min(_SHOWN, len(positions))).astype(int)
    return np.rint(1000 * positions[rows]).astype(int).tolist()
