"""From 10 Hz fingertip targets to a continuous joint command: the same code in training and on the robot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resip import spaces
from resip.control import ik, panda

Array = NDArray[np.float64]


class PoseServo:
    """Turns fingertip poses into joint positions that move in a straight line over one control period.

    Life cycle: ``reset`` at the measured joints, then ``set_target`` at every policy tick, and ``sample``
    at any later time. Targets are solved from the *commanded* joints, so the command does not droop with
    the arm under load. A target that stops coming leaves the command where its last one ended.

    Shapes: everything is batched over ``(n, 7)`` joints and ``(n,)`` times.
    """

    def __init__(self, batch_size: int = 1, settings: ik.IkSettings | None = None) -> None:
        self._settings = settings or ik.IkSettings()
        self._start = np.tile(panda.RESET_RAD, (batch_size, 1))
        self._goal = self._start.copy()
        self._start_time_s = np.zeros(batch_size)
        self._duration_s = np.full(batch_size, spaces.CONTROL_PERIOD_S)

    def reset(
        self, q_rad: ArrayLike, time_s: ArrayLike, ids: slice | Sequence[int] | NDArray[np.intp] = slice(None)
    ) -> None:
        """Hold the joints ``q_rad`` from ``time_s`` on, for the batch entries ``ids``."""
        self._start[ids] = q_rad
        self._goal[ids] = q_rad
        self._start_time_s[ids] = time_s

    def set_target(self, target: spaces.Pose, time_s: ArrayLike) -> None:
        """Reach ``target`` (batched) one control period after ``time_s``, from wherever the command is then.

        Slower where a joint would exceed ``panda.COMMAND_VELOCITY_RAD_S``.
        """
        time_s = np.broadcast_to(np.asarray(time_s, dtype=np.float64), self._start_time_s.shape)
        self._start = self.sample(time_s)
        self._start_time_s = time_s.copy()
        self._goal = ik.solve(self._goal, target, self._settings)
        slowest = np.max(np.abs(self._goal - self._start) / panda.COMMAND_VELOCITY_RAD_S, axis=-1)
        self._duration_s = np.maximum(slowest, spaces.CONTROL_PERIOD_S)

    def sample(self, time_s: ArrayLike) -> Array:
        """Commanded joints ``(n, 7)`` at ``time_s``."""
        elapsed = np.asarray(time_s, dtype=np.float64) - self._start_time_s
        fraction = np.clip(elapsed / self._duration_s, 0.0, 1.0)[..., None]
        return self._start + fraction * (self._goal - self._start)

    def snapshot(self) -> dict[str, Array]:
        """Where each command comes from and goes to: what ``restore`` takes."""
        return {
            "start": self._start.copy(),
            "goal": self._goal.copy(),
            "start_time_s": self._start_time_s.copy(),
            "duration_s": self._duration_s.copy(),
        }

    def restore(self, state: dict[str, Array], ids: slice | NDArray[np.intp] = slice(None)) -> None:
        """Put the batch entries ``ids`` back to a ``snapshot``."""
        self._start[ids], self._goal[ids] = state["start"][ids], state["goal"][ids]
        self._start_time_s[ids], self._duration_s[ids] = state["start_time_s"][ids], state["duration_s"][ids]
