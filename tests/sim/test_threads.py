"""The screw between leg and top, on a rig without the robot: the top is fixed, the leg is moved by wrenches."""

from __future__ import annotations

import numpy as np
import pytest
from resip_training.sim import success, tasks, threads
from resip_training.validation.screw_rig import BASE_ON_LEG, BULB_IN_BASE, LEG_IN_ROUND_TOP, LEG_IN_TOP, Screw, ScrewRig

LEG_ABOVE_SEAT_WITHOUT_TURNING_M = 0.006


def test_screwing_in_descends_one_pitch_per_turn() -> None:
    rig = ScrewRig(LEG_IN_TOP)
    rig.place(height_m=0.012, turn_rad=np.deg2rad(340.0))
    rig.run(0.3, force_n=2.0)
    assert rig.descent_per_turn(np.deg2rad(330), np.deg2rad(180), 2.0) == pytest.approx(threads.PITCH_M, rel=0.06)


def test_screwing_out_under_a_pull_rises_one_pitch_per_turn() -> None:
    rig = ScrewRig(LEG_IN_TOP)
    rig.place(height_m=0.0, turn_rad=0.0)
    assert rig.descent_per_turn(np.deg2rad(60), np.deg2rad(300), -2.0) == pytest.approx(threads.PITCH_M, rel=0.15)


def test_a_leg_dropped_in_without_turning_stands_high_and_does_not_count() -> None:
    rig = ScrewRig(LEG_IN_TOP, held=False)
    rig.place(height_m=0.012)
    rig.run(1.0)
    assert rig.height_m == pytest.approx(LEG_ABOVE_SEAT_WITHOUT_TURNING_M, abs=0.001)
    assert not rig.succeeded


def test_forty_newtons_do_not_strip_the_thread() -> None:
    rig = ScrewRig(LEG_IN_TOP, held=False)
    rig.place(height_m=0.012)
    rig.run(0.5)
    rig.run(2.0, force_n=40.0)
    assert rig.height_m > tasks.ONE_LEG.relations[0].tolerance_m
    assert not rig.succeeded


@pytest.mark.parametrize(
    "screw",
    [LEG_IN_TOP, LEG_IN_ROUND_TOP, BASE_ON_LEG, BULB_IN_BASE],
    ids=["leg in top", "leg in round top", "base on leg", "bulb in base"],
)
def test_a_part_turned_in_is_assembled_and_stays(screw: Screw) -> None:
    rig = ScrewRig(screw)
    rig.place(height_m=0.012, turn_rad=2 * np.pi)
    rig.run(0.3, force_n=2.0)
    rig.turn_to(0.0, force_n=2.0)
    assert rig.succeeded
    rig.run(1.0)
    assert rig.succeeded


@pytest.mark.parametrize("hole", tasks.ONE_LEG.relations[0].target_positions_m)
def test_any_of_the_four_holes_counts(hole: np.ndarray) -> None:
    poses = np.zeros((5, 7))
    poses[:, 6] = 1.0
    poses[4, :3] = hole
    assert success.assembled(tasks.ONE_LEG, poses).all()
    poses[4, 1] += 0.0051
    assert not success.assembled(tasks.ONE_LEG, poses).any()
