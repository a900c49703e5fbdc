"""What ``AssemblyEnv`` asks of the physics under it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Ids = NDArray[np.int64]


class Physics(Protocol):
    """Worlds of one task: MuJoCo's here (``worlds.Worlds``), or a worker's (``remote.client.RemoteWorlds``)."""

    def reset(self, ids: Ids, seeds: list[int]) -> None:
        """Start new episodes in the worlds ``ids``, from a seed each."""

    def step(self, actions: ArrayLike) -> None:
        """Advance all worlds by one control step with actions ``(count, 10)``."""

    def push(self, i: int, hit: NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Kick those parts of world ``i`` that are ``hit`` ``(n_parts,)``."""

    def joint_positions(self) -> Array:
        """Arm joints, rad, ``(count, 7)``."""
        ...

    def robot_state(self) -> Array:
        """The contract's robot state, ``(count, 16)``."""
        ...

    def part_poses(self) -> Array:
        """Part poses and the obstacle's, base frame, ``(count, n_parts + 1, 7)``, quaternions in a fixed hemisphere."""
        ...

    def finite(self) -> NDArray[np.bool_]:
        """Which worlds' states are numbers, ``(count,)``."""
        ...

    def snapshot(self) -> dict[str, Array]:
        """What ``restore`` needs, each entry ``(count, ...)``."""
        ...

    def restore(self, state: dict[str, Array], ids: Ids) -> None:
        """Put the worlds ``ids`` back to a snapshot."""
