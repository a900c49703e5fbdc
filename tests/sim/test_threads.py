"""The screw between leg and top, on a rig without the robot: the top is fixed, the leg is moved by wrenches."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from resip_training.sim import scene, success, tasks, threads
from resip_training.sim.tasks import one_leg

LEG_AXIS_Z_M = -0.0006175
#: Leg position with its peg in the middle of a hole, all the way in.
SEATED = np.array([0.05625, 0.046875, -0.05625 - LEG_AXIS_Z_M])
IDENTITY_WXYZ = (1.0, 0.0, 0.0, 0.0)
LEG_ABOVE_SEAT_WITHOUT_TURNING_M = 0.006


class Rig:
    """Top fixed with its y axis up; the leg is free, or held by a hand that turns it about the hole's axis."""

    def __init__(self, held: bool = True) -> None:
        spec = mujoco.MjSpec()
        scene.set_options(spec, timestep_s=0.004)
        spec.option.gravity = (0.0, -9.81, 0.0)
        top = spec.worldbody.add_body(name="top")
        one_leg.SQUARE_TABLE_TOP.add_collision(top)
        leg = spec.worldbody.add_body(name="leg", pos=SEATED)
        one_leg.SQUARE_TABLE_LEG4.add_collision(leg)
        axis_point = (0.0, 0.0, LEG_AXIS_Z_M)
        if held:
            slide = mujoco.mjtJoint.mjJNT_SLIDE
            leg.add_joint(name="height", type=slide, axis=(0, 1, 0), damping=[1.0, 0, 0])
            for name, axis in (("x", (1, 0, 0)), ("z", (0, 0, 1))):  # a hand gives way sideways
                leg.add_joint(name=name, type=slide, axis=axis, stiffness=[2000.0, 0, 0], damping=[5.0, 0, 0])
            leg.add_joint(name="turn", type=mujoco.mjtJoint.mjJNT_HINGE, axis=(0, 1, 0), pos=axis_point)
            wrist = spec.add_actuator(name="wrist", target="turn", trntype=mujoco.mjtTrn.mjTRN_JOINT)
            wrist.set_to_position(kp=2.0, kv=0.05)
        else:
            leg.add_freejoint()
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.held = held

    def place(self, height_m: float, turn_rad: float = 0.0) -> None:
        if self.held:
            self.data.qpos[:] = (height_m, 0.0, 0.0, turn_rad)
            self.data.ctrl[:] = turn_rad
        else:
            self.data.qpos[:3] = SEATED + [0.0, height_m, 0.0]
            self.data.qpos[3:] = IDENTITY_WXYZ
        mujoco.mj_forward(self.model, self.data)

    def run(self, seconds: float, force_n: float = 0.0) -> None:
        self.data.xfrc_applied[self.model.body("leg").id, 1] = -force_n
        mujoco.mj_step(self.model, self.data, nstep=round(seconds / self.model.opt.timestep))

    def turn_to(self, goal_rad: float, force_n: float, speed_rad_s: float = 2.0) -> None:
        """Turn the held leg at a steady speed, pressed down by ``force_n``."""
        start = self.data.qpos[-1]
        steps = round(abs(goal_rad - start) / speed_rad_s / self.model.opt.timestep)
        for wanted in np.linspace(start, goal_rad, steps):
            self.data.ctrl[:] = wanted
            self.run(self.model.opt.timestep, force_n)

    @property
    def height_m(self) -> float:
        return float(self.data.body("leg").xpos[1] - SEATED[1])

    @property
    def succeeded(self) -> bool:
        poses = np.zeros((5, 7))
        poses[:, 6] = 1.0
        body = self.data.body("leg")
        poses[4, :3], poses[4, 3:] = body.xpos, body.xquat[[1, 2, 3, 0]]
        return bool(success.assembled(tasks.ONE_LEG, poses).all())


def descent_per_turn(rig: Rig, start_rad: float, end_rad: float, force_n: float) -> float:
    """Descent of the leg per full turn, measured between two angles while the threads are engaged."""
    rig.turn_to(start_rad, force_n)
    height = rig.height_m
    rig.turn_to(end_rad, force_n)
    return (height - rig.height_m) / (start_rad - end_rad) * 2 * np.pi


def test_screwing_in_descends_one_pitch_per_turn() -> None:
    rig = Rig()
    rig.place(height_m=0.012, turn_rad=np.deg2rad(340.0))
    rig.run(0.3, force_n=2.0)
    assert descent_per_turn(rig, np.deg2rad(330), np.deg2rad(180), 2.0) == pytest.approx(threads.PITCH_M, rel=0.06)


def test_screwing_out_under_a_pull_rises_one_pitch_per_turn() -> None:
    rig = Rig()
    rig.place(height_m=0.0, turn_rad=0.0)
    assert descent_per_turn(rig, np.deg2rad(60), np.deg2rad(300), -2.0) == pytest.approx(threads.PITCH_M, rel=0.15)


def test_a_leg_dropped_in_without_turning_stands_high_and_does_not_count() -> None:
    rig = Rig(held=False)
    rig.place(height_m=0.012)
    rig.run(1.0)
    assert rig.height_m == pytest.approx(LEG_ABOVE_SEAT_WITHOUT_TURNING_M, abs=0.001)
    assert not rig.succeeded


def test_forty_newtons_do_not_strip_the_thread() -> None:
    rig = Rig(held=False)
    rig.place(height_m=0.012)
    rig.run(0.5)
    rig.run(2.0, force_n=40.0)
    assert rig.height_m > tasks.ONE_LEG.relations[0].tolerance_m
    assert not rig.succeeded


def test_a_leg_turned_in_is_assembled_and_stays() -> None:
    rig = Rig()
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
