"""What runs on a GPU, on Warp's CPU device: it starts, moves, pays and fails as the CPU's MuJoCo does.

The first run on a machine compiles for half a minute or so.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch
from resip import arrays, rotation, spaces
from resip.errors import ResipError
from resip_training.experts import motion, one_leg
from resip_training.experts.rollout import run_expert
from resip_training.sim import tasks, warp_worlds
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.worlds import Worlds

pytestmark = pytest.mark.timeout(600)


def hold(observation: dict) -> np.ndarray:
    """Actions that ask every arm to stay where it is, gripper open."""
    state = arrays.to_host(observation["robot_state"])
    return np.concatenate([state[:, :9], np.full((len(state), 1), spaces.GRIPPER_OPEN)], axis=1)


@pytest.fixture(scope="module")
def cpu() -> AssemblyEnv:
    return AssemblyEnv("one_leg", num_envs=2, threads=1)


@pytest.fixture(scope="module")
def env() -> AssemblyEnv:
    return AssemblyEnv("one_leg", num_envs=2, device="warp-cpu", threads=1)


def assert_same(given, wanted, atol=1e-6):
    assert isinstance(given, torch.Tensor)
    np.testing.assert_allclose(given.numpy(), wanted, rtol=0.0, atol=atol)


def test_a_seed_gives_the_start_that_it_gives_on_the_cpu(cpu: AssemblyEnv, env: AssemblyEnv) -> None:
    (wanted, _), (given, _) = cpu.reset(seed=[7, 8]), env.reset(seed=[7, 8])
    assert given.keys() == wanted.keys()
    for name, values in wanted.items():
        assert given[name].dtype == torch.float64
        assert_same(given[name], values)


def test_the_experts_actions_lead_to_the_same_states_for_40_control_steps(cpu: AssemblyEnv, env: AssemblyEnv) -> None:
    """Over the approach and the grasp: the arm's drive, the fingers, contact of fingers, part and table."""
    seen, _ = cpu.reset(seed=0)
    env.reset(seed=0)
    for _ in range(40):
        actions = np.array(
            [
                one_leg.act(motion.unpack(seen["robot_state"][i], seen["part_poses"][i], cpu.task.part_names))
                for i in range(cpu.num_envs)
            ]
        )
        seen, *_ = cpu.step(actions)
        given, *_ = env.step(actions)
        assert_same(env.worlds.qpos, cpu.worlds.qpos, atol=1e-3)
    assert (seen["robot_state"][:, 15] < 0.06).all(), "the hand has closed on the part"
    assert_same(given["robot_state"][:, :9], seen["robot_state"][:, :9], atol=1e-3)
    assert 0.0 < env.worlds.deepest_contact_m().max() < 0.003


def put_together(env: AssemblyEnv) -> None:
    """Put world 0's leg into the top's hole, screwed in."""
    top = arrays.to_host(env.part_poses())[0, 0]
    matrix = rotation.matrix_from_quat(top[3:])
    peg_in_the_middle = env.task.relations[0].target_positions_m[0] + [0.0, 0.0, 0.0006175]
    tight = rotation.quat_from_matrix(matrix @ rotation.matrix_from_rotvec([0.0, np.deg2rad(-8.0), 0.0]))
    leg = env.worlds.model.joint("square_table_leg4").qposadr[0]
    pose = np.concatenate([top[:3] + matrix @ peg_in_the_middle, tight[[3, 0, 1, 2]]])
    env.worlds.qpos[0, leg : leg + 7] = arrays.like(pose, env.worlds.qpos)


def test_rewards_ends_and_latches_are_those_of_the_cpu(cpu: AssemblyEnv, env: AssemblyEnv) -> None:
    for each in (cpu, env):
        observation, _ = each.reset(seed=6)
        put_together(each)
        leg = each.worlds.model.joint("square_table_leg2").qposadr[0]
        each.worlds.qpos[1, leg + 1] = 0.6  # beside the table
        outcomes = [each.step(hold(observation)) for _ in range(4)]
        told = [
            [arrays.to_host(values).tolist() for values in (reward, ended, late, info["success"], info["fallen"])]
            for _, reward, ended, late, info in outcomes
        ]
        assert told[0] == [[1.0, 0.0], [True, False], [False, False], [True, False], [False, False]]
        assert told[-1] == [[0.0, 0.0], [True, True], [False, False], [True, False], [False, True]]
        observation, _ = each.reset(seed=[9, None], options={"reset_mask": np.array([True, False])})
        _, _, ended, _, info = each.step(hold(observation))
        assert arrays.to_host(ended).tolist() == [False, True]
        assert not info["success"].any()


def test_other_environments_do_not_notice_a_reset(env: AssemblyEnv) -> None:
    env.reset(seed=3)
    before = env.part_poses(), env.robot_state()
    env.reset(seed=[99, 99], options={"reset_mask": torch.tensor([True, False])})
    assert torch.equal(env.part_poses()[1], before[0][1])
    assert torch.equal(env.robot_state()[1], before[1][1])
    assert not torch.allclose(env.part_poses()[0], before[0][0])


