"""From 10 Hz fingertip targets to a continuous joint command: the same code in training and on the robot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resip import arrays, spaces
from resip.control import ik, panda
from resip.control.limits import Limits

Array = NDArray[np.float64]

#: Periods follow each other without a gap: what lies no farther apart is the same time.
_SAME_TIME_S: Final = 1e-3


class PoseServo:
    """Turns fingertip poses into joint positions that move in a straight line over one control period.

    Life cycle: ``reset`` at the measured joints, then ``set_target`` at every policy tick, and ``sample``
    at any later time. Targets are solved from the *commanded* joints, so the command does not droop with
    the arm under load. A target that stops coming leaves the command where its last one ended.

    Shapes: everything is batched over ``(n, 7)`` joints and ``(n,)`` times.

    Args:
      batch_size: n.
      settings: of the inverse kinematics.
      kind: a tensor, for commands that are tensors on its device.
      limits: of which the joints' margin (without settings), speed and acceleration are kept.
    """

    def __init__(
        self,
        batch_size: int = 1,
        settings: ik.IkSettings | None = None,
        kind: Any = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self._settings = settings or ik.IkSettings(limit_margin_rad=limits.joint_margin_rad)
        self._velocity_rad_s = np.array(limits.joint_velocity_rad_s)
        self._gain_rad_s = np.array(limits.joint_acceleration_rad_s2) * spaces.CONTROL_PERIOD_S
        self._xp = arrays.namespace(kind)
        self._start = self._xp.tile(arrays.constant(panda.RESET_RAD, kind), (batch_size, 1))
        self._goal = arrays.copy(self._start)
        self._start_time_s = self._xp.zeros_like(self._start[:, 0])
        self._duration_s = self._xp.full_like(self._start_time_s, spaces.CONTROL_PERIOD_S)

    def reset(
        self, q_rad: ArrayLike, time_s: ArrayLike, ids: slice | Sequence[int] | NDArray[np.intp] = slice(None)
    ) -> None:
        """Hold the joints ``q_rad`` from ``time_s`` on, for the batch entries ``ids``."""
        self._start[ids] = q_rad
        self._goal[ids] = q_rad
        self._start_time_s[ids] = time_s

    def set_target(self, target: spaces.Pose, time_s: ArrayLike) -> None:
        """Reach ``target`` (batched) one control period after ``time_s``, from wherever the command is then.

        Slower where a joint would exceed its speed, or gain speed faster than it may. Stopping is always allowed.
        """
        time_s = self._xp.zeros_like(self._start_time_s) + arrays.like(time_s, self._start_time_s)
        speed_rad_s = self._fastest_rad_s(time_s)
        self._start = self.sample(time_s)
        self._start_time_s = time_s
        self._goal = ik.solve(self._goal, target, self._settings)
        slowest = self._xp.amax(self._xp.abs(self._goal - self._start) / speed_rad_s, axis=-1)
        self._duration_s = self._xp.clip(slowest, spaces.CONTROL_PERIOD_S, None)

    def _fastest_rad_s(self, time_s: ArrayLike) -> Array:
        """Fastest that each joint ``(n, 7)`` may be commanded in the period that begins at ``time_s``."""
        elapsed_s = arrays.like(time_s, self._start_time_s) - self._start_time_s
        moves = (elapsed_s <= self._duration_s + _SAME_TIME_S)[..., None]
        present_rad_s = self._xp.abs(self._goal - self._start) / self._duration_s[..., None] * moves
        gained_rad_s = present_rad_s + arrays.constant(self._gain_rad_s, self._goal)
        return self._xp.minimum(arrays.constant(self._velocity_rad_s, self._goal), gained_rad_s)

    def sample(self, time_s: ArrayLike) -> Array:
        """Commanded joints ``(n, 7)`` at ``time_s``."""
        elapsed = arrays.like(time_s, self._start_time_s) - self._start_time_s
        fraction = self._xp.clip(elapsed / self._duration_s, 0.0, 1.0)[..., None]
        return self._start + fraction * (self._goal - self._start)

    def snapshot(self) -> dict[str, Array]:
        """Where each command comes from and goes to: what ``restore`` takes."""
        return {
            "start": arrays.copy(self._start),
            "goal": arrays.copy(self._goal),
            "start_time_s": arrays.copy(self._start_time_s),
            "duration_s": arrays.copy(self._duration_s),
        }

    def restore(self, state: dict[str, Array], ids: slice | NDArray[np.intp] = slice(None)) -> None:
        """Put the batch entries ``ids`` back to a ``snapshot``."""
        self._start[ids], self._goal[ids] = state["start"][ids], state["goal"][ids]
        self._start_time_s[ids], self._duration_s[ids] = state["start_time_s"][ids], state["duration_s"][ids]
