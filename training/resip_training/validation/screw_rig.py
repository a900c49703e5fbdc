"""A screw without a robot: one part is fixed, the other is moved by a compliant hand or by forces.

The hole's axis points up. Heights are of the turned part above its seat, where it is screwed in all the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces

from resip_training.experts import motion
from resip_training.sim import scene, success, tasks
from resip_training.sim.parts import Part, Point
from resip_training.sim.task import Relation, Task
from resip_training.sim.tasks import lamp, one_leg, round_table

Array = NDArray[np.float64]

#: How a part's collision geometry is added to a body.
AddCollision = Callable[[mujoco.MjSpec, mujoco.MjsBody, Part], None]

_HAND_STIFFNESS_N_M: Final = 2000.0
_SAMPLES: Final = 31


@dataclass(frozen=True)
class Screw:
    """Two parts of a task that are screwed together."""

    task: Task
    relation: int
    fixed: Part
    turned: Part
    fixed_matrix: Array
    """Stands the hole's axis up, ``(3, 3)``."""
    axis: tuple[int, int, int]
    """Of the turned part, up when it is screwed in."""
    axis_point_m: Point = (0.0, 0.0, 0.0)
    """A point on that axis, in the turned part's frame."""
    target: int = 0
    """Which of the relation's targets."""

    @property
    def assembled(self) -> Relation:
        """What must hold when it is screwed in."""
        return self.task.relations[self.relation]

    @property
    def seat(self) -> spaces.Pose:
        """Pose of the turned part, screwed in, its axis that of the hole; the fixed part stands in the origin."""
        matrix = np.asarray(self.assembled.target_matrix)
        position = self.assembled.target_positions_m[self.target] - matrix @ self.axis_point_m
        return motion.compose(spaces.Pose(np.zeros(3), self.fixed_matrix), spaces.Pose(position, matrix))


_Y_UP: Final = rotation.matrix_from_rotvec([np.pi / 2, 0.0, 0.0])

#: The screw of one_leg.
LEG_IN_TOP: Final = Screw(
    task=tasks.ONE_LEG,
    relation=0,
    fixed=one_leg.SQUARE_TABLE_TOP,
    turned=one_leg.SQUARE_TABLE_LEG4,
    fixed_matrix=_Y_UP,
    axis=(0, 1, 0),
    axis_point_m=(0.0, 0.0, -one_leg.PEG_OFFSET_M),
    target=2,
)
#: The two of round_table.
LEG_IN_ROUND_TOP: Final = Screw(
    task=tasks.ROUND_TABLE,
    relation=0,
    fixed=round_table.ROUND_TABLE_TOP,
    turned=round_table.ROUND_TABLE_LEG,
    fixed_matrix=np.eye(3),
    axis=(0, 1, 0),
)
BASE_ON_LEG: Final = Screw(
    task=tasks.ROUND_TABLE,
    relation=1,
    fixed=round_table.ROUND_TABLE_LEG,
    turned=round_table.ROUND_TABLE_BASE,
    fixed_matrix=_Y_UP,
    axis=(0, 0, 1),
)
#: The lamp's; its base's -y is up.
BULB_IN_BASE: Final = Screw(
    task=tasks.LAMP, relation=0, fixed=lamp.LAMP_BASE, turned=lamp.LAMP_BULB, fixed_matrix=_Y_UP.T, axis=(0, 1, 0)
)


def as_in_training(spec: mujoco.MjSpec, body: mujoco.MjsBody, part: Part) -> None:
    """Add the collision geometry that training uses."""
    del spec
    part.add_collision(body)


