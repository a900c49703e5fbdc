"""`resip usd`: the episodes of a data set as USD stages, for Isaac Sim and whatever else opens them.

A folder gets ``cell.usdc``, which has all shapes, materials, lights and cameras, and a small file for each episode,
which refers to it and moves what is in it. Metres, z up, the robot's base frame; time code t is control step t, ten
a second. Links and parts are prims of their MuJoCo bodies' names below ``/cell``, each with its pose in the base
frame; the cameras are ``/cell/camera_front`` and ``/cell/camera_wrist``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip import rotation, spaces
from resip.errors import ResipError

from resip_training.data.store import DemoSet
from resip_training.progress import progress_bars
from resip_training.render.dataset import task_of
from resip_training.render.replay import Replay
from resip_training.sim import visuals
from resip_training.sim.collision import VISUAL_GROUP

try:
    from pxr import Gf, Sdf, Tf, Usd, UsdGeom, UsdLux, UsdShade, Vt
except ImportError as error:
    raise ResipError("USD is written with the package usd-core: pip install -e 'training[usd]'") from error

Array = NDArray[np.float64]

CELL_FILE: Final = "cell.usdc"
_ROOT: Final = "/cell"
_TABLE: Final = f"{_ROOT}/table"
#: Apertures and focal length are in a unit of their own; only their ratio counts.
_APERTURE_PER_PX: Final = 0.01
_NEAR_FAR_M: Final = (0.01, 10.0)
_KEY_INTENSITY: Final = 1500.0
_DOME_INTENSITY: Final = 400.0
_SQUARE: Final = np.array([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]])
_ROUGHNESS: Final = 0.6  # matt, as the parts are printed


def episode_file(episode: int, seed: int) -> str:
    """Name of an episode's file."""
    return f"episode_{episode:05d}_seed_{seed}.usdc"


def write_usd(dataset: Path, out: Path) -> None:
    """Write every episode of ``dataset`` as a stage into the folder ``out``; files that are there already stay.

    Poses are the recorded ones, looks and cameras the nominal ones, also of a set that was rendered otherwise.

    Raises:
      ResipError: ``dataset`` is no sound data set of a known task, ``out`` holds another set's stages or cannot be
        written, or the meshes are missing.
    """
    demos = DemoSet(dataset)
    task = task_of(demos)
    replay = Replay(task)
    origin = {"dataset": demos.path.resolve().name, "sha256": demos.sha256(), "task": task.name}
    out.mkdir(parents=True, exist_ok=True)
    _write_cell(out / CELL_FILE, replay, origin)
    with progress_bars("steps") as bars:
        bar = bars.add_task(f"usd {task.name}", total=demos.n_steps)
        for episode, (rows, seed) in enumerate(zip(demos.episodes, demos.seeds.tolist(), strict=True)):
            path = out / episode_file(episode, seed)
            if not path.exists():
                _write_episode(path, _poses(replay, demos, rows), _moving(replay.model), {**origin, "seed": str(seed)})
            bars.advance(bar, rows.stop - rows.start)
    print(f"{demos.n_episodes} episodes, {demos.n_steps} steps in {out}")


@contextmanager
def _stage(path: Path, origin: Mapping[str, str]) -> Iterator[Usd.Stage]:
    """A new stage that is at ``path`` once it is whole."""
    for stale in path.parent.glob(f"{path.stem}.partial-*{path.suffix}"):
        stale.unlink()
    # a name of its own: USD keeps a layer that failed, under its name, for as long as anyone holds the error
    partial = path.with_name(f"{path.stem}.partial-{uuid.uuid4().hex}{path.suffix}")
    try:
        stage = Usd.Stage.CreateNew(str(partial))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        stage.SetTimeCodesPerSecond(spaces.CONTROL_HZ)
        stage.SetFramesPerSecond(spaces.CONTROL_HZ)
        stage.GetRootLayer().customLayerData = {"resip": dict(origin)}
        yield stage
        stage.GetRootLayer().Save()
        os.replace(partial, path)
    except (OSError, Tf.ErrorException) as error:
        partial.unlink(missing_ok=True)
        reason = error.args[0].commentary if isinstance(error, Tf.ErrorException) else error
        raise ResipError(f"{path} cannot be written ({reason}): the files that are there are whole") from error


# ---- the cell ----


def _write_cell(path: Path, replay: Replay, origin: Mapping[str, str]) -> None:
    """Write what all episodes share, unless it is there for the same data set."""
    if path.exists():
        _check_origin(path, origin)
        return
    model = replay.model
    with _stage(path, origin) as stage:
        stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, _ROOT).GetPrim())
        UsdGeom.Scope.Define(stage, f"{_ROOT}/materials")
        materials = {i: _add_material(stage, model.mat(i).name, model.mat_rgba[i]) for i in range(model.nmat)}
        UsdGeom.Xform.Define(stage, _TABLE)
        for name in _bodies(model):
            _place(UsdGeom.Xform.Define(stage, f"{_ROOT}/{name}"))
        for geom in np.flatnonzero(model.geom_group == VISUAL_GROUP).tolist():
            _add_geom(stage, model, geom, materials)
        for camera in spaces.CAMERAS:
            _add_camera(stage, replay, camera)
        _add_lights(stage, model.light_dir[model.light(visuals.KEY_LIGHT).id])


