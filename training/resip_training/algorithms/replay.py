"""What off-policy learning remembers: n-step transitions, and the buffer that keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from resip.errors import ResipError
from torch import Tensor


@dataclass(frozen=True)
class Transitions:
    """A batch of transitions over one or several control steps.

    Attributes:
      observation: ``(B, D)``, what was seen.
      residual: ``(B, A)``, what was executed then, as its difference from the base's action in units of alpha.
      reward: ``(B,)``, discounted sum of the rewards up to ``next_observation``.
      discount: ``(B,)``, weight of the value of ``next_observation``: gamma to the number of steps, 0 where the
        episode was terminated. A truncated episode goes on being worth something.
      next_observation: ``(B, D)``.
    """

    observation: Tensor
    residual: Tensor
    reward: Tensor
    discount: Tensor
    next_observation: Tensor

    def __len__(self) -> int:
        return len(self.reward)

    @staticmethod
    def joined(pieces: Sequence[Transitions]) -> Transitions:
        """Several batches as one."""
        names = [field.name for field in fields(Transitions)]
        return Transitions(*(torch.cat([getattr(piece, name) for piece in pieces]) for name in names))


class NStepQueue:
    """Join the single steps of ``num_envs`` worlds to transitions over ``n_steps``, fewer at an episode's end.

    Args:
      num_envs: worlds stepped together (n).
      observation_dim: length of an observation (D).
      action_dim: length of a residual (A).
      n_steps: steps of a transition.
      gamma: discount of one step.
      device: of the worlds' tensors; None is the CPU.
    """

    def __init__(
        self,
        num_envs: int,
        observation_dim: int,
        action_dim: int,
        n_steps: int,
        gamma: float,
        device: torch.device | None = None,
    ) -> None:
        # row i holds the step of i control steps ago
        self._observation = torch.zeros(n_steps, num_envs, observation_dim, device=device)
        self._residual = torch.zeros(n_steps, num_envs, action_dim, device=device)
        self._reward = torch.zeros(n_steps, num_envs, device=device)
        self._waiting = torch.zeros(n_steps, num_envs, dtype=torch.bool, device=device)
        self._discount = gamma ** torch.arange(n_steps + 1, dtype=torch.float32, device=device)

    def push(
        self,
        observation: Tensor,
        residual: Tensor,
        reward: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        next_observation: Tensor,
    ) -> Transitions:
        """Take one step of every world, and give back the transitions that are complete with it.

        Args:
          observation: ``(n, D)`` before the step.
          residual: ``(n, A)`` executed.
          reward: ``(n,)``.
          terminated: ``(n,)`` bool, the episode ended with the task.
          truncated: ``(n,)`` bool, the episode ended with its time.
          next_observation: ``(n, D)`` after the step and before any reset.
        """
        for queue, newest in ((self._observation, observation), (self._residual, residual), (self._reward, 0.0)):
            queue.copy_(queue.roll(1, dims=0))
            queue[0] = newest
        self._waiting.copy_(self._waiting.roll(1, dims=0))
        self._waiting[0] = True
        self._reward += self._discount[:-1, None] * reward
        complete = self._waiting & (terminated | truncated)
        complete[-1] |= self._waiting[-1]
        self._waiting &= ~complete
        age, world = complete.nonzero(as_tuple=True)
        return Transitions(
            observation=self._observation[age, world],
            residual=self._residual[age, world],
            reward=self._reward[age, world],
            discount=self._discount[age + 1] * ~terminated[world],
            next_observation=next_observation[world],
        )

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs; the tensors are the queue's own."""
        return {
            "observation": self._observation,
            "residual": self._residual,
            "reward": self._reward,
            "waiting": self._waiting,
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Invert `state`."""
        for name, own in self.state().items():
            own.copy_(state[name])


def episode_transitions(
    observation: Tensor, residual: Tensor, reward: Tensor, n_steps: int, gamma: float
) -> Transitions:
    """The transitions of one episode that ended with the task; rows are its T steps, ``reward`` is ``(T,)``."""
    queue = NStepQueue(1, observation.shape[1], residual.shape[1], n_steps, gamma)
    no, yes = torch.tensor([False]), torch.tensor([True])
    last = len(reward) - 1
    pieces = []
    for t in range(last + 1):
        row, following = slice(t, t + 1), [min(t + 1, last)]  # what follows the end has no weight
        step = (observation[row], residual[row], reward[row], yes if t == last else no, no, observation[following])
        pieces.append(queue.push(*step))
    return Transitions.joined(pieces)


class ReplayBuffer:
    """The last ``capacity`` transitions, in rows of one table: a batch is one gather.

    Args:
      capacity: rows; their memory is touched only as they fill.
      observation_dim: length of an observation.
      action_dim: length of a residual.
      device: of the transitions; None is the CPU.
    """

    def __init__(
        self, capacity: int, observation_dim: int, action_dim: int, device: torch.device | None = None
    ) -> None:
        self.capacity = capacity
        self._widths = [observation_dim, action_dim, 1, 1, observation_dim]
        self._rows = torch.empty(capacity, sum(self._widths), device=device)
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self.capacity)

    @property
    def rows(self) -> Tensor:
        """What is kept; `unpack` it."""
        return self._rows[: len(self)]

    def add(self, transitions: Transitions) -> None:
        """Keep ``transitions``, in the place of the oldest ones where the buffer is full.

        Raises:
          ResipError: when they are more than the buffer can hold.
        """
        if len(transitions) > self.capacity:
            raise ResipError(f"{len(transitions)} transitions at once do not fit a buffer of {self.capacity}")
        place = (self._added + torch.arange(len(transitions), device=self._rows.device)) % self.capacity
        self._rows[place] = torch.cat(
            [
                transitions.observation,
                transitions.residual,
                transitions.reward.unsqueeze(-1),
                transitions.discount.unsqueeze(-1),
                transitions.next_observation,
            ],
            dim=-1,
        ).to(self._rows.device)
        self._added += len(transitions)

    def sample(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw ``batch_size`` rows with replacement; `unpack` them, joined with others' if need be."""
        return self._rows[torch.randint(len(self), (batch_size,), generator=generator, device=self._rows.device)]

    def unpack(self, rows: Tensor) -> Transitions:
        """The transitions of rows of this buffer, or of an equally wide one."""
        observation, residual, reward, discount, next_observation = rows.split(self._widths, dim=-1)
        return Transitions(observation, residual, reward.squeeze(-1), discount.squeeze(-1), next_observation)

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs; the rows are the buffer's own."""
        return {"rows": self.rows, "added": torch.tensor(self._added)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Invert `state`, of a buffer of the same capacity."""
        self._rows[: len(state["rows"])] = state["rows"]
        self._added = int(state["added"])
