"""Where training episodes begin: at fresh seeds, or at states along the demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from resip.errors import ResipError
from torch import Tensor

from resip_training import distributed
from resip_training.data.store import WORLD, DemoSet
from resip_training.sim import snapshots

#: Training draws its seeds from here on; demonstrations and evaluation take smaller ones.
FIRST_TRAINING_SEED: Final = 1 << 30
_SEEDS: Final = 1 << 30
_PHASES: Final = 16  # pieces of an episode whose success is followed
_MEMORY: Final = 0.95  # share of a phase's estimated success that an episode leaves
_LEAST: Final = 0.02  # weight of a phase that always or never succeeds
_LEARN_EVERY: Final = 16  # actions


@dataclass(frozen=True)
class Start:
    """Where n worlds would begin.

    Attributes:
      seeds: one for each world; those of worlds that go on mean nothing.
      along: ``(n,)``, worlds that begin along a demonstration.
      snapshot: the physics' states for those, or None if there are none.
      steps: ``(n,)`` control steps that their episodes have behind them.
      demonstrated: ``(n,)`` further control steps in which the demonstrations came to their end; 0 without one.
    """

    seeds: list[int]
    along: NDArray[np.bool_]
    snapshot: dict[str, Any] | None
    steps: NDArray[np.int64]
    demonstrated: NDArray[np.int64]


class Starts:
    """Draw where episodes begin, and follow which of the demonstrations' phases still teach something.

    Of the starts along demonstrations, more are drawn where about half succeed: near the end at first, then
    further back as the later phases are mastered (a curriculum that goes backwards from the bottleneck).

    What a world draws follows from the run's seed, the world's number among those of all processes, and how many
    episodes it has begun. All processes learn alike from all outcomes.

    Args:
      num_envs: worlds of this process.
      seed: of the draws.
      share: of the episodes that begin along a demonstration that succeeded.
      demos: these demonstrations, with the simulator's states; needed unless ``share`` is 0.
      like: a snapshot of the physics that will be put there.

    Raises:
      ResipError: no demonstration succeeded, they hold no states, or those of another simulation.
    """

    def __init__(
        self,
        num_envs: int,
        seed: int,
        share: float = 0.0,
        demos: DemoSet | None = None,
        like: Mapping[str, Any] | None = None,
    ) -> None:
        self._seed, self._worlds, self._share = seed, distributed.own(num_envs), share
        self._begun = torch.zeros(num_envs, dtype=torch.int64)
        self._success = torch.full((_PHASES,), 0.5)
        self._phase = torch.full((num_envs,), -1)
        self._reports = torch.tensor(0)
        #: Of the last actions: ``2 * phase + success`` of an episode that ended then, else -1.
        self._outcomes = torch.full((num_envs, _LEARN_EVERY), -1)
        if share > 0:
            assert demos is not None, "starts along demonstrations need them"
            assert like is not None, "and the layout of the physics' states"
            if not demos.successes:
                raise ResipError(f"{demos.path} holds no successful demonstration to begin along")
            snapshots.check(demos.provenance["simulator"].get(WORLD, {}), like, demos.path)
            self._rows, self._episodes, self._like = demos.world, demos.successes, like

    def draw(self, mask: NDArray[np.bool_]) -> Start:
        """Where the worlds in ``mask`` ``(n,)`` begin."""
        n = len(self._worlds)
        seeds, along, steps = [0] * n, np.zeros(n, dtype=bool), np.zeros(n, dtype=np.int64)
        demonstrated = np.zeros(n, dtype=np.int64)
        rows: dict[int, NDArray[np.float64]] = {}
        for i in map(int, np.flatnonzero(mask)):
            random = np.random.default_rng((self._seed, self._worlds[i], int(self._begun[i])))
            self._begun[i] += 1
            self._phase[i] = -1
            seeds[i] = FIRST_TRAINING_SEED + int(random.integers(_SEEDS))
            along[i] = random.random() < self._share
            if along[i]:
                self._phase[i], steps[i], demonstrated[i], rows[i] = self._place(random)
        if not rows:
            return Start(seeds, along, None, steps, demonstrated)
        states = np.zeros((n, len(next(iter(rows.values())))))
        states[list(rows)] = list(rows.values())
        return Start(seeds, along, snapshots.unflatten(states, self._like), steps, demonstrated)

    def _place(self, random: np.random.Generator) -> tuple[int, int, int, NDArray[np.float64]]:
        """A phase, a control step of a demonstration in it, how many follow, and the physics' state there."""
        weights = self._weights().double().numpy()
        phase = int(random.choice(_PHASES, p=weights / weights.sum()))
        episode = self._episodes[int(random.integers(len(self._episodes)))]
        length = episode.stop - episode.start
        step = int((phase + random.random()) / _PHASES * length)
        return phase, step, length - step, self._rows[episode.start + step]

    def report(self, over: Tensor, success: Tensor) -> None:
        """Learn whether the phases of episodes succeed; called after every action.

        Args:
          over: ``(n,)``, episodes that have shown it.
          success: ``(n,)``, all is assembled.
        """
        if self._share == 0:
            return
        ended = over.cpu() & (self._phase >= 0)
        self._outcomes[:, self._reports % _LEARN_EVERY] = torch.where(ended, 2 * self._phase + success.cpu(), -1)
        self._reports += 1
        if self._reports % _LEARN_EVERY == 0:
            self._learn()

    def _learn(self) -> None:
        outcomes = distributed.gathered(self._outcomes).T
        for outcome in outcomes[outcomes >= 0].tolist():
            phase, succeeded = divmod(outcome, 2)
            self._success[phase] = _MEMORY * self._success[phase] + (1 - _MEMORY) * succeeded

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs, of the worlds of all processes."""
        of_worlds = {"begun": self._begun, "phase": self._phase, "outcomes": self._outcomes}
        gathered = {name: distributed.gathered(values).clone() for name, values in of_worlds.items()}
        return gathered | {"success": self._success.clone(), "reports": self._reports.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Invert `state`."""
        self._begun.copy_(distributed.own_rows(state["begun"]))
        self._phase.copy_(distributed.own_rows(state["phase"]))
        self._outcomes.copy_(distributed.own_rows(state["outcomes"]))
        self._success.copy_(state["success"])
        self._reports.copy_(state["reports"])

    def _weights(self) -> Tensor:
        return self._success * (1 - self._success) + _LEAST
