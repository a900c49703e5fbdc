"""Execute action chunks by their time stamps.

A chunk predicted from an observation taken at ``observed_s`` holds one action a control period: action i
belongs to ``observed_s + i * period_s``. Inference takes time, so a chunk arrives when its first actions
are already past; they are skipped, never executed late. Until a newer chunk arrives the present one goes
on, to its last action and not beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resip import spaces
from resip.errors import ResipError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chunk:
    """Actions ``(n, 10)`` predicted from the observation of time ``observed_s`` (s, the policy's clock).

    Raises:
      ResipError: the shape is wrong or a value is not finite.
    """

    observed_s: float
    actions: Array

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or self.actions.shape[1] != spaces.ACTION_DIM or len(self.actions) == 0:
            raise ResipError(f"a chunk has shape (n, {spaces.ACTION_DIM}), got {self.actions.shape}")
        finite = np.isfinite(self.actions).all(axis=1)
        if not finite.all():
            raise ResipError(
                f"the policy's chunk of t = {self.observed_s:.3f} s is not finite at action {int(np.argmin(finite))}: "
                "nothing of it is executed"
            )


class ChunkExecutor:
    """Answer which action belongs to a time, and when the next chunk is due.

    Pure and single-threaded: the caller owns the clock, the worker that predicts, and any lock.

    Args:
      execute_steps: actions after which a newer chunk is asked for (the paper's T_a); the chunk's
        further actions bridge the time that its successor takes to compute.
      period_s: time between two actions.
    """

    def __init__(self, execute_steps: int = 8, period_s: float = spaces.CONTROL_PERIOD_S) -> None:
        if execute_steps < 1 or period_s <= 0:
            raise ValueError("execute_steps must be at least 1 and period_s positive")
        self._execute_steps = execute_steps
        self._period_s = period_s
        self._chunks: list[Chunk] = []  # by rising observation time

    def reset(self) -> None:
        """Forget every chunk, at the start and at the stop of an episode."""
        self._chunks.clear()

    def add(self, chunk: Chunk) -> None:
        """Take a new chunk; of two with one observation time the later added counts."""
        self._chunks = [held for held in self._chunks if held.observed_s != chunk.observed_s]
        self._chunks.append(chunk)
        self._chunks.sort(key=lambda held: held.observed_s)

    def wants_chunk(self, time_s: float) -> bool:
        """Whether an observation of ``time_s`` should be turned into a new chunk now."""
        if not self._chunks:
            return True
        return self._step(self._chunks[-1], time_s) >= self._execute_steps

    def action_at(self, time_s: float) -> Array | None:
        """Action ``(10,)`` nearest in time to ``time_s`` in the newest chunk observed by then.

        None when there is no chunk or it is used up: the caller holds, it never repeats or extrapolates.
        """
        n_begun = sum(self._step(chunk, time_s) >= 0 for chunk in self._chunks)
        if n_begun == 0:
            return None
        self._chunks = self._chunks[n_begun - 1 :]  # what a newer chunk has replaced is never needed again
        step = self._step(self._chunks[0], time_s)
        return self._chunks[0].actions[step].copy() if step < len(self._chunks[0].actions) else None

    def _step(self, chunk: Chunk, time_s: float) -> int:
        """Number of the chunk's action that is nearest in time; negative before, past the end after."""
        return round((time_s - chunk.observed_s) / self._period_s)
