"""Small pushes off a policy's way, so that its rollouts show how it comes back.

A clone that was shown only undisturbed ways has seen no correction of an error such as its own. Here what is executed
lies beside what the policy asks for, while the policy's own action is what a student learns; the idea is that of DART
(Laskey et al., 2017, "DART: Noise Injection for Robust Imitation Learning").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from resip.errors import ResipError

#: How much of an offset remains one control step later: the hand drifts aside for some two seconds, and not to and fro.
MEMORY: Final = 0.95
#: An episode's pushes are up to this many times the mean size.
STRONGEST: Final = 2.0
#: The largest mean size that makes sense (m): what is pushed farther has lost its part.
LARGEST_M: Final = 0.02

_STREAM: Final = 2  # of a seed's random numbers; the experts' mistakes are 1


class Disturbance:
    """Offsets of the hand's desired position in ``num_envs`` worlds, each of its episode's seed alone.

    In an episode each axis' offset is Gaussian with memory (an AR(1) process). Its deviation is the same at every
    step, drawn for the episode uniformly between 0 and twice ``scale_m``: some episodes are hardly disturbed.

    Args:
      num_envs: worlds.
      scale_m: mean over episodes of the deviation along each axis (m).

    Raises:
      ResipError: ``scale_m`` is not from 0 to ``LARGEST_M``.
    """

    def __init__(self, num_envs: int, scale_m: float) -> None:
        if not 0.0 <= scale_m <= LARGEST_M:
            raise ResipError(f"a disturbance of {scale_m:g} m is not from 0 to {LARGEST_M:g} m")
        self._scale_m = scale_m
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._deviation_m = np.zeros(num_envs)
        self._offset = np.zeros((num_envs, 3))  # in deviations

    def start(self, mask: NDArray[np.bool_], seeds: Sequence[int | None]) -> None:
        """Begin the episodes of ``seeds`` in the worlds where ``mask`` holds."""
        for world in np.flatnonzero(mask).tolist():
            seed = seeds[world]
            assert seed is not None, "an episode is disturbed by its seed"
            rng = np.random.default_rng([seed, _STREAM])
            self._rngs[world] = rng
            self._deviation_m[world] = self._scale_m * rng.uniform(0.0, STRONGEST)
            self._offset[world] = rng.standard_normal(3)

    def offsets_m(self) -> NDArray[np.float64]:
        """This step's offsets ``(num_envs, 3)`` in the base frame (m); zero where nothing has started."""
        fresh = [np.zeros(3) if rng is None else rng.standard_normal(3) for rng in self._rngs]
        offsets_m = self._deviation_m[:, None] * self._offset
        self._offset = MEMORY * self._offset + np.sqrt(1 - MEMORY**2) * np.stack(fresh)
        return offsets_m
