"""The lamp: the screw between bulb and base on a rig without the robot, the hood, the held bulb, the random starts."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from resip import rotation, spaces
from resip.control import panda
from resip_training.experts.rollout import run_expert
from resip_training.sim import scene, success, tasks, threads
from resip_training.sim.cell import Cell
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.task import nominal_poses
from resip_training.validation.screw_rig import BULB_IN_BASE, ScrewRig

TASK = tasks.get("lamp")
BASE, BULB, HOOD = TASK.part_names
#: Bulb and hood position in the base's frame, whose y axis points down, when they are assembled.
SEATED_BULB, SEATED_HOOD = (relation.target_positions_m[0] for relation in TASK.relations)
TURNED_OVER = np.diag([-1.0, -1.0, 1.0])
ABOVE_SEAT_WITHOUT_TURNING_M = 0.006
PUSH_M_S = 0.09
HAND_DAMPING = 40.0  # N s/m: a hand lets a bulb down, it does not drop it
#: For each part the direction in its frame that points along the robot's x axis in the nominal layout.
HEADING_AXES = rotation.matrix_from_quat(nominal_poses(TASK)[:-1, 3:])[:, 0]


# ---- the screw ----


def test_screwing_in_descends_one_pitch_per_turn() -> None:
    rig = ScrewRig(BULB_IN_BASE)
    rig.place(height_m=0.012, turn_rad=np.deg2rad(340.0))
    rig.run(0.3, force_n=2.0)
    descent_m = rig.descent_per_turn(np.deg2rad(320.0), np.deg2rad(170.0), 2.0)
    assert descent_m == pytest.approx(threads.PITCH_M, rel=0.06)


def test_a_bulb_dropped_in_without_turning_stands_high_and_does_not_count() -> None:
    rig = ScrewRig(BULB_IN_BASE, held=False)
    rig.place(height_m=0.008)
    rig.run(1.0)
    assert rig.height_m == pytest.approx(ABOVE_SEAT_WITHOUT_TURNING_M, abs=0.0007)
    assert not rig.succeeded


@pytest.mark.parametrize("turn_deg", range(0, 360, 30))
def test_a_bulb_put_in_without_turning_does_not_count_at_any_heading(turn_deg: int) -> None:
    rig = ScrewRig(BULB_IN_BASE)
    rig.place(height_m=0.016, turn_rad=np.deg2rad(turn_deg))
    rig.model.joint("height").damping = HAND_DAMPING
    rig.run(1.5, force_n=2.0)
    assert not rig.succeeded


@pytest.mark.parametrize("turn_deg", [0, 60, 120, 180])
def test_forty_newtons_of_a_hand_do_not_strip_the_thread(turn_deg: int) -> None:
    rig = ScrewRig(BULB_IN_BASE)
    rig.place(height_m=0.016, turn_rad=np.deg2rad(turn_deg))
    rig.model.joint("height").damping = HAND_DAMPING
    rig.run(1.5, force_n=2.0)
    rig.model.joint("height").damping = 20 * HAND_DAMPING
    rig.run(2.0, force_n=40.0)
    assert rig.height_m > TASK.relations[0].tolerance_m
    assert not rig.succeeded


# ---- the hood ----


@pytest.mark.parametrize("turn_deg", [0, 20, 45, 77, 90, 171, 233])
def test_a_hood_let_go_over_the_assembled_bulb_comes_to_rest_where_it_counts(turn_deg: int) -> None:
    model = scene.build(TASK)
    data = mujoco.MjData(model)
    base_up = rotation.matrix_from_rotvec([-np.pi / 2, 0.0, 0.0])  # the base's -y is up
    base_m = np.array([0.5, 0.0, 0.0172])
    set_pose(data, BASE, base_m, base_up)
    set_pose(data, BULB, base_m + base_up @ SEATED_BULB, base_up @ TURNED_OVER)
    turned = base_up @ rotation.matrix_from_rotvec([0.0, np.deg2rad(turn_deg), 0.0])
    set_pose(data, HOOD, base_m + base_up @ (SEATED_HOOD - [0.0, 0.012, 0.0]), turned)
    data.qpos[: panda.DOF] = data.ctrl[: panda.DOF] = 0.0
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ACTUATION  # the arm stands aside
    mujoco.mj_step(model, data, nstep=250)
    assert success.assembled(TASK, poses_of(data)).tolist() == [True, True]


def set_pose(data: mujoco.MjData, name: str, position_m: np.ndarray, matrix: np.ndarray) -> None:
    data.joint(name).qpos[:] = [*position_m, *rotation.quat_from_matrix(matrix)[[3, 0, 1, 2]]]


def poses_of(data: mujoco.MjData) -> np.ndarray:
    return np.array([data.joint(name).qpos[[0, 1, 2, 4, 5, 6, 3]] for name in TASK.part_names])


@pytest.mark.parametrize("rotvec", [(0.0, 0.0, 0.0), (0.0, 2.5, 0.0), (1.0, 0.0, 2.0)])
def test_only_the_hoods_position_counts(rotvec: tuple[float, float, float]) -> None:
    base = np.array([0.0, 0, 0, 0, 0, 0, 1])
    quat = rotation.quat_from_matrix(rotation.matrix_from_rotvec(rotvec))
    assert success.holds(TASK.relations[1], base, np.concatenate([SEATED_HOOD, quat]))
    assert not success.holds(TASK.relations[1], base, np.concatenate([SEATED_HOOD - [0, 0.0051, 0], quat]))


# ---- the bulb that is held ----


def still(env: AssemblyEnv) -> np.ndarray:
    """Actions that ask every arm to stay where it is, gripper open."""
    return np.concatenate([env.robot_state()[:, :9], np.full((env.num_envs, 1), spaces.GRIPPER_OPEN)], axis=1)


def moved_m(env: AssemblyEnv) -> np.ndarray:
    """How far a push moves each environment's bulb in half a second."""
    before = env.part_poses()[:, 1, :2]
    dof = env.worlds.model.joint("lamp_bulb").dofadr[0]
    env.worlds.qvel[:, dof] += PUSH_M_S
    for _ in range(5):
        env.step(still(env))
    return np.linalg.norm(env.part_poses()[:, 1, :2] - before, axis=-1)


