"""A base policy that acts in many worlds, each with a chunk of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
import torch
from resip import spaces
from torch import Tensor

from resip_training import distributed

#: On the CPU a policy is asked for so many worlds at once, no more and no fewer.
_BLOCK: Final = 16


def in_blocks(function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """What ``function`` makes of ``rows``, each ``(n, ...)`` with n > 0: the same of a row whichever are beside it.

    A matrix product rounds a row otherwise when there are more or fewer rows, and contacts make another episode of
    the last bit. So on the CPU the rows are computed in blocks of one size, the last one filled up. (MKL also minds
    a row's place in its block, but only in layers of at most ten outputs from a number of inputs that four does not
    divide.) On a GPU, where the noise of an episode depends on the others anyway, they are computed at once.
    """
    if rows[0].device.type != "cpu":
        return function(*rows)
    n = len(rows[0])
    number = torch.arange(-(-n // _BLOCK) * _BLOCK).clamp(max=n - 1)
    blocks = [function(*(values[block] for values in rows)) for block in number.split(_BLOCK)]
    return torch.cat(blocks)[:n]


class ChunkPolicy(Protocol):
    """What plans chunks: a base policy, or what was learned from one.

    Attributes:
      action_horizon: T_a.
    """

    action_horizon: int

    @property
    def device(self) -> torch.device:
        """Where it is."""
        ...

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Of the noise of one chunk: (T_p, 10)."""
        ...

    def sample(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Absolute actions ``(B, T_p, 10)`` from observations ``(B, D)`` and standard normal noise."""
        ...


class ChunkedBase:
    """Executes the first T_a actions of a chunk, then asks for the next one; world by world.

    Worlds start and end at different times, so each has its own place in its own chunk. A chunk starts from pure
    noise: nothing of an earlier plan or episode is in it. On the CPU a world's noise follows from its episode's
    seed alone, and a plan does not depend on those that are made with it (see `in_blocks`), so an episode is the
    same whichever others run beside it; on a GPU all of a process share one there.

    Args:
      policy: in evaluation mode.
      num_envs: worlds.
    """

    def __init__(self, policy: ChunkPolicy, num_envs: int) -> None:
        self.policy, device = policy, policy.device
        self._chunk = torch.zeros(num_envs, policy.action_horizon, spaces.ACTION_DIM, device=device)
        self._next = torch.full((num_envs,), policy.action_horizon, device=device)
        self._worlds = torch.arange(num_envs, device=device)
        self._shared = None if device.type == "cpu" else torch.Generator(device).manual_seed(distributed.rank())
        self._generators = [torch.Generator() for _ in range(num_envs)]

    def start(self, mask: np.ndarray | Tensor, seeds: Sequence[int | None]) -> None:
        """Begin episodes in the worlds where ``mask`` holds, with the noise of their seeds (one for each world)."""
        mask = torch.as_tensor(mask, device=self._next.device)
        self._next[mask] = self.policy.action_horizon
        if self._shared is None:
            for i in torch.nonzero(mask).flatten().tolist():
                self._generators[i].manual_seed(int(seeds[i] or 0))

    @torch.no_grad()
    def action(self, observation: Tensor) -> Tensor:
        """The present actions ``(n, 10)`` for observations ``(n, D)``; chunks that are used up are planned anew."""
        used_up = torch.nonzero(self._next >= self.policy.action_horizon).flatten()
        if len(used_up):
            planned = in_blocks(self.policy.sample, observation[used_up], self._noise(used_up))
            self._chunk[used_up] = planned[:, : self.policy.action_horizon]
            self._next[used_up] = 0
        return self._chunk[self._worlds, self._next]

    def advance(self) -> None:
        """Go on to the next action in every world."""
        self._next += 1

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs (on the CPU)."""
        generators = torch.stack([generator.get_state() for generator in self._generators])
        return {"chunk": self._chunk.clone(), "next": self._next.clone(), "generators": generators}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Invert `state`."""
        self._chunk.copy_(state["chunk"])
        self._next.copy_(state["next"])
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.set_state(saved.clone())  # torch (2.13) reads a row that is a view from the wrong place

    def _noise(self, worlds: Tensor) -> Tensor:
        shape = self.policy.noise_shape
        if self._shared is not None:
            return torch.randn((len(worlds), *shape), generator=self._shared, device=self._chunk.device)
        return torch.stack([torch.randn(shape, generator=self._generators[i]) for i in worlds.tolist()])
