"""Parts that collide with their true shapes: signed distance fields of the meshes, fifty to a hundred times slower."""

from __future__ import annotations

import mujoco
import trimesh
from resip.errors import ResipError

from resip_training.sim import assets, scene
from resip_training.sim.collision import PART
from resip_training.sim.parts import Part
from resip_training.sim.task import Task


def add_sdf(spec: mujoco.MjSpec, body: mujoco.MjsBody, part: Part) -> None:
    """Add ``part``'s mesh to ``body`` as a signed distance field.

    Raises:
      ResipError: the part has no mesh, or the wheel with the meshes is not installed.
    """
    mesh = _solid(part)
    spec.add_mesh(name=part.name, uservert=mesh.vertices.ravel(), userface=mesh.faces.ravel())
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_SDF, meshname=part.name, **PART.geom_fields())


def build(task: Task, parts: tuple[str, ...]) -> mujoco.MjModel:
    """Compile the scene of ``task``, as in training but for the shapes of those ``parts``."""
    spec = scene.describe(task)
    reshaped = [placed for placed in task.parts if placed.name in parts]
    for placed in reshaped:
        body = spec.body(placed.name)
        for geom in body.geoms:
            spec.delete(geom)
        add_sdf(spec, body, placed.part)
    scene.set_masses(spec, {placed.name: placed.part.mass_kg for placed in reshaped})
    return spec.compile()


def _solid(part: Part) -> trimesh.Trimesh:
    """The mesh as one solid: the sources are made of closed bodies that overlap, and insides have no distance."""
    if part.mesh is None:
        raise ResipError(f"{part.name} has no mesh: its shape is its collision geometry")
    mesh = trimesh.load_mesh(assets.furniture_mesh(part.mesh), process=False, skip_materials=True)
    mesh = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    mesh.merge_vertices()
    mesh.update_faces(mesh.nondegenerate_faces())
    return trimesh.boolean.union(mesh.split(only_watertight=False), engine="manifold")
