"""A synthetic task that a policy can only solve by looking: the target is where the red square is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from resip import spaces
from resip_training.data.store import DemoSet, DemoWriter, Episode, Provenance

PROVENANCE = Provenance(
    task="one_leg", randomness="low", source="expert", part_names=("top", "leg4"), simulator={"timestep_s": 0.002}
)


def _render(position: NDArray[np.float64], row: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a red square for a target in [0.4, 0.6] x [-0.1, 0.1] m on a noisy ground."""
    image = rng.integers(90, 110, size=(240, 320, 3), dtype=np.uint8)
    x, y = round(row + 400 * (position[0] - 0.5)), round(160 + 700 * position[1])
    image[x - 6 : x + 6, y - 6 : y + 6] = (220, 40, 40)
    return image


def make_episode(seed: int, n_steps: int = 20, images: bool = True) -> Episode:
    """Move from one start towards a target that differs from episode to episode."""
    rng = np.random.default_rng(seed)
    target = np.array([rng.uniform(0.4, 0.6), rng.uniform(-0.1, 0.1), 0.05])
    start = np.array([0.5, 0.0, 0.2])
    fraction = np.linspace(0, 1, n_steps)[:, None]
    position = start + fraction * (target - start)
    matrix = np.broadcast_to(np.diag([1.0, -1.0, -1.0]), (n_steps, 3, 3))
    zeros = np.zeros((n_steps, 3))
    parts = np.tile([*target, 0, 0, 0, 1.0], 3) + np.zeros((n_steps, 1))
    parts[:, 2] += 0.1 * fraction[:, 0]  # the first part is lifted, so it counts as moved
    return Episode(
        robot_state=spaces.pack_state(position, matrix, zeros, zeros, np.full(n_steps, 0.06)),
        part_poses=parts,
        action=spaces.pack_action(
            position[np.minimum(np.arange(n_steps) + 3, n_steps - 1)], matrix, np.where(fraction[:, 0] > 0.5, 1, -1)
        ),
        reward=np.zeros(n_steps),
        joint_positions=np.zeros((n_steps, 7)),
        front=np.stack([_render(target, 150, rng) for _ in range(n_steps)]) if images else None,
        wrist=np.stack([_render(target, 120, rng) for _ in range(n_steps)]) if images else None,
        seed=seed,
        success=True,
    )


def write_real_demos(path: Path, n_episodes: int = 6, n_steps: int = 20, first_seed: int = 100) -> DemoSet:
    """Write a small data set as a recording of a real cell is: nobody knows where the parts are."""
    provenance = replace(PROVENANCE, source="spacemouse", part_names=(), simulator={})
    writer = DemoWriter(path, provenance)
    for seed in range(first_seed, first_seed + n_episodes):
        writer.append(replace(make_episode(seed, n_steps), part_poses=np.empty((n_steps, 0))))
    return DemoSet(path)


def write_demos(path: Path, n_episodes: int = 6, n_steps: int = 20, images: bool = True) -> DemoSet:
    """Write a small data set."""
    writer = DemoWriter(path, replace(PROVENANCE, images=images))
    for seed in range(n_episodes):
        writer.append(make_episode(seed, n_steps, images))
    return DemoSet(path)
