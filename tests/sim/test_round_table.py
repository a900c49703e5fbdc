"""round_table: two screws, each on a rig without the robot, random starts, rewards, and the expert."""

from __future__ import annotations

import numpy as np
import pytest
from resip import rotation, spaces
from resip_training.experts import motion
from resip_training.experts.rollout import run_expert
from resip_training.sim import tasks, threads
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.tasks import round_table
from resip_training.validation.screw_rig import BASE_ON_LEG, LEG_IN_ROUND_TOP, Screw, ScrewRig

TASK = tasks.get("round_table")
STOPS_ABOVE_SEAT_WITHOUT_TURNING_M = 0.006


both_screws = pytest.mark.parametrize("screw", [LEG_IN_ROUND_TOP, BASE_ON_LEG], ids=["leg_in_top", "base_on_leg"])


@both_screws
def test_screwing_in_descends_one_pitch_per_turn(screw: Screw) -> None:
    rig = ScrewRig(screw)
    rig.place(height_m=0.012, turn_rad=2 * np.pi)
    rig.run(0.3, force_n=2.0)
    descent_m = rig.descent_per_turn(np.deg2rad(340.0), np.deg2rad(140.0), 2.0)
    assert descent_m == pytest.approx(threads.PITCH_M, rel=0.08)


@both_screws
@pytest.mark.parametrize("turn_deg", [-20.0, -10.0, 0.0, 10.0, 20.0])
def test_a_part_dropped_in_without_turning_stands_high_and_does_not_count(screw: Screw, turn_deg: float) -> None:
    rig = ScrewRig(screw, held=False)
    rig.place(height_m=0.0135, turn_rad=np.deg2rad(turn_deg))
    rig.run(1.0)
    assert rig.height_m == pytest.approx(STOPS_ABOVE_SEAT_WITHOUT_TURNING_M, abs=0.0015)
    assert not rig.succeeded


@both_screws
def test_forty_newtons_do_not_strip_the_thread(screw: Screw) -> None:
    rig = ScrewRig(screw)
    rig.place(height_m=0.012)
    rig.run(0.5)
    rig.run(2.0, force_n=40.0)
    assert rig.height_m > screw.assembled.tolerance_m
    assert not rig.succeeded


# ---- the task ----


def hold(env: AssemblyEnv) -> np.ndarray:
    """Actions that ask every arm to stay where it is, gripper open."""
    return np.concatenate([env.robot_state()[:, :9], np.full((env.num_envs, 1), spaces.GRIPPER_OPEN)], axis=1)


def put(env: AssemblyEnv, part: str, pose: spaces.Pose) -> None:
    """Place a part of environment 0."""
    start = env.worlds.model.joint(part).qposadr[0]
    env.worlds.qpos[0, start : start + 7] = [*pose.position, *rotation.quat_from_matrix(pose.matrix)[[3, 0, 1, 2]]]


def assembled_on(env: AssemblyEnv, base: spaces.Pose, relation: int) -> spaces.Pose:
    """The second part of a relation, screwed into the first at ``base`` until its threads are tight."""
    target = env.task.relations[relation]
    seat = spaces.Pose(target.target_positions_m[0], np.asarray(target.target_matrix))
    pose = motion.compose(base, seat)
    return motion.turned(pose, pose.position, np.deg2rad(14.0))


def test_two_pairs_assembled_in_one_step_pay_two_and_end_the_episode() -> None:
    env = AssemblyEnv("round_table", num_envs=2)
    env.reset(seed=6)
    row = env.part_poses()[0, 0]
    leg = assembled_on(env, spaces.Pose(row[:3], rotation.matrix_from_quat(row[3:])), 0)
    put(env, round_table.ROUND_TABLE_LEG.name, leg)
    put(env, round_table.ROUND_TABLE_BASE.name, assembled_on(env, leg, 1))
    _, reward, terminated, _, info = env.step(hold(env))
    assert reward.tolist() == [2.0, 0.0]
    assert terminated.tolist() == info["success"].tolist() == [True, False]


def test_one_pair_pays_one_and_the_episode_goes_on() -> None:
    env = AssemblyEnv("round_table", num_envs=1)
    env.reset(seed=6)
    row = env.part_poses()[0, 0]
    top = spaces.Pose(row[:3], rotation.matrix_from_quat(row[3:]))
    put(env, round_table.ROUND_TABLE_LEG.name, assembled_on(env, top, 0))
    _, reward, terminated, _, info = env.step(hold(env))
    assert reward.tolist() == [1.0]
    assert not terminated.any()
    assert not info["success"].any()
    assert env.step(hold(env))[1].tolist() == [0.0]


@pytest.mark.parametrize(
    ("level", "distance_m", "angle_deg"), [("low", 0.015, 15.0), ("med", 0.05, 45.0), ("high", 0.075, 67.5)]
)
def test_a_level_of_randomness_is_as_hard_as_its_definition(level: str, distance_m: float, angle_deg: float) -> None:
    """95 % of each part's displacements lie within the definition, and not all far within."""
    env = AssemblyEnv("round_table", num_envs=256, randomness=level)
    env.reset(seed=32_000)
    poses, nominal = env.part_poses()[:, :-1], env.nominal_poses[:-1]
    moved_m = np.linalg.norm((poses - nominal)[..., :2], axis=-1)
    turned_rad = rotation.angle_between(
        rotation.matrix_from_quat(poses[..., 3:]), rotation.matrix_from_quat(np.tile(nominal[:, 3:], (256, 1, 1)))
    )
    for values, limit in ((moved_m, distance_m), (turned_rad, np.deg2rad(angle_deg))):
        reached = np.quantile(values, 0.95, axis=0)
        assert (reached <= 1.05 * limit).all(), reached / limit
        assert (reached >= 0.8 * limit).all(), reached / limit


def test_parts_at_rest_stay_at_rest() -> None:
    """The leg does not roll off its flat side, nor the base tip over."""
    env = AssemblyEnv("round_table", num_envs=4, randomness="med")
    start, _ = env.reset(seed=3)
    action = hold(env)
    for _ in range(20):
        env.step(action)
    np.testing.assert_allclose(env.part_poses().reshape(4, -1), start["part_poses"], atol=1e-4)


def test_the_expert_assembles_the_table_well_within_the_time() -> None:
    runs = list(run_expert("round_table", "low", [440, 441]))
    assert all(run.success for run in runs)
    for run in runs:
        assert run.reward.sum() == 2.0
        assert len(run) <= 600
