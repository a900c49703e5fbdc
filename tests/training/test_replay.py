"""n-step transitions are those worked out by hand, and the buffer keeps the newest."""

from __future__ import annotations

import pytest
import torch
from resip.errors import ResipError
from resip_training.algorithms.replay import NStepQueue, ReplayBuffer, Transitions
from torch import Tensor

GAMMA = 0.5


def push(
    queue: NStepQueue, seen: float, reward: float, following: float, terminated: bool = False, truncated: bool = False
) -> Transitions:
    """One step of one world whose observation, and residual, is one number."""
    return queue.push(
        torch.tensor([[seen]]),
        torch.tensor([[10 * seen]]),
        torch.tensor([reward]),
        torch.tensor([terminated]),
        torch.tensor([truncated]),
        torch.tensor([[following]]),
    )


def by_start(transitions: Transitions) -> dict[float, tuple[float, float, float, float]]:
    """Residual, reward, discount and next observation of each, by its observation."""
    columns = (transitions.residual, transitions.reward, transitions.discount, transitions.next_observation)
    rows = zip(*(column.flatten().tolist() for column in columns), strict=True)
    return dict(zip(transitions.observation.flatten().tolist(), rows, strict=True))


def numbered(numbers: list[float]) -> Transitions:
    column = torch.tensor(numbers, dtype=torch.float32)
    return Transitions(column.unsqueeze(-1), column.unsqueeze(-1), column, column, column.unsqueeze(-1))


def kept(buffer: ReplayBuffer) -> list[float]:
    return sorted(buffer.unpack(buffer.rows).reward.tolist())


def test_a_return_is_complete_after_n_steps() -> None:
    queue = NStepQueue(1, 1, 1, n_steps=3, gamma=GAMMA)
    assert len(push(queue, seen=0, reward=1, following=1)) == 0
    assert len(push(queue, seen=1, reward=2, following=2)) == 0
    # from 0: 1 + 0.5 * 2 + 0.25 * 4 = 3, then the value of 3 at weight 0.5^3
    assert by_start(push(queue, seen=2, reward=4, following=3)) == {0: (0, 3, 0.125, 3)}
    # from 1: 2 + 0.5 * 4 + 0.25 * 8 = 6
    assert by_start(push(queue, seen=3, reward=8, following=4)) == {1: (10, 6, 0.125, 4)}


def test_termination_completes_all_and_cuts_the_future() -> None:
    queue = NStepQueue(1, 1, 1, n_steps=3, gamma=GAMMA)
    push(queue, seen=0, reward=0, following=1)
    ended = by_start(push(queue, seen=1, reward=1, following=9, terminated=True))
    assert ended == {0: (0, 0.5, 0, 9), 1: (10, 1, 0, 9)}


def test_truncation_completes_all_and_bootstraps_from_where_the_episode_was_cut() -> None:
    queue = NStepQueue(1, 1, 1, n_steps=3, gamma=GAMMA)
    push(queue, seen=0, reward=0, following=1)
    ended = by_start(push(queue, seen=1, reward=1, following=9, truncated=True))
    assert ended == {0: (0, 0.5, 0.25, 9), 1: (10, 1, 0.5, 9)}


def test_no_return_reaches_into_the_next_episode() -> None:
    queue = NStepQueue(1, 1, 1, n_steps=2, gamma=GAMMA)
    push(queue, seen=0, reward=1, following=9, terminated=True)
    assert len(push(queue, seen=5, reward=0, following=6)) == 0
    assert by_start(push(queue, seen=6, reward=4, following=7)) == {5: (50, 2, 0.25, 7)}


def test_worlds_end_singly() -> None:
    queue = NStepQueue(2, 1, 1, n_steps=2, gamma=GAMMA)
    no, first = torch.tensor([False, False]), torch.tensor([True, False])

    def step(seen: Tensor, terminated: Tensor) -> Transitions:
        return queue.push(seen, seen, torch.ones(2), terminated, no, seen + 1)

    assert by_start(step(torch.tensor([[0.0], [100.0]]), first)) == {0: (0, 1, 0, 1)}
    assert by_start(step(torch.tensor([[5.0], [101.0]]), no)) == {100: (100, 1.5, 0.25, 102)}


def test_the_buffer_forgets_the_oldest() -> None:
    buffer = ReplayBuffer(4, 1, 1)
    buffer.add(numbered([1, 2, 3]))
    assert kept(buffer) == [1, 2, 3]
    buffer.add(numbered([4, 5, 6]))
    assert kept(buffer) == [3, 4, 5, 6]


def test_what_is_sampled_was_added() -> None:
    buffer = ReplayBuffer(100, 1, 1)
    buffer.add(numbered([7, 8]))
    sampled = buffer.unpack(buffer.sample(64, torch.Generator().manual_seed(0)))
    assert set(sampled.reward.tolist()) == {7, 8}
    assert torch.equal(sampled.observation, sampled.next_observation)
    assert torch.equal(sampled.residual.squeeze(-1), sampled.discount)


def test_a_buffer_put_back_goes_on_at_the_same_place() -> None:
    buffer, other = ReplayBuffer(3, 1, 1), ReplayBuffer(3, 1, 1)
    buffer.add(numbered([1, 2, 3]))
    buffer.add(numbered([4]))
    other.load_state({name: value.clone() for name, value in buffer.state().items()})
    for each in (buffer, other):
        each.add(numbered([5]))
    assert kept(buffer) == kept(other) == [3, 4, 5]


def test_more_at_once_than_fits_is_refused() -> None:
    with pytest.raises(ResipError, match="3 transitions at once do not fit a buffer of 2"):
        ReplayBuffer(2, 1, 1).add(numbered([1, 2, 3]))
