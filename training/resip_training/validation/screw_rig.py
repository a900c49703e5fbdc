"""The screw between leg and top, without a robot: the top is fixed, the leg is moved by a compliant hand or by forces.

The table top's y axis points up. Heights are of the leg above its seat, where it is screwed in all the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray

from resip_training.sim import scene, success, tasks
from resip_training.sim.parts import Part
from resip_training.sim.tasks import one_leg

Array = NDArray[np.float64]

#: How a part's collision geometry is added to a body.
AddCollision = Callable[[mujoco.MjSpec, mujoco.MjsBody, Part], None]

_LEG_AXIS_Z_M: Final = -0.0006175
#: Leg position with its peg in the middle of a hole, all the way in.
_SEATED_M: Final = np.array([0.05625, 0.046875, -0.05625 - _LEG_AXIS_Z_M])
_IDENTITY_WXYZ: Final = (1.0, 0.0, 0.0, 0.0)
_HAND_STIFFNESS_N_M: Final = 2000.0
_SAMPLES: Final = 31


def as_in_training(spec: mujoco.MjSpec, body: mujoco.MjsBody, part: Part) -> None:
    """Add the collision geometry that training uses."""
    del spec
    part.add_collision(body)


class ScrewRig:
    """Top fixed; the leg is free, or held by a hand that gives way sideways and turns it about its axis.

    The leg has the density of water and weighs 62 to 65 g: a hand that holds it would move with it.
    """

    def __init__(self, held: bool = True, add_collision: AddCollision = as_in_training) -> None:
        spec = mujoco.MjSpec()
        scene.set_options(spec, timestep_s=tasks.ONE_LEG.timestep_s)
        spec.option.gravity = (0.0, -9.81, 0.0)
        add_collision(spec, spec.worldbody.add_body(name="top"), one_leg.SQUARE_TABLE_TOP)
        leg = spec.worldbody.add_body(name="leg", pos=_SEATED_M)
        add_collision(spec, leg, one_leg.SQUARE_TABLE_LEG4)
        self._held = held
        if held:
            _add_hand(spec, leg)
        else:
            leg.add_freejoint()
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)

    def place(self, height_m: float, turn_rad: float = 0.0, aside_m: tuple[float, float] = (0.0, 0.0)) -> None:
        """Put the leg, at rest, above its seat and turned; a hand holds it ``aside_m`` (x, z) of the hole's axis."""
        mujoco.mj_resetData(self.model, self.data)
        if self._held:
            self.model.qpos_spring[1:3] = aside_m
            self.data.qpos[:] = (height_m, *aside_m, turn_rad)
            self.data.ctrl[:] = turn_rad
        else:
            self.data.qpos[:3] = _SEATED_M + [0.0, height_m, 0.0]
            self.data.qpos[3:] = _IDENTITY_WXYZ
        mujoco.mj_forward(self.model, self.data)

    def run(self, seconds: float, force_n: float = 0.0) -> None:
        """Let time pass while ``force_n`` presses the leg down."""
        self.data.xfrc_applied[self.model.body("leg").id, 1] = -force_n
        mujoco.mj_step(self.model, self.data, nstep=round(seconds / self.model.opt.timestep))

    def turn_to(self, goal_rad: float, force_n: float, speed_rad_s: float = 2.0) -> None:
        """Turn the held leg at a steady speed, pressed down by ``force_n``."""
        start = self.data.qpos[-1]
        steps = round(abs(goal_rad - start) / speed_rad_s / self.model.opt.timestep)
        for wanted in np.linspace(start, goal_rad, steps):
            self.data.ctrl[:] = wanted
            self.run(self.model.opt.timestep, force_n)

    def descent_per_turn(self, start_rad: float, end_rad: float, force_n: float) -> float:
        """Descent (m) of the held leg per full turn: a line's slope, between two angles with the threads engaged."""
        angles_rad = np.linspace(start_rad, end_rad, _SAMPLES)
        heights_m = []
        for angle_rad in angles_rad:
            self.turn_to(angle_rad, force_n)
            heights_m.append(self.height_m)
        return float(np.polyfit(angles_rad, heights_m, 1)[0] * 2 * np.pi)

    @property
    def height_m(self) -> float:
        """Of the leg above its seat."""
        return float(self.data.body("leg").xpos[1] - _SEATED_M[1])

    @property
    def succeeded(self) -> bool:
        """Whether the task counts the leg as assembled."""
        poses = np.zeros((5, 7))
        poses[:, 6] = 1.0
        body = self.data.body("leg")
        poses[4, :3], poses[4, 3:] = body.xpos, body.xquat[[1, 2, 3, 0]]
        return bool(success.assembled(tasks.ONE_LEG, poses).all())


def _add_hand(spec: mujoco.MjSpec, leg: mujoco.MjsBody) -> None:
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    leg.add_joint(name="height", type=slide, axis=(0, 1, 0), damping=[1.0, 0, 0])
    for name, axis in (("x", (1, 0, 0)), ("z", (0, 0, 1))):
        leg.add_joint(name=name, type=slide, axis=axis, stiffness=[_HAND_STIFFNESS_N_M, 0, 0], damping=[5.0, 0, 0])
    leg.add_joint(name="turn", type=hinge, axis=(0, 1, 0), pos=(0.0, 0.0, _LEG_AXIS_Z_M))
    wrist = spec.add_actuator(name="wrist", target="turn", trntype=mujoco.mjtTrn.mjTRN_JOINT)
    wrist.set_to_position(kp=2.0, kv=0.05)