def test_the_bulb_is_held_until_the_fingertip_is_near_in_each_environment_alone() -> None:
    env = AssemblyEnv("lamp", num_envs=2, randomness="med", threads=1)
    env.reset(seed=7)
    assert (moved_m(env) < 1e-4).all()

    action = still(env)
    bulb = env.part_poses()[0, 1]
    axis = rotation.matrix_from_quat(bulb[3:])[:, 1]
    action[0, :3] = bulb[:3] - 0.02 * axis + [0.0, 0.0, 0.027]
    for _ in range(25):
        env.step(action)
    moved = moved_m(env)
    assert moved[0] > 0.002
    assert moved[1] < 1e-4

    env.reset(seed=[0, 8], options={"reset_mask": np.array([False, True])})
    moved = moved_m(env)
    assert moved[0] > 0.002, "the other environment's bulb is still free"
    assert moved[1] < 1e-4

    env.reset(seed=[9, 0], options={"reset_mask": np.array([True, False])})
    assert (moved_m(env) < 1e-4).all(), "a new episode holds it again"


def test_the_bulb_stays_held_through_a_restored_snapshot() -> None:
    env = AssemblyEnv("lamp", num_envs=1, threads=1)
    env.reset(seed=3)
    before = env.worlds.snapshot()
    env.worlds.restore(before, np.array([True]))
    assert moved_m(env)[0] < 1e-4