def test_seeds_that_are_not_given_are_drawn_from_the_starts_that_there_are(
    env: AssemblyEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warp_worlds, "AUTOMATIC_STARTS", 2)
    known = torch.stack([env.reset(seed=seed)[0]["part_poses"][0] for seed in (3, 4, 6, 7, 8, 9, 99)])
    monkeypatch.setattr(Worlds, "reset", lambda *_: pytest.fail("the CPU has settled a start"))
    for _ in range(5):
        drawn = env.reset(options={"reset_mask": torch.tensor([True, False])})[0]["part_poses"][0]
        assert drawn.isfinite().all()
        env.step(hold(env.reset(seed=[3, None])[0]))
    assert len(known.unique(dim=0)) == 7


def test_a_state_that_is_no_number_ends_its_episode_and_no_others(env: AssemblyEnv) -> None:
    observation, _ = env.reset(seed=3)
    spinning = env.worlds.model.joint("square_table_leg2").dofadr[0]
    env.worlds.qvel[1, spinning] = 1e30
    seen, _, terminated, _, info = env.step(hold(observation))
    assert terminated.tolist() == info["diverged"].tolist() == [False, True]
    assert all(values.isfinite().all() for values in seen.values())
    no_rotation = hold(env.reset(seed=3)[0])
    no_rotation[0, 3:9] = 0.0
    _, _, _, _, info = env.step(no_rotation)
    assert info["diverged"].tolist() == [True, False]
    observation, _ = env.reset(seed=3)
    assert not env.step(hold(observation))[2].any()


def test_pushes_are_those_of_the_cpu() -> None:
    level = tasks.randomness(tasks.get("one_leg"), "low")
    cpu = Worlds(tasks.get("one_leg"), 2, level, pushes=0.2)
    worlds = warp_worlds.WarpWorlds(tasks.get("one_leg"), 2, level, "cpu", threads=1, pushes=0.2)
    both = np.array([True, True])
    for each in (cpu, worlds):
        each.reset(both, [5, 6])
    start, state = cpu.part_poses(), cpu.robot_state()
    still = np.concatenate([state[:, :9], -np.ones((2, 1))], axis=1)
    for _ in range(3):
        for each in (cpu, worlds):
            each.push()
            each.step(still)
    assert_same(worlds.part_poses(), cpu.part_poses(), atol=1e-4)
    assert np.abs(cpu.part_poses() - start)[..., :2].max() > 1e-3, "parts were pushed"


def test_a_held_part_stays_until_the_hand_is_near() -> None:
    task = dataclasses.replace(tasks.get("one_leg"), held_part="square_table_leg4")
    worlds = warp_worlds.WarpWorlds(task, 2, tasks.randomness(task, "low"), "cpu", threads=1)
    worlds.reset(np.array([True, True]), [0, 1])
    leg = slice(*(worlds.model.joint("square_table_leg4").dofadr[0] + [0, 3]))
    at = slice(*(worlds.model.joint("square_table_leg4").qposadr[0] + [0, 3]))
    state = worlds.robot_state()
    worlds.qpos[1, at] = state[1, :3].float() - torch.tensor([0.0, 0.0, 0.025])  # under the fingertips
    before = worlds.qpos[:, at].clone()
    worlds.qvel[:, leg] += torch.tensor([0.2, 0.0, 0.0])
    worlds.step(torch.cat([state[:, :9], -torch.ones(2, 1)], dim=1))
    moved_m = (worlds.qpos[:, at] - before).norm(dim=1)
    assert moved_m[0] < 3e-4
    assert moved_m[1] > 0.01


def test_contacts_that_find_no_room_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warp_worlds, "CONTACTS_PER_WORLD", 8)
    env = AssemblyEnv("one_leg", device="warp-cpu", threads=1)
    observation, _ = env.reset(seed=3)
    env.step(hold(observation))
    with pytest.raises(ResipError, match="CONTACTS_PER_WORLD"):
        env.step(hold(observation))


def test_the_expert_assembles() -> None:
    (episode,) = run_expert("one_leg", "low", [0], device="warp-cpu", threads=1)
    assert episode.success
    assert episode.reward.sum() == 1.0


def test_without_a_gpu_or_its_packages_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResipError, match="choose from cpu, cuda, warp-cpu"):
        AssemblyEnv("one_leg", device="gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResipError, match="sees no GPU; use --device cpu"):
        AssemblyEnv("one_leg", device="cuda")
    monkeypatch.delitem(sys.modules, "resip_training.sim.warp_worlds")
    monkeypatch.delattr("resip_training.sim.warp_worlds")
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    with pytest.raises(ResipError, match=r"training\[gpu\]"):
        AssemblyEnv("one_leg", device="cuda")
