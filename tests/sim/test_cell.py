"""The simulated cell that the ROS graph runs against."""

from __future__ import annotations

import numpy as np
import pytest
from resip.control import panda
from resip.errors import ResipError
from resip_training.sim.cell import Cell
from resip_training.sim.env import AssemblyEnv


def run(cell: Cell, seconds: float) -> None:
    for _ in range(round(seconds / cell.timestep_s)):
        cell.step()


@pytest.fixture(scope="module")
def cell() -> Cell:
    return Cell("one_leg", images=False)


def test_an_episode_starts_as_in_training(cell: Cell) -> None:
    env = AssemblyEnv("one_leg")
    env.reset(seed=12)
    cell.reset(12)
    np.testing.assert_array_equal(cell.joint_positions, env.joint_positions()[0])
    np.testing.assert_array_equal(cell.part_poses(), env.part_poses()[0])


def test_the_clock_runs_on_through_a_reset(cell: Cell) -> None:
    run(cell, 0.1)
    before = cell.time_s
    cell.reset(1)
    assert cell.time_s == before
    run(cell, 0.1)
    assert cell.time_s == pytest.approx(before + 0.1)


def test_gravity_is_compensated_so_that_an_unpowered_arm_floats(cell: Cell) -> None:
    cell.reset(2)
    cell.apply(np.zeros(panda.DOF))
    start = cell.joint_positions
    run(cell, 1.0)
    np.testing.assert_allclose(cell.joint_positions, start, atol=1e-3)


def test_a_torque_moves_its_joint(cell: Cell) -> None:
    cell.reset(2)
    start = cell.joint_positions
    cell.apply([2.0, 0, 0, 0, 0, 0, 0])
    run(cell, 0.2)
    assert cell.joint_positions[0] > start[0] + 0.01
    cell.apply(np.zeros(panda.DOF))


def test_the_gripper_closes_at_its_speed_and_reports_an_empty_grasp(cell: Cell) -> None:
    cell.reset(2)
    cell.gripper_grasp(speed_m_s=0.1)
    run(cell, 0.3)
    assert cell.gripper_moving
    assert cell.gripper_width_m == pytest.approx(0.065 - 0.03, abs=0.004)
    run(cell, 0.7)
    assert not cell.gripper_moving
    assert not cell.gripper_grasped
    cell.gripper_move(0.05, speed_m_s=0.1)
    run(cell, 1.0)
    assert cell.gripper_width_m == pytest.approx(0.05, abs=0.001)


def test_a_part_that_fell_is_named(cell: Cell) -> None:
    cell.reset(3)
    assert cell.failed() is None
    leg = cell.model.joint("square_table_leg3").qposadr[0]
    cell.data.qpos[leg : leg + 3] = (0.3, 0.7, 0.1)
    run(cell, 0.5)
    assert cell.failed() == "part left the table: square_table_leg3"


def test_an_unknown_level_lists_those_there_are(cell: Cell) -> None:
    with pytest.raises(ResipError, match="low"):
        cell.reset(0, "extreme")


def test_random_looks_follow_from_the_seed_and_change_nothing_but_the_looks() -> None:
    plain, dressed = Cell("one_leg"), Cell("one_leg", random_looks=True)
    pictures = {}
    for seed in (3, 4):
        for name, each in (("plain", plain), ("dressed", dressed)):
            each.reset(seed)
            pictures[name, seed] = each.render("front")
        np.testing.assert_array_equal(dressed.part_poses(), plain.part_poses())
    dressed.reset(3)
    np.testing.assert_array_equal(dressed.render("front"), pictures["dressed", 3])
    difference = {seed: np.abs(pictures["dressed", seed] - pictures["plain", seed].astype(float)) for seed in (3, 4)}
    assert min(of.mean() for of in difference.values()) > 5
    assert np.abs(difference[3] - difference[4]).mean() > 5
    for each in (plain, dressed):
        each.close()
