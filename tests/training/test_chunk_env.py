"""Chunks as actions: what they pay, where episodes end, and that each world goes its own way."""

from __future__ import annotations

import numpy as np
import torch
from resip import spaces
from resip_training.rollout.chunk_env import ChunkEnv
from resip_training.rollout.episodes import observe
from resip_training.rollout.starts import Starts
from resip_training.sim.env import AssemblyEnv
from toy_cell import CHUNK, HOLE, SECOND_HOLE, ToyCell, chunk_env, chunk_to


def test_an_episode_does_not_end_at_the_first_of_two_rewards() -> None:
    env = chunk_env(ToyCell(1, holes=2))
    first = env.step(chunk_to(env.observation[:, HOLE]))
    assert (first.reward.item(), first.ended.item(), first.success.item()) == (1.0, False, False)
    second = env.step(chunk_to(env.observation[:, SECOND_HOLE]))
    assert (second.reward.item(), second.terminated.item(), second.success.item()) == (1.0, True, True)


def test_a_chunk_is_worth_the_sum_of_its_rewards() -> None:
    env = chunk_env(ToyCell(1, holes=2))
    point, hole, second = (env.observation[:, where] for where in (slice(0, 2), HOLE, SECOND_HOLE))
    there = 2 * hole - point  # half the way to there is the hole
    on = 2 * second - hole
    step = env.step(chunk_to(torch.stack([there, on, second, second], dim=1)))
    assert (step.reward.item(), step.success.item()) == (2.0, True)


def test_what_happens_in_a_chunk_after_its_episode_ended_counts_for_nothing() -> None:
    cell = ToyCell(1, trap=True)
    env = chunk_env(cell)
    point, hole = env.observation[:, :2], env.observation[:, HOLE]
    step = env.step(chunk_to(torch.stack([2 * hole - point, -3 * hole, -hole, hole], dim=1)))
    assert (step.reward.item(), step.terminated.item(), step.success.item()) == (1.0, True, True)
    torch.testing.assert_close(step.next_observation[:, :2], hole)


def test_a_trap_ends_the_episode_and_what_is_reached_later_in_the_chunk_pays_nothing() -> None:
    env = chunk_env(ToyCell(1, trap=True))
    point, hole = env.observation[:, :2], env.observation[:, HOLE]
    step = env.step(chunk_to(torch.stack([-2 * hole - point, 3 * hole, hole, hole], dim=1)))
    assert (step.reward.item(), step.terminated.item(), step.success.item()) == (0.0, True, False)


def test_time_that_runs_out_inside_a_chunk_cuts_there_and_is_no_end() -> None:
    env = chunk_env(ToyCell(1), episode_steps=6)
    start = env.observation[:, :2]
    away = torch.tensor([[0.0, -1.0]])
    assert not env.step(chunk_to(away)).ended
    step = env.step(chunk_to(away))
    assert (step.truncated.item(), step.terminated.item()) == (True, False)
    torch.testing.assert_close(step.next_observation[:, :2], away + (start - away) / 2**6)


def test_worlds_start_again_one_by_one() -> None:
    env = chunk_env(ToyCell(2))
    target = env.observation[:, HOLE].clone()
    target[1] = torch.tensor([0.0, -0.3])  # the second world's episode goes on
    step = env.step(chunk_to(target))
    assert step.ended.tolist() == [True, False]
    assert (env.observation[0, :2] - env.observation[0, HOLE]).norm() > 0.3, "another episode has begun"
    assert torch.equal(env.observation[1], step.next_observation[1])
    for _ in range(3):  # 16 steps after its beginning, and not before, the second one is out of time
        target[0] = env.observation[0, :2]
        step = env.step(chunk_to(target))
    assert step.truncated.tolist() == [False, True]


def test_a_chunk_does_what_its_actions_do_one_by_one() -> None:
    env, alone = chunk_env(ToyCell(3), seed=1), ToyCell(3)
    every = np.ones(3, dtype=bool)
    seen = observe(alone.reset(seed=Starts(3, 1).draw(every).seeds, options={"reset_mask": every})[0])
    assert torch.equal(env.observation, seen)
    chunk = chunk_to(0.2 * torch.randn(3, CHUNK, 2, generator=torch.Generator().manual_seed(0)))
    step = env.step(chunk)
    for i in range(CHUNK):
        seen = observe(alone.step(chunk[:, i].double().numpy())[0])
    assert torch.equal(step.next_observation, seen)


def test_a_resumed_run_goes_on_as_the_one_that_was_not_stopped() -> None:
    env, other = (chunk_env(ToyCell(4), seed=2) for _ in range(2))
    target = torch.tensor([0.5, 0.0]).expand(4, 2)
    for _ in range(6):  # episodes end
        env.step(chunk_to(target))
    other.load_state(env.state())
    for _ in range(6):
        a, b = env.step(chunk_to(target)), other.step(chunk_to(target))
        assert torch.equal(a.next_observation, b.next_observation)
        assert torch.equal(env.observation, other.observation)


def test_in_physics_chunks_are_executed_and_resumed() -> None:
    env, other = _physics(), _physics()
    assert env.observation.shape == (2, spaces.STATE_DIM + 3 * spaces.PART_POSE_DIM)
    down = env.observation[:, : spaces.STATE_ROT6D.stop].clone()
    down[:, 2] -= 0.03
    chunk = torch.cat([down, torch.ones(2, 1)], dim=-1).unsqueeze(1).expand(-1, 8, -1)
    step = env.step(chunk)
    assert (step.next_observation[:, 2] < down[:, 2] + 0.015).all(), "more than half the way down"
    other.load_state(env.state())
    a, b = env.step(chunk), other.step(chunk)
    assert torch.equal(a.next_observation, b.next_observation)
    assert a.truncated.all()  # after 12 steps
    assert torch.equal(env.observation, other.observation)


def _physics() -> ChunkEnv:
    env = AssemblyEnv("peg_hole", 2, "low", threads=1)
    return ChunkEnv(env, 8, Starts(2, seed=0), episode_steps=12)
