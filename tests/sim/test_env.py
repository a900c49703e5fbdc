"""The training environment: physics at rest, seeds, resets, rewards."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mujoco
import numpy as np
import pytest
from resip import rotation, spaces
from resip.control import panda
from resip.errors import ResipError
from resip_training.sim import task, tasks, worlds
from resip_training.sim.env import PUSH_CHANCE, AssemblyEnv, replay_divergence
from resip_training.sim.worlds import Worlds


def hold(env: AssemblyEnv, state: np.ndarray) -> np.ndarray:
    """Actions that ask every arm to stay where ``state`` says, gripper open."""
    return np.concatenate([state[:, :9], np.full((env.num_envs, 1), spaces.GRIPPER_OPEN)], axis=1)


@pytest.fixture(scope="module")
def env() -> AssemblyEnv:
    return AssemblyEnv("one_leg", num_envs=4)


def test_the_scene_has_the_contracts_fingertip(env: AssemblyEnv) -> None:
    env.reset(seed=0)
    data = env.worlds.posed(0)
    pose = panda.ee_pose(env.joint_positions()[0])
    np.testing.assert_allclose(data.site("ee").xpos, pose.position, atol=1e-6)
    np.testing.assert_allclose(data.site("ee").xmat.reshape(3, 3), pose.matrix, atol=1e-6)


def test_parts_weigh_what_the_real_ones_weigh(env: AssemblyEnv) -> None:
    for placed in env.task.parts:
        assert env.worlds.model.body(placed.name).mass[0] == pytest.approx(placed.part.mass_kg, rel=1e-6)


def test_a_seed_gives_the_same_episode_whatever_the_batch(env: AssemblyEnv) -> None:
    alone = AssemblyEnv("one_leg", num_envs=1)
    (together, _), (single, _) = env.reset(seed=[7, 8, 9, 10]), alone.reset(seed=9)
    for _ in range(5):
        action = hold(env, together["robot_state"])
        action[:, 0] += 0.03
        together = env.step(action)[0]
        single = alone.step(action[2:3])[0]
    for name, values in single.items():
        np.testing.assert_array_equal(together[name][2], values[0])


def test_a_seed_gives_the_same_episode_in_worlds_that_were_used_before() -> None:
    fresh, used = AssemblyEnv("one_leg", num_envs=2, threads=1), AssemblyEnv("one_leg", num_envs=2, threads=2)
    observation, _ = used.reset(seed=1)
    used.worlds.qvel[0, panda.DOF + 2 :] += 0.1
    used.step(hold(used, observation["robot_state"]))
    (again, _), (first, _) = used.reset(seed=7), fresh.reset(seed=7)
    for _ in range(5):
        action = hold(fresh, first["robot_state"])
        first, again = fresh.step(action)[0], used.step(action)[0]
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values)


def test_other_environments_do_not_notice_a_reset(env: AssemblyEnv) -> None:
    env.reset(seed=0)
    before = env.part_poses(), env.robot_state()
    env.reset(seed=[99] * 4, options={"reset_mask": np.array([True, False, False, False])})
    np.testing.assert_array_equal(env.part_poses()[1:], before[0][1:])
    np.testing.assert_array_equal(env.robot_state()[1:], before[1][1:])
    assert not np.allclose(env.part_poses()[0], before[0][0])


def test_low_randomness_stays_within_its_definition() -> None:
    """95 % of the displacements within 1.5 cm and 15 degrees, obstacle within 2 cm, joints within 5 degrees."""
    env = AssemblyEnv("one_leg", num_envs=256, threads=2)
    env.reset(seed=31_000)
    offset = env.part_poses() - env.nominal_poses
    parts = offset[:, :-1]
    distance_m = np.linalg.norm(parts[..., :2], axis=-1)
    angle_rad = rotation.angle_between(
        rotation.matrix_from_quat(env.part_poses()[:, :-1, 3:]),
        rotation.matrix_from_quat(np.broadcast_to(env.nominal_poses[:-1, 3:], (256, 5, 4))),
    )
    assert np.quantile(distance_m, 0.95) <= 0.015
    assert np.quantile(angle_rad, 0.95) <= np.deg2rad(15.0)
    assert np.quantile(distance_m, 0.95) > 0.012, "the level must not be easier than its definition either"
    assert np.abs(offset[:, -1, :2]).max() <= 0.02
    assert np.abs(env.joint_positions() - panda.RESET_RAD).max() <= np.deg2rad(5.0) + 1e-4
    assert np.abs(parts[..., 2]).max() < 1e-4, "every part lies on the table"


def test_nothing_moves_at_rest_and_energy_does_not_grow(env: AssemblyEnv) -> None:
    observation, _ = env.reset(seed=3)
    action = hold(env, observation["robot_state"])
    parts_velocity = env.worlds.qvel[:, panda.DOF + 2 :]
    energies = []
    for _ in range(20):
        now = env.step(action)[0]
        energies.append(float(np.sum(parts_velocity**2)))
    np.testing.assert_allclose(now["part_poses"], observation["part_poses"], atol=1e-4)
    np.testing.assert_allclose(now["robot_state"][:, :3], observation["robot_state"][:, :3], atol=1e-4)
    assert max(energies) < 1e-6


def test_the_gravity_compensated_arm_reaches_what_it_is_told(env: AssemblyEnv) -> None:
    observation, _ = env.reset(seed=4)
    action = hold(env, observation["robot_state"])
    action[:, :3] += [0.04, -0.03, 0.05]
    for _ in range(15):
        now = env.step(action)[0]
    assert np.linalg.norm(now["robot_state"][:, :3] - action[:, :3], axis=1).max() < 0.001
    reached = rotation.matrix_from_rot6d(now["robot_state"][:, 3:9])
    assert rotation.angle_between(reached, rotation.matrix_from_rot6d(action[:, 3:9])).max() < np.deg2rad(0.5)


def test_targets_outside_the_workspace_are_clipped(env: AssemblyEnv) -> None:
    observation, _ = env.reset(seed=5)
    action = hold(env, observation["robot_state"])
    action[:, 2] = -0.5
    for _ in range(25):
        now = env.step(action)[0]
    assert now["robot_state"][:, 2].min() > -0.012


def test_a_part_that_leaves_the_table_ends_the_episode(env: AssemblyEnv) -> None:
    observation, _ = env.reset(seed=6)
    leg = env.worlds.model.joint("square_table_leg2").qposadr[0]
    env.worlds.qpos[1, leg : leg + 3] = (0.3, 0.6, 0.1)
    for _ in range(8):
        _, reward, terminated, _, info = env.step(hold(env, observation["robot_state"]))
    assert terminated.tolist() == [False, True, False, False]
    assert info["fallen"][1]
    assert not info["success"].any()
    assert reward[1] == 0.0


def test_an_assembled_pair_pays_once_and_ends_the_episode(env: AssemblyEnv) -> None:
    observation, _ = env.reset(seed=6)
    relation = env.task.relations[0]
    top = env.part_poses()[0, 0]
    matrix = rotation.matrix_from_quat(top[3:])
    peg_in_the_middle = relation.target_positions_m[0] + [0.0, 0.0, 0.0006175]
    tight = rotation.quat_from_matrix(matrix @ rotation.matrix_from_rotvec([0.0, np.deg2rad(-8.0), 0.0]))
    leg = env.worlds.model.joint("square_table_leg4").qposadr[0]
    env.worlds.qpos[0, leg : leg + 3] = top[:3] + matrix @ peg_in_the_middle
    env.worlds.qpos[0, leg + 3 : leg + 7] = tight[[3, 0, 1, 2]]
    _, reward, terminated, _, info = env.step(hold(env, observation["robot_state"]))
    assert reward.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert terminated[0]
    assert info["success"][0]
    assert env.step(hold(env, observation["robot_state"]))[1][0] == 0.0


def test_an_episode_is_truncated_after_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    env = AssemblyEnv("one_leg", num_envs=1)
    monkeypatch.setattr(env, "task", task.Task(**{**vars(tasks.ONE_LEG), "max_steps": 3}))
    observation, _ = env.reset(seed=0)
    truncated = [bool(env.step(hold(env, observation["robot_state"]))[3][0]) for _ in range(3)]
    assert truncated == [False, False, True]


@pytest.mark.parametrize(
    ("task", "level", "named"), [("two_legs", "low", "one_leg"), ("one_leg", "extreme", "low")], ids=["task", "level"]
)
def test_unknown_names_list_the_valid_ones(task: str, level: str, named: str) -> None:
    with pytest.raises(ResipError, match=named):
        AssemblyEnv(task, randomness=level)


def test_a_control_step_is_a_tenth_of_a_second(env: AssemblyEnv) -> None:
    observation, _ = env.reset(seed=0)
    before = env.worlds.batch.bind("time").copy()
    env.step(hold(env, observation["robot_state"]))
    np.testing.assert_allclose(env.worlds.batch.bind("time") - before, spaces.CONTROL_PERIOD_S)
    assert env.worlds.model.opt.timestep == env.task.timestep_s


def test_observations_are_chosen_by_name() -> None:
    env = AssemblyEnv("one_leg", observe=["part_poses"])
    observation, _ = env.reset(seed=0)
    assert set(observation) == {"part_poses"} == set(env.single_observation_space.keys())
    with pytest.raises(ResipError, match="robot_state"):
        AssemblyEnv("one_leg", observe=["depth"])


def test_a_state_that_is_no_number_ends_its_episode_and_is_kept_for_replay(tmp_path: Path) -> None:
    env = AssemblyEnv("one_leg", num_envs=2, dump_dir=tmp_path)
    observation, _ = env.reset(seed=0)
    spinning = env.worlds.model.joint("square_table_leg2").dofadr[0]
    env.worlds.qvel[1, spinning] = 1e200
    seen, _, terminated, _, info = env.step(hold(env, observation["robot_state"]))
    assert terminated.tolist() == info["diverged"].tolist() == [False, True]
    assert all(np.isfinite(values).all() for values in seen.values())
    (saved,) = tmp_path.iterdir()
    assert not replay_divergence(saved).any()
    observation, _ = env.reset(seed=[0, 5], options={"reset_mask": np.array([False, True])})
    assert not env.step(hold(env, observation["robot_state"]))[2].any()


def test_a_saved_divergence_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "notes.npz").write_text("nothing")
    with pytest.raises(ResipError, match=r"notes\.npz is not a saved divergence"):
        replay_divergence(tmp_path / "notes.npz")


def test_a_restored_snapshot_goes_on_as_the_first_time() -> None:
    env = AssemblyEnv("one_leg", num_envs=2)
    observation, _ = env.reset(seed=3)
    action = hold(env, observation["robot_state"])
    action[:, 2] -= 0.03
    env.step(action)
    before = env.worlds.snapshot()
    first = env.step(action)[0]
    env.step(action)
    for _ in range(2):
        env.worlds.restore(before, np.array([True, True]))
        again = env.step(action)[0]
        np.testing.assert_allclose(again["robot_state"], first["robot_state"], atol=1e-12)
        np.testing.assert_allclose(again["part_poses"], first["part_poses"], atol=2e-5)  # some were asleep


def asleep(env: AssemblyEnv, part: str) -> bool:
    model = env.worlds.model
    awake = env.worlds.batch.bind("tree_awake")
    env.worlds.batch.step(nstep=1)
    return not awake[0, model.body_treeid[model.body(part).id]]


def test_a_part_at_rest_sleeps_until_it_is_pushed_and_sleeps_again() -> None:
    env = AssemblyEnv("one_leg", num_envs=1)
    observation, _ = env.reset(seed=0)
    assert all(asleep(env, part) for part in env.task.part_names)
    env.worlds.qvel[0, env.worlds.model.joint("square_table_leg2").dofadr[0]] = 0.3
    assert [asleep(env, part) for part in env.task.part_names] == [True, True, False, True, True]
    for _ in range(10):
        env.step(hold(env, observation["robot_state"]))
    assert asleep(env, env.task.part_names[2])


def test_a_held_part_wakes_when_it_is_let_go_of() -> None:
    task = dataclasses.replace(tasks.ONE_LEG, held_part="square_table_leg4")
    worlds = Worlds(task, 1, tasks.randomness(task, "low"))
    worlds.reset(np.array([True]), [0])
    awake, leg = worlds.batch.bind("tree_awake"), worlds.part_poses()[0, 4]
    action = np.concatenate([worlds.robot_state()[:, :9], [[spaces.GRIPPER_OPEN]]], axis=1)
    action[0, :3] = leg[:3] + [0.0, 0.0, 0.028]
    tree = worlds.model.body_treeid[worlds.model.body("square_table_leg4").id]
    periods = (awake[0, tree] for _ in range(25) for _ in worlds.command_periods(action))
    assert any(periods), "it stops at the first"
    assert np.abs(worlds.part_poses()[0, 4] - leg)[:3].max() < 1e-5, "nothing has touched it"


def test_a_sleeping_part_wakes_when_another_falls_on_it() -> None:
    env = AssemblyEnv("one_leg", num_envs=1)
    observation, _ = env.reset(seed=0)
    below, falling = (env.worlds.model.joint(f"square_table_leg{k}").qposadr[0] for k in (2, 3))
    env.worlds.qpos[0, falling : falling + 3] = env.worlds.qpos[0, below : below + 3] + [0.01, 0.0, 0.06]
    before = env.part_poses()
    env.step(hold(env, observation["robot_state"]))
    assert not asleep(env, "square_table_leg2")
    assert np.abs(env.part_poses() - before)[0, 2].max() > 1e-6
    for _ in range(30):
        env.step(hold(env, observation["robot_state"]))
    assert env.part_poses()[0, :-1, 2].min() > 0.01, "the table holds what it hits"


def test_pushes_move_parts_now_and_then_and_only_when_asked_for() -> None:
    def moved(pushes: float) -> int:
        env = AssemblyEnv("one_leg", num_envs=8, pushes=pushes)
        start, _ = env.reset(seed=0)
        for _ in range(25):
            now = env.step(hold(env, start["robot_state"]))[0]
        offset_m = (now["part_poses"] - start["part_poses"]).reshape(8, -1, 7)[:, :-1, :2]
        return int((np.linalg.norm(offset_m, axis=-1) > 5e-4).sum())

    assert moved(0.0) == 0
    assert 1 <= moved(PUSH_CHANCE) <= 25  # of 40 parts


@pytest.mark.parametrize("level", ["med", "high"])
@pytest.mark.parametrize("name", list(tasks.TASKS))
def test_no_episode_starts_with_parts_in_one_another_or_off_the_table(name: str, level: str) -> None:
    env = AssemblyEnv(name, num_envs=32, randomness=level)
    env.reset(seed=5_000)
    assert (env.part_poses()[..., 2] > -0.005).all()
    for i in range(env.num_envs):
        data = env.worlds.posed(i)
        mujoco.mj_collision(env.worlds.model, data)
        assert data.contact.dist.min(initial=0.0) > -0.002


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ResipError, match=r"0 or greater, got -3"):
        AssemblyEnv("peg_hole", num_envs=2).reset(seed=-3)


def test_more_worlds_than_memory_are_refused_before_any_is_made(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ResipError, match=r"1000000 worlds of one_leg need 400.0 GB of memory, .* GB are free: at most"):
        AssemblyEnv("one_leg", 1_000_000)
    monkeypatch.setattr(worlds, "available_bytes", lambda: 1_000_000)
    with pytest.raises(ResipError, match="at most 2 fit"):
        AssemblyEnv("peg_hole", 3)
    AssemblyEnv("peg_hole", 2, threads=1)