class ScrewRig:
    """One part fixed; the other is free, or held by a hand that gives way sideways and turns it about its axis.

    Parts have the density of water, some 65 g for a leg: a hand that holds it would move with it.
    """

    def __init__(self, screw: Screw, held: bool = True, add_collision: AddCollision = as_in_training) -> None:
        self.screw, self._held, self._seat = screw, held, screw.seat
        spec = mujoco.MjSpec()
        scene.set_options(spec, timestep_s=screw.task.timestep_s)
        fixed = spec.worldbody.add_body(name="fixed", quat=_wxyz(screw.fixed_matrix))
        add_collision(spec, fixed, screw.fixed)
        turned = spec.worldbody.add_body(name="turned", pos=self._seat.position, quat=_wxyz(self._seat.matrix))
        add_collision(spec, turned, screw.turned)
        if held:
            _add_hand(spec, turned, screw)
        else:
            turned.add_freejoint()
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)

    def place(self, height_m: float, turn_rad: float = 0.0, aside_m: tuple[float, float] = (0.0, 0.0)) -> None:
        """Put the part, at rest, above its seat and turned; a hand holds it ``aside_m`` of the hole's axis."""
        mujoco.mj_resetData(self.model, self.data)
        if self._held:
            self.model.qpos_spring[1:3] = aside_m
            self.data.qpos[:] = (height_m, *aside_m, turn_rad)
            self.data.ctrl[:] = turn_rad
        else:
            turn = rotation.matrix_from_rotvec([0.0, 0.0, turn_rad])
            self.data.qpos[:3] = self._seat.position + [0.0, 0.0, height_m]
            self.data.qpos[3:] = _wxyz(turn @ self._seat.matrix)
        mujoco.mj_forward(self.model, self.data)

    def run(self, seconds: float, force_n: float = 0.0) -> None:
        """Let time pass while ``force_n`` presses the part down."""
        self.data.xfrc_applied[self.model.body("turned").id, 2] = -force_n
        mujoco.mj_step(self.model, self.data, nstep=round(seconds / self.model.opt.timestep))

    def turn_to(self, goal_rad: float, force_n: float, speed_rad_s: float = 2.0) -> None:
        """Turn the held part at a steady speed, pressed down by ``force_n``."""
        start = self.data.qpos[-1]
        steps = round(abs(goal_rad - start) / speed_rad_s / self.model.opt.timestep)
        for wanted in np.linspace(start, goal_rad, steps):
            self.data.ctrl[:] = wanted
            self.run(self.model.opt.timestep, force_n)

    def descent_per_turn(self, start_rad: float, end_rad: float, force_n: float) -> float:
        """Descent (m) of the held part per full turn: a line's slope, between two angles with the threads engaged."""
        angles_rad = np.linspace(start_rad, end_rad, _SAMPLES)
        heights_m = []
        for angle_rad in angles_rad:
            self.turn_to(angle_rad, force_n)
            heights_m.append(self.height_m)
        return float(np.polyfit(angles_rad, heights_m, 1)[0] * 2 * np.pi)

    @property
    def height_m(self) -> float:
        """Of the turned part above its seat."""
        return float(self.data.body("turned").xpos[2] - self._seat.position[2])

    @property
    def succeeded(self) -> bool:
        """Whether the task counts the parts as assembled."""
        fixed, turned = self.data.body("fixed"), self.data.body("turned")
        poses = [np.concatenate([body.xpos, body.xquat[[1, 2, 3, 0]]]) for body in (fixed, turned)]
        return bool(success.holds(self.screw.assembled, *poses))


def _wxyz(matrix: Array) -> Array:
    return rotation.quat_from_matrix(matrix)[[3, 0, 1, 2]]


def _add_hand(spec: mujoco.MjSpec, body: mujoco.MjsBody, screw: Screw) -> None:
    """Free along the axis, turned by a wrist, and giving way to both sides."""
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    body.add_joint(name="height", type=slide, axis=screw.axis, damping=[1.0, 0, 0])
    for name, side in (("aside_0", np.roll(screw.axis, 2)), ("aside_1", np.roll(screw.axis, 1))):
        body.add_joint(name=name, type=slide, axis=side, stiffness=[_HAND_STIFFNESS_N_M, 0, 0], damping=[5.0, 0, 0])
    body.add_joint(name="turn", type=hinge, axis=screw.axis, pos=screw.axis_point_m)
    wrist = spec.add_actuator(name="wrist", target="turn", trntype=mujoco.mjtTrn.mjTRN_JOINT)
    wrist.set_to_position(kp=2.0, kv=0.05)
