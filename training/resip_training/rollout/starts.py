"""Where training episodes begin: at fresh seeds, or at states along the demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resip_training.data.store import WORLD, DemoSet
from resip_training.sim import snapshots

#: Training draws its seeds from here on; demonstrations and evaluation take smaller ones.
FIRST_TRAINING_SEED: Final = 1 << 30
_SEEDS: Final = 1 << 30
_PHASES: Final = 16  # pieces of an episode whose success is followed
_MEMORY: Final = 0.95  # share of a phase's estimated success that an episode leaves
_LEAST: Final = 0.02  # weight of a phase that always or never succeeds


@dataclass(frozen=True)
class Start:
    """Where n worlds would begin.

    Attributes:
      seeds: one for each world.
      along: ``(n,)``, worlds that begin along a demonstration.
      snapshot: the physics' states for those, or None if there are none.
      steps: ``(n,)`` control steps that their episodes have behind them.
    """

    seeds: list[int]
    along: NDArray[np.bool_]
    snapshot: dict[str, Any] | None
    steps: NDArray[np.int64]


class Starts:
    """Draw where episodes begin, and follow which of the demonstrations' phases still teach something.

    Of the starts along demonstrations, more are drawn where about half succeed: near the end at first, then
    further back as the later phases are mastered (a curriculum that goes backwards from the bottleneck).

    Args:
      num_envs: worlds.
      seed: of the draws.
      share: of the episodes that begin along a demonstration.
      demos: these demonstrations, with the simulator's states; needed unless ``share`` is 0.
      like: a snapshot of the physics that will be put there.

    Raises:
      ResipError: the demonstrations hold no states, or those of another simulation.
    """

    def __init__(
        self,
        num_envs: int,
        seed: int,
        share: float = 0.0,
        demos: DemoSet | None = None,
        like: Mapping[str, Any] | None = None,
    ) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._num_envs, self._share = num_envs, share
        self._success = torch.full((_PHASES,), 0.5)
        self._phase = torch.full((num_envs,), -1)
        if share > 0:
            assert demos is not None, "starts along demonstrations need them"
            assert like is not None, "and the layout of the physics' states"
            snapshots.check(demos.provenance["simulator"].get(WORLD, {}), like, demos.path)
            self._rows, self._episodes, self._like = demos.world, demos.episodes, like

    def draw(self, mask: NDArray[np.bool_]) -> Start:
        """Where the worlds in ``mask`` ``(n,)`` begin."""
        n = self._num_envs
        seeds = (FIRST_TRAINING_SEED + torch.randint(_SEEDS, (n,), generator=self._generator)).tolist()
        along = mask & (torch.rand(n, generator=self._generator) < self._share).numpy()
        steps = np.zeros(n, dtype=np.int64)
        self._phase[torch.from_numpy(mask)] = -1
        if not along.any():
            return Start(seeds, along, None, steps)
        rows = np.zeros((n, self._rows.shape[1]))
        for i in map(int, np.flatnonzero(along)):
            phase = int(torch.multinomial(self._weights(), 1, generator=self._generator))
            episode = self._episodes[int(torch.randint(len(self._episodes), (1,), generator=self._generator))]
            place = (phase + float(torch.rand(1, generator=self._generator))) / _PHASES
            steps[i] = int(place * (episode.stop - episode.start))
            rows[i] = self._rows[episode.start + steps[i]]
            self._phase[i] = phase
        return Start(seeds, along, snapshots.unflatten(rows, self._like), steps)

    def report(self, over: Tensor, success: Tensor) -> None:
        """Learn from episodes that are over ``(n,)`` whether their phase succeeds."""
        for i in torch.nonzero(over.cpu() & (self._phase >= 0)).flatten().tolist():
            phase = int(self._phase[i])
            self._success[phase] = _MEMORY * self._success[phase] + (1 - _MEMORY) * float(success[i])

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        return {
            "generator": self._generator.get_state(),
            "success": self._success.clone(),
            "phase": self._phase.clone(),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Invert `state`."""
        self._generator.set_state(state["generator"])
        self._success.copy_(state["success"])
        self._phase.copy_(state["phase"])

    def _weights(self) -> Tensor:
        return self._success * (1 - self._success) + _LEAST