def _check_origin(path: Path, origin: Mapping[str, str]) -> None:
    layer = Sdf.Layer.FindOrOpen(str(path))
    found = dict(layer.customLayerData).get("resip") if layer else None
    if found != dict(origin):
        raise ResipError(
            f"{path.parent} holds stages of another data set than {origin['dataset']}: choose another folder"
        )


def _bodies(model: mujoco.MjModel) -> dict[str, int]:
    """Links, parts and obstacle by name."""
    return {model.body(i).name: i for i in range(1, model.nbody)}


def _place(
    prim: UsdGeom.Xformable, position_m: Array | None = None, quat_wxyz: Array | None = None, scale: Array | None = None
) -> None:
    """Give a prim the transform operations that Isaac Sim gives its own, in their order."""
    prim.AddTranslateOp(UsdGeom.XformOp.PrecisionDouble).Set(_vector([0, 0, 0] if position_m is None else position_m))
    prim.AddOrientOp(UsdGeom.XformOp.PrecisionDouble).Set(_quat([1, 0, 0, 0] if quat_wxyz is None else quat_wxyz))
    if scale is not None:
        prim.AddScaleOp(UsdGeom.XformOp.PrecisionDouble).Set(_vector(scale))


def _add_material(stage: Usd.Stage, name: str, rgba: Array) -> UsdShade.Material:
    material = UsdShade.Material.Define(stage, f"{_ROOT}/materials/{name}")
    shader = UsdShade.Shader.Define(stage, f"{_ROOT}/materials/{name}/surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(_color(rgba))
    shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(_ROUGHNESS)
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    return material


def _add_geom(stage: Usd.Stage, model: mujoco.MjModel, geom: int, materials: Mapping[int, UsdShade.Material]) -> None:
    """Add a geom to its body's prim."""
    body = int(model.geom_bodyid[geom])
    parent = f"{_ROOT}/{model.body(body).name}" if body else _TABLE
    path, kind, size = f"{parent}/visual_{geom}", model.geom_type[geom], model.geom_size[geom]
    scale = None
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        prim, scale = UsdGeom.Cube.Define(stage, path), size  # a cube's side is 2
        prim.CreateSizeAttr(2.0)
    elif kind == mujoco.mjtGeom.mjGEOM_PLANE:
        prim = _mesh(stage, path, _SQUARE * size, np.arange(4)[None])
    elif kind == mujoco.mjtGeom.mjGEOM_MESH:
        prim = _add_mesh(stage, path, model, int(model.geom_dataid[geom]))
    else:
        raise ResipError(f"{parent} has a shape that is neither a mesh nor a box or plane: it has no form in USD yet")
    _place(prim, model.geom_pos[geom], model.geom_quat[geom], scale)
    material = int(model.geom_matid[geom])
    prim.CreateDisplayColorAttr([_color(model.mat_rgba[material])])
    UsdShade.MaterialBindingAPI.Apply(prim.GetPrim()).Bind(materials[material])


def _add_mesh(stage: Usd.Stage, path: str, model: mujoco.MjModel, mesh: int) -> UsdGeom.Mesh:
    """Add a mesh with the normals that MuJoCo shades it with, one for each corner of each face."""
    vertices = model.mesh_vert[_rows(model.mesh_vertadr[mesh], model.mesh_vertnum[mesh])]
    faces = _rows(model.mesh_faceadr[mesh], model.mesh_facenum[mesh])
    normals = model.mesh_normal[_rows(model.mesh_normaladr[mesh], model.mesh_normalnum[mesh])]
    prim = _mesh(stage, path, vertices, model.mesh_face[faces])
    prim.CreateNormalsAttr(_vectors(normals[model.mesh_facenormal[faces].ravel()]))
    prim.SetNormalsInterpolation(UsdGeom.Tokens.faceVarying)
    return prim


def _rows(first: int, count: int) -> slice:
    return slice(int(first), int(first) + int(count))


def _mesh(stage: Usd.Stage, path: str, vertices: NDArray[Any], faces: NDArray[Any]) -> UsdGeom.Mesh:
    prim = UsdGeom.Mesh.Define(stage, path)
    prim.CreatePointsAttr(_vectors(vertices))
    prim.CreateFaceVertexCountsAttr([faces.shape[1]] * len(faces))
    prim.CreateFaceVertexIndicesAttr(faces.ravel().tolist())
    prim.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    return prim


def _add_camera(stage: Usd.Stage, replay: Replay, name: str) -> None:
    """Add a camera with its intrinsics: it looks along its -z with y up, in USD as in MuJoCo."""
    view = replay.view(name)
    camera = UsdGeom.Camera.Define(stage, _camera_path(name))
    camera.CreateHorizontalApertureAttr(_APERTURE_PER_PX * view.width_px)
    camera.CreateVerticalApertureAttr(_APERTURE_PER_PX * view.height_px)
    camera.CreateFocalLengthAttr(_APERTURE_PER_PX * view.focal_px)
    camera.CreateClippingRangeAttr(Gf.Vec2f(*_NEAR_FAR_M))
    _place(camera)


def _camera_path(name: str) -> str:
    return f"{_ROOT}/camera_{name}"


def _add_lights(stage: Usd.Stage, key_direction: Array) -> None:
    """Add lights to see by: one from where the cell's is, and one from everywhere."""
    key = UsdLux.DistantLight.Define(stage, f"{_ROOT}/light_key")
    key.CreateIntensityAttr(_KEY_INTENSITY)
    turn = Gf.Rotation(Gf.Vec3d(0, 0, -1), _vector(key_direction)).GetQuat()
    _place(key, quat_wxyz=np.array([turn.GetReal(), *turn.GetImaginary()]))
    UsdLux.DomeLight.Define(stage, f"{_ROOT}/light_dome").CreateIntensityAttr(_DOME_INTENSITY)


# ---- an episode ----


def _write_episode(path: Path, poses: tuple[Array, Array], moving: Sequence[str], origin: Mapping[str, str]) -> None:
    """Write a stage in which the prims at the paths ``moving`` have ``poses`` (see ``_poses``)."""
    positions, quats = poses
    with _stage(path, origin) as stage:
        root = stage.DefinePrim(_ROOT)
        root.GetReferences().AddReference(f"./{CELL_FILE}")
        stage.SetDefaultPrim(root)
        stage.SetStartTimeCode(0)
        stage.SetEndTimeCode(len(positions) - 1)
        for i, prim in enumerate(moving):
            _move(stage, prim, positions[:, i], quats[:, i])


def _moving(model: mujoco.MjModel) -> list[str]:
    """Paths of all prims that an episode gives a pose: links, parts, obstacle, cameras."""
    return [f"{_ROOT}/{name}" for name in _bodies(model)] + [_camera_path(name) for name in spaces.CAMERAS]


def _poses(replay: Replay, demos: DemoSet, rows: slice) -> tuple[Array, Array]:
    """Of all that is ``_moving``, at each step: positions ``(T, n, 3)``, m, and quaternions ``(T, n, 4)``, wxyz."""
    bodies = list(_bodies(replay.model).values())
    positions, quats = [], []
    for row in range(rows.start, rows.stop):
        width_m = float(demos.robot_state[row, spaces.STATE_GRIPPER_WIDTH.start])
        replay.pose(demos.joint_positions[row], width_m, demos.part_poses[row])
        views = [replay.view(name).camera for name in spaces.CAMERAS]
        turns = [np.roll(rotation.quat_from_matrix(view.matrix), 1) for view in views]
        positions.append([*replay.data.xpos[bodies], *(view.position for view in views)])
        quats.append([*replay.data.xquat[bodies], *turns])
    return np.array(positions), _continuous(np.array(quats))


def _continuous(quats: Array) -> Array:
    """The same rotations ``(T, n, 4)`` without changes of sign, across which renderers would interpolate."""
    flips = (quats[1:] * quats[:-1]).sum(axis=-1) < 0
    signs = np.where(np.cumsum(flips, axis=0) % 2 == 1, -1.0, 1.0)
    return np.concatenate([quats[:1], signs[..., None] * quats[1:]])


def _move(stage: Usd.Stage, path: str, positions: Array, quats: Array) -> None:
    """Give a prim of the cell a pose at each time code."""
    prim = stage.OverridePrim(path)
    translate, orient = prim.GetAttribute("xformOp:translate"), prim.GetAttribute("xformOp:orient")
    for t, (position, quat) in enumerate(zip(positions, quats, strict=True)):
        translate.Set(_vector(position), t)
        orient.Set(_quat(quat), t)


def _vector(values: Any) -> Gf.Vec3d:
    return Gf.Vec3d(*map(float, values))


def _vectors(values: NDArray[Any]) -> Vt.Vec3fArray:
    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, dtype=np.float32))


def _color(rgba: NDArray[Any]) -> Gf.Vec3f:
    return Gf.Vec3f(*map(float, rgba[:3]))


def _quat(wxyz: Any) -> Gf.Quatd:
    return Gf.Quatd(*map(float, wxyz))
