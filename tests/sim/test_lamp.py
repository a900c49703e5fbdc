"""The lamp: the screw between bulb and base on a rig without the robot, the hood, the held bulb, the random starts."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from resip import rotation
from resip_training.sim import scene, success, tasks, threads
from resip_training.sim.tasks import lamp

TASK = tasks.get("lamp")
BASE, BULB, HOOD = TASK.part_names
#: Bulb and hood position in the base's frame, whose y axis points down, when they are assembled.
SEATED_BULB, SEATED_HOOD = (relation.target_positions_m[0] for relation in TASK.relations)
TURNED_OVER = np.diag([-1.0, -1.0, 1.0])
ABOVE_SEAT_WITHOUT_TURNING_M = 0.0058


class Rig:
    """Base fixed, its frame the world's, so that up is -y; the bulb is free, or held by a hand that turns it."""

    def __init__(self, held: bool = True) -> None:
        spec = mujoco.MjSpec()
        scene.set_options(spec, TASK.timestep_s)
        spec.option.gravity = (0.0, 9.81, 0.0)
        lamp.LAMP_BASE.add_collision(spec.worldbody.add_body(name=BASE))
        bulb = spec.worldbody.add_body(name=BULB, pos=SEATED_BULB, quat=(0.0, 0.0, 0.0, 1.0))
        lamp.LAMP_BULB.add_collision(bulb)
        if held:
            slide = mujoco.mjtJoint.mjJNT_SLIDE
            bulb.add_joint(name="height", type=slide, axis=(0, 1, 0), damping=[1.0, 0, 0])
            for name, axis in (("x", (1, 0, 0)), ("z", (0, 0, 1))):  # a hand gives way sideways
                bulb.add_joint(name=name, type=slide, axis=axis, stiffness=[2000.0, 0, 0], damping=[5.0, 0, 0])
            bulb.add_joint(name="turn", type=mujoco.mjtJoint.mjJNT_HINGE, axis=(0, 1, 0))
            wrist = spec.add_actuator(name="wrist", target="turn", trntype=mujoco.mjtTrn.mjTRN_JOINT)
            wrist.set_to_position(kp=2.0, kv=0.05)
        else:
            bulb.add_freejoint()
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.held = held

    def place(self, height_m: float, turn_rad: float = 0.0) -> None:
        """Put the bulb above its seat, turned by ``turn_rad`` against the direction that screws it in."""
        if self.held:
            self.data.qpos[:] = (height_m, 0.0, 0.0, turn_rad)
            self.data.ctrl[:] = turn_rad
        else:
            matrix = TURNED_OVER @ rotation.matrix_from_rotvec([0.0, turn_rad, 0.0])
            self.data.qpos[:3] = SEATED_BULB - [0.0, height_m, 0.0]
            self.data.qpos[3:] = rotation.quat_from_matrix(matrix)[[3, 0, 1, 2]]
        mujoco.mj_forward(self.model, self.data)

    def run(self, seconds: float, force_n: float = 0.0) -> None:
        self.data.xfrc_applied[self.model.body(BULB).id, 1] = force_n
        mujoco.mj_step(self.model, self.data, nstep=round(seconds / self.model.opt.timestep))

    def turn_to(self, goal_rad: float, force_n: float, speed_rad_s: float = 2.0) -> None:
        """Turn the held bulb at a steady speed, pressed down by ``force_n``."""
        start = self.data.qpos[-1]
        steps = round(abs(goal_rad - start) / speed_rad_s / self.model.opt.timestep)
        for wanted in np.linspace(start, goal_rad, steps):
            self.data.ctrl[:] = wanted
            self.run(self.model.opt.timestep, force_n)

    @property
    def height_m(self) -> float:
        return float(SEATED_BULB[1] - self.data.body(BULB).xpos[1])

    @property
    def succeeded(self) -> bool:
        body = self.data.body(BULB)
        bulb = np.concatenate([body.xpos, body.xquat[[1, 2, 3, 0]]])
        return bool(success.holds(TASK.relations[0], np.array([0.0, 0, 0, 0, 0, 0, 1]), bulb))
