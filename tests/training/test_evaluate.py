"""Closed-loop evaluation: what is asked of a policy, and what is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from resip_training.evaluate import run_episodes
from resip_training.sim import tasks
from torch import Tensor

HORIZONS = {"prediction": 32, "action": 8}
STEPS = 20


class Holder:
    """A policy that stays where it is, and remembers what it was asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, robot_state: Tensor, front: Tensor, wrist: Tensor, noise: Tensor) -> Tensor:
        self.batches.append(len(robot_state))
        assert front.shape == wrist.shape == (len(robot_state), 240, 320, 3)
        assert noise.shape == (len(robot_state), 32, 10)
        held = torch.cat([robot_state[:, :9], -torch.ones(len(robot_state), 1)], dim=-1)
        return held.unsqueeze(1).repeat(1, 32, 1)


def use_task(monkeypatch: pytest.MonkeyPatch, tolerance_m: float) -> None:
    """A one_leg of 20 steps, whose parts may stand ``tolerance_m`` off."""
    original = tasks.get("one_leg")
    relation = replace(original.relations[0], tolerance_m=tolerance_m, min_cosine=-2.0)
    changed = replace(original, relations=(relation,), max_steps=STEPS)
    monkeypatch.setattr(tasks, "get", lambda name: changed)


def test_a_policy_is_asked_once_a_chunk_and_fails_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    use_task(monkeypatch, tolerance_m=0.005)
    policy = Holder()
    assert run_episodes(policy, "one_leg", "low", [3, 4], HORIZONS, threads=1) == [False, False]
    assert policy.batches == [2, 2, 2]


def test_an_episode_that_succeeded_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    use_task(monkeypatch, tolerance_m=10.0)
    policy = Holder()
    assert run_episodes(policy, "one_leg", "low", [3, 4], HORIZONS, threads=1) == [True, True]
    assert policy.batches == [2]