def test_the_cell_holds_the_bulb_until_the_fingertip_is_near() -> None:
    cell = Cell("lamp", images=False)
    cell.reset(4)

    def fall_m(below_fingertip_m: float) -> float:
        start = cell.data.site("ee").xpos - [0.0, 0.0, below_fingertip_m]
        cell.data.joint(BULB).qpos[:3] = start
        for _ in range(50):
            cell.step()
        return float(start[2] - cell.data.joint(BULB).qpos[2])

    assert fall_m(0.05) < 1e-4
    assert fall_m(0.025) > 0.01
    cell.reset(4)
    assert fall_m(0.05) < 1e-4


# ---- the task ----


def test_bulb_and_hood_pay_one_each_whichever_comes_first() -> None:
    env = AssemblyEnv("lamp", num_envs=2, threads=1)
    env.reset(seed=1)
    put = {BULB: (SEATED_BULB, TURNED_OVER), HOOD: (SEATED_HOOD - [0.0, 0.002, 0.0], np.eye(3))}

    def assemble(i: int, name: str) -> None:
        base = env.part_poses()[i, 0]
        matrix, (position, turn) = rotation.matrix_from_quat(base[3:]), put[name]
        place = env.worlds.model.joint(name).qposadr[0]
        env.worlds.qpos[i, place : place + 3] = base[:3] + matrix @ position
        env.worlds.qpos[i, place + 3 : place + 7] = rotation.quat_from_matrix(matrix @ turn)[[3, 0, 1, 2]]

    assemble(0, BULB)
    assemble(1, HOOD)
    _, reward, terminated, _, _ = env.step(still(env))
    assert reward.tolist() == [1.0, 1.0]
    assert not terminated.any()
    assemble(0, HOOD)
    _, reward, terminated, _, info = env.step(still(env))
    assert reward.tolist() == [1.0, 0.0]
    assert terminated.tolist() == info["success"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("level", "distance_m", "angle_deg", "obstacle_m", "arm_deg"),
    [("low", 0.015, 15.0, 0.02, 5.0), ("med", 0.05, 45.0, 0.04, 10.0), ("high", 0.075, 67.5, 0.06, 13.0)],
)
def test_each_level_displaces_95_percent_of_the_parts_within_its_definition(
    level: str, distance_m: float, angle_deg: float, obstacle_m: float, arm_deg: float
) -> None:
    """What turns a rolling bulb about its own axis does not count: its angle is that of its axis, seen from above."""
    env = AssemblyEnv("lamp", num_envs=256, randomness=level, threads=2)
    env.reset(seed=31_000)
    offset = env.part_poses() - env.nominal_poses
    parts_m = np.linalg.norm(offset[:, :-1, :2], axis=-1)
    axes = rotation.matrix_from_quat(env.part_poses()[:, :-1, 3:]) @ HEADING_AXES[..., None]
    turned = np.abs(np.arctan2(axes[..., 1, 0], axes[..., 0, 0]))
    for displaced, allowed in ((parts_m, distance_m), (turned, np.deg2rad(angle_deg))):
        assert 0.8 * allowed < np.quantile(displaced, 0.95) <= allowed
        assert (np.quantile(displaced, 0.95, axis=0) > 0.75 * allowed).all(), "no part is easier than the level"
    assert np.abs(offset[:, -1, :2]).max() <= obstacle_m
    assert np.abs(env.joint_positions() - panda.RESET_RAD).max() <= np.deg2rad(arm_deg) + 1e-4
    lowest_m = env.nominal_poses[:-1, 2] - [0.0028, 0.0, 0.0]  # the base starts this far above the table
    np.testing.assert_allclose(env.part_poses()[..., :-1, 2], np.tile(lowest_m, (256, 1)), atol=5e-4)


def test_the_expert_assembles_the_lamp() -> None:
    runs = list(run_expert("lamp", "low", [400, 401], threads=2))
    assert all(run.success for run in runs)
    assert all(run.reward.sum() == 2.0 and len(run) < 600 for run in runs)
