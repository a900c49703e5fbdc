"""Advantages over rollouts, worked out by hand."""

from __future__ import annotations

import torch
from resip_training.algorithms.gae import advantages
from torch import Tensor

GAMMA, LAMBDA = 0.5, 0.5


def column(*values: float) -> Tensor:
    return torch.tensor(values).unsqueeze(1)


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool).unsqueeze(1)


def test_errors_are_carried_back_through_an_episode():
    # errors: 0 + .5 * 4 - 2 = 0 and 1 + .5 * 2 - 4 = -2; the first step gets 0 + .25 * -2 = -.5
    result = advantages(column(0, 1), column(2, 4), column(4, 2), flags(0, 0), flags(0, 0), GAMMA, LAMBDA)
    torch.testing.assert_close(result, column(-0.5, -2.0))


def test_an_episode_that_terminated_is_worth_nothing_afterwards():
    # the second step's error is 1 - 4, whatever the critic says of what followed; the third starts afresh
    result = advantages(
        column(0, 1, 0), column(2, 4, 1), column(4, 9, 2), flags(0, 1, 0), flags(0, 1, 0), GAMMA, LAMBDA
    )
    torch.testing.assert_close(result, column(0 + 0.25 * -3, -3.0, 0.0))


def test_an_episode_that_was_cut_is_worth_what_the_critic_says_of_where_it_was_cut():
    # 0 + .5 * 8 - 4 = 0, not -4; nothing of the next episode's -2 is carried into it
    result = advantages(column(0, 0), column(4, 4), column(8, 4), flags(0, 0), flags(1, 0), GAMMA, LAMBDA)
    torch.testing.assert_close(result, column(0.0, -2.0))


def test_worlds_do_not_mix():
    reward = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    zeros, no = torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool)
    result = advantages(reward, zeros, zeros, no, no, GAMMA, LAMBDA)
    torch.testing.assert_close(result, torch.tensor([[0.25, 1.0], [1.0, 0.0]]))
