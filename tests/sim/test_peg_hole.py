"""The peg fits its hole with 0.2 mm to spare, and only there."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from resip import rotation, spaces
from resip_training.experts.rollout import run_expert
from resip_training.sim import scene, success, tasks
from resip_training.sim.env import AssemblyEnv
from resip_training.sim.task import nominal_poses
from resip_training.sim.tasks import peg_hole

TASK = tasks.get("peg_hole")
HOLE_M = np.array([0.4, -0.05, 0.0])
BLOCK_HEIGHT_M = 0.009
PUSH_N = 10.0
HAND_KG = 0.5  # what moves with the peg


def lowest_point_m(offset_m: tuple[float, float]) -> float:
    """Push a peg, guided straight down, into a block that is held: where its lower end comes to rest."""
    spec = mujoco.MjSpec()
    scene.set_options(spec, TASK.timestep_s)
    peg_hole.HOLE.add_collision(spec.worldbody.add_body(name="hole"))
    peg = spec.worldbody.add_body(name="peg", pos=(*offset_m, BLOCK_HEIGHT_M + 5e-5))
    peg_hole.PEG.add_collision(peg)
    peg.add_joint(name="height", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(0, 0, 1), armature=HAND_KG)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=(0, 0, -0.05), size=(0.1, 0.1, 0.05))  # the table
    model = spec.compile()
    data = mujoco.MjData(model)
    data.xfrc_applied[model.body("peg").id, 2] = -PUSH_N
    mujoco.mj_step(model, data, nstep=round(1.0 / TASK.timestep_s))
    return float(data.body("peg").xpos[2])


@pytest.mark.parametrize("offset_mm", [(0.0, 0.0), (0.08, 0.0), (0.0, 0.05)])
def test_a_peg_within_the_clearance_goes_down_to_the_table(offset_mm: tuple[float, float]) -> None:
    assert lowest_point_m((offset_mm[0] * 1e-3, offset_mm[1] * 1e-3)) < 0.001


@pytest.mark.parametrize("offset_mm", [(0.25, 0.0), (-0.25, 0.0), (0.0, 0.25), (0.0, -0.25)])
def test_a_peg_a_quarter_of_a_millimetre_off_stays_on_top(offset_mm: tuple[float, float]) -> None:
    assert lowest_point_m((offset_mm[0] * 1e-3, offset_mm[1] * 1e-3)) > BLOCK_HEIGHT_M - 0.0005


def test_both_parts_are_placed_at_random_within_a_centimetre_and_45_degrees() -> None:
    env = AssemblyEnv("peg_hole", num_envs=64)
    env.reset(seed=0)
    poses, nominal = env.part_poses()[:, :2], nominal_poses(TASK)[:2]
    offset_m = np.abs(poses[..., :2] - nominal[:, :2])
    assert 0.008 < offset_m.max() <= 0.0105
    turn = rotation.angle_between(
        rotation.matrix_from_quat(poses[..., 3:]), rotation.matrix_from_quat(nominal[None, :, 3:])
    )
    assert np.deg2rad(35) < turn.max() <= np.deg2rad(45.5)


def test_success_is_a_peg_in_its_hole_the_right_way_round() -> None:
    def poses(height_m: float, yaw_rad: float) -> np.ndarray:
        quat = rotation.quat_from_matrix(rotation.matrix_from_rotvec([0.0, 0.0, yaw_rad]))
        return np.array([[*(HOLE_M + [0, 0, height_m]), *quat], [*HOLE_M, 0, 0, 0, 1]])

    assert success.assembled(TASK, poses(0.002, 0.0)).all()
    assert not success.assembled(TASK, poses(0.006, 0.0)).any()
    assert not success.assembled(TASK, poses(0.002, np.pi)).any()


def test_the_expert_inserts_the_peg() -> None:
    runs = list(run_expert("peg_hole", "low", range(430, 434)))
    assert all(run.success for run in runs)
    assert all(run.reward.sum() == 1.0 for run in runs)
    assert runs[0].action.shape[1] == spaces.ACTION_DIM
