"""Worlds act from chunks of their own, and go on with them after a restart."""

from __future__ import annotations

import torch
from resip_training.models.diffusion import DiffusionBase, DiffusionConfig
from resip_training.rollout.chunks import ChunkedBase

WORLDS, OBSERVATION_DIM = 3, 30


def base() -> DiffusionBase:
    torch.manual_seed(0)
    config = DiffusionConfig(width=16, blocks=1, prediction_horizon=4, action_horizon=2, inference_steps=2)
    return DiffusionBase(config, OBSERVATION_DIM, range(OBSERVATION_DIM))


def actions(chunks: ChunkedBase, steps: int) -> torch.Tensor:
    seen = torch.randn(WORLDS, OBSERVATION_DIM, generator=torch.Generator().manual_seed(0))
    out = []
    for _ in range(steps):
        out.append(chunks.action(seen).clone())
        chunks.advance()
    return torch.stack(out)


def test_worlds_that_are_put_back_plan_what_they_would_have_planned() -> None:
    straight, resumed = ChunkedBase(base(), WORLDS), ChunkedBase(base(), WORLDS)
    straight.start(torch.ones(WORLDS, dtype=torch.bool), [5, 6, 7])
    actions(straight, 3)
    resumed.load_state(straight.state())
    assert torch.equal(actions(resumed, 5), actions(straight, 5))
