"""The MuJoCo scene of a task: table, obstacle, parts and arm, as one MjSpec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import mujoco

from resip_training.sim import drive as drives
from resip_training.sim import robot
from resip_training.sim.collision import TABLE
from resip_training.sim.task import Task

OBSTACLE: Final = "obstacle"

TABLE_CENTER_M: Final = (0.3, 0.0, -0.015)
TABLE_HALF_M: Final = (0.65, 0.4, 0.015)

#: Walls of the U-shaped obstacle relative to its front wall's centre: centre and half sizes. The front wall ends
#: where the side walls begin: boxes that overlap flicker in the cameras.
OBSTACLE_WALLS: Final = {
    "obstacle_front": ((0.0, 0.0, 0.0), (0.01, 0.165, 0.015)),
    "obstacle_left": ((-0.075, 0.175, 0.0), (0.085, 0.01, 0.015)),
    "obstacle_right": ((-0.075, -0.175, 0.0), (0.085, 0.01, 0.015)),
}

#: 20 and more solve the task; 10 lose it.
_SOLVER_ITERATIONS: Final = 30


def set_options(spec: mujoco.MjSpec, timestep_s: float) -> None:
    """Physics options that every scene of this project shares."""
    spec.option.timestep = timestep_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    # mujoco 4.0.0 factorises a sparse Jacobian wrongly; dense is also faster at this size
    spec.option.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    spec.option.iterations = _SOLVER_ITERATIONS
    # a state that is no number must be seen, not silently replaced by the initial one
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    spec.option.gravity = (0.0, 0.0, -9.81)


def _add_furniture(spec: mujoco.MjSpec, task: Task) -> None:
    world = spec.worldbody
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, pos=TABLE_CENTER_M, size=TABLE_HALF_M, **TABLE.geom_fields()
    )
    obstacle = world.add_body(name=OBSTACLE, mocap=True, pos=task.obstacle_position_m)
    for name, (center, half) in OBSTACLE_WALLS.items():
        obstacle.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_BOX, pos=center, size=half, **TABLE.geom_fields())
    for placed in task.parts:
        body = world.add_body(name=placed.name)
        body.add_freejoint(name=placed.name)
        placed.part.add_collision(body)


def set_masses(spec: mujoco.MjSpec, masses_kg: Mapping[str, float]) -> None:
    """Scale the densities of bodies so that each weighs what it should, spread over its collision volume."""
    model = spec.compile()
    for name, mass_kg in masses_kg.items():
        factor = mass_kg / model.body(name).mass[0]
        for geom in spec.body(name).geoms:
            geom.density *= factor


def describe(
    task: Task, drive: drives.Drive = "impedance", timestep_s: float | None = None, visual: bool = False
) -> mujoco.MjSpec:
    """Describe the scene of ``task``, for ``build`` to compile.

    Args:
      task: what to place.
      drive: who turns joint commands into torques (see ``drive``).
      timestep_s: physics step; by default the task's.
      visual: add visual meshes, lights and cameras, for rendering.

    Raises:
      ResipError: the wheel with the meshes is not installed.
    """
    spec = robot.load()
    spec.compiler.discardvisual = False
    spec.modelname = task.name
    set_options(spec, timestep_s or task.timestep_s)
    _add_furniture(spec, task)
    set_masses(spec, {placed.name: placed.part.mass_kg for placed in task.parts})
    drives.add_drive(spec, drive)
    if visual:
        from resip_training.sim import visuals  # meshes are converted at first use: only when wanted

        visuals.add_visuals(spec, tuple(placed.part for placed in task.parts))
    return spec


def build(
    task: Task, drive: drives.Drive = "impedance", timestep_s: float | None = None, visual: bool = False
) -> mujoco.MjModel:
    """Compile the scene of ``task``: arguments and errors are those of ``describe``."""
    return describe(task, drive, timestep_s, visual).compile()
