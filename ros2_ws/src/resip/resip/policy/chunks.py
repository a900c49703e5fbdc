"""Execute action chunks by their time stamps.

A chunk predicted from an observation taken at ``observed_s`` holds one action a control period: action i
belongs to ``observed_s + i * period_s``. Inference takes time, so a chunk arrives when its first actions
are already past; they are skipped, never executed late. Until a newer chunk arrives the present one goes
on, to its last action and not beyond.

Two chunks disagree about the same moment, so a change from one to the next is a step of the command. It can be
spread over a few ticks (`blended`): at each of them the command lies between what both chunks want at that time.
That is the simplest of the ways in use. ACT's temporal ensembling (arXiv 2304.13705) averages all chunks at every
tick, and has to predict at every tick; real-time chunking (arXiv 2506.07339) lets the new chunk begin with the rest
of the old one, and has to take part in its denoising. A mean of two chunks that want different things is something
that neither wants: the blend is kept short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resip import rotation, spaces
from resip.control.limits import UnsoundActionError
from resip.errors import ResipError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Chunk:
    """Actions ``(n, 10)`` predicted from the observation of time ``observed_s`` (s, the policy's clock).

    Raises:
      ResipError: the shape is wrong.
      UnsoundActionError: a value is not finite.
    """

    observed_s: float
    actions: Array

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or self.actions.shape[1] != spaces.ACTION_DIM or len(self.actions) == 0:
            raise ResipError(f"a chunk has shape (n, {spaces.ACTION_DIM}), got {self.actions.shape}")
        finite = np.isfinite(self.actions).all(axis=1)
        if not finite.all():
            raise UnsoundActionError(
                f"the policy's chunk of t = {self.observed_s:.3f} s is not finite at action {int(np.argmin(finite))}: "
                "nothing of it is executed"
            )


class ChunkExecutor:
    """Answer which action belongs to a time, and when the next chunk is due.

    Pure and single-threaded: the caller owns the clock, the worker that predicts, and any lock.

    Args:
      execute_steps: actions after which a newer chunk is asked for (the paper's T_a); the chunk's
        further actions bridge the time that its successor takes to compute.
      blend_steps: actions over which the command goes over to a newer chunk; 0 to go over at once. At most one less
        than ``execute_steps``: else the next chunk would come before this one has had its way.
      period_s: time between two actions.
    """

    def __init__(self, execute_steps: int = 8, blend_steps: int = 0, period_s: float = spaces.CONTROL_PERIOD_S) -> None:
        if execute_steps < 1 or blend_steps < 0 or period_s <= 0:
            raise ValueError("execute_steps must be at least 1, blend_steps not negative and period_s positive")
        self._execute_steps, self._blend_steps = execute_steps, min(blend_steps, execute_steps - 1)
        self._period_s = period_s
        self._chunks: list[Chunk] = []  # by rising observation time
        self._present: Chunk | None = None  # what was executed last

    def reset(self) -> None:
        """Forget every chunk, at the start and at the stop of an episode."""
        self._chunks.clear()
        self._present = None

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
        newest, waiting = self._chunks[n_begun - 1], self._chunks[n_begun:]
        if self._present is not None and newest.observed_s > self._present.observed_s:
            newest = self._taken_over(self._present, newest, time_s)
        self._present, self._chunks = newest, [newest, *waiting]  # what it has replaced is never needed again
        step = self._step(newest, time_s)
        return newest.actions[step].copy() if step < len(newest.actions) else None

    def observed_at(self, time_s: float) -> float | None:
        """When what `action_at` gave for ``time_s`` was observed (s); None where it gave nothing."""
        if self._present is None or self._step(self._present, time_s) >= len(self._present.actions):
            return None
        return self._present.observed_s

    def _taken_over(self, old: Chunk, new: Chunk, time_s: float) -> Chunk:
        """The new chunk, from ``time_s`` on blended with what was executed until then."""
        first_old, first_new = self._step(old, time_s), self._step(new, time_s)
        n = max(0, min(self._blend_steps, len(old.actions) - first_old, len(new.actions) - first_new))
        actions = new.actions.copy()
        actions[first_new : first_new + n] = blended(
            old.actions[first_old : first_old + n], actions[first_new : first_new + n], self._blend_steps
        )
        return Chunk(new.observed_s, actions)

    def _step(self, chunk: Chunk, time_s: float) -> int:
        """Number of the chunk's action that is nearest in time; negative before, past the end after."""
        return round((time_s - chunk.observed_s) / self._period_s)


def blended(old: Array, new: Array, steps: int) -> Array:
    """Go over from one row of actions to another of the same times: the k-th is k / (steps + 1) of the way, from 1 on.

    Positions go along the line between the two, rotations along the shortest arc; the gripper does at once what the
    new actions say. A rotation that is none (see ``spaces.action_pose``) stays as it is in the new actions, for the
    policy's limits to find.

    Args:
      old: ``(n, 10)``.
      new: ``(n, 10)``.
      steps: of a whole blend, at least ``n``.

    Returns:
      ``(n, 10)``.
    """
    fractions = np.arange(1, len(new) + 1) / (steps + 1)
    actions = new.copy()
    for action, before, fraction in zip(actions, old, fractions, strict=True):
        try:
            start, end = spaces.action_pose(before), spaces.action_pose(action)
        except ValueError:
            continue
        position = start.position + fraction * (end.position - start.position)
        matrix = rotation.interpolate(start.matrix, end.matrix, fraction)
        action[:] = spaces.pack_action(position, matrix, action[spaces.ACTION_GRIPPER.start])
    return actions
