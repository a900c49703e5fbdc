"""What the cameras see: meshes, colours, lights, background and the cameras of the cell.

Visual geoms collide with nothing and weigh nothing: physics is the same with and without them. Every colour is
a named material, table and background have textures and some lights are off, so that visual randomisation can
change all of it in the compiled model (see ``appearance``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip import spaces

from resip_training.sim import assets
from resip_training.sim.collision import VISUAL_GROUP
from resip_training.sim.parts import Part

Vector = tuple[float, float, float]

#: Materials that are not a part's; a part's material has the part's name.
TABLE_MATERIAL: Final = "table"
OBSTACLE_MATERIAL: Final = "obstacle"
#: Materials of the arm have names that begin so.
ARM_MATERIAL_PREFIX: Final = "panda_"
#: White nominally, so that the table has the plain colour of its material.
TABLE_TEXTURE: Final = "table"
BACKGROUND_TEXTURE: Final = "background"
#: The only light that casts shadows; besides it there is the headlight.
KEY_LIGHT: Final = "key"
#: Lights that are off unless randomisation turns them on.
FILL_LIGHTS: Final = ("fill_1", "fill_2")

#: Largest image that a scene's off-screen buffer holds.
MAX_IMAGE_WIDTH_PX: Final = 960
MAX_IMAGE_HEIGHT_PX: Final = 540

_TABLE_RGBA: Final = (0.87, 0.83, 0.77, 1.0)
_OBSTACLE_RGBA: Final = (0.86, 0.86, 0.85, 1.0)
_PART_RGBA: Final = (0.95, 0.95, 0.95, 1.0)
_SKY_TOP_RGB: Final = (0.23, 0.26, 0.31)
_SKY_BOTTOM_RGB: Final = (0.10, 0.11, 0.13)

#: Default lights overexpose white parts: these sum to under 1.
_AMBIENT, _HEADLIGHT, _KEY = 0.22, 0.32, 0.42
_SHADOW_MAP_PX: Final = 2048  # 0.8 mm: coarser shows as stairs in the wrist camera
_TABLE_TEXTURE_PX: Final = 128
_BACKGROUND_FACE_PX: Final = 64
_MULTISAMPLES: Final = 4
#: The middle of the work and the radius around it that shadows are drawn for.
_SCENE_CENTER_M: Final[Vector] = (0.45, 0.0, 0.15)
_SCENE_EXTENT_M: Final = 0.8
_LIGHT_DISTANCE_M: Final = 1.5
_KEY_DIRECTION: Final = np.array([-0.35, 0.45, -1.0])

_SLAB_GAP_M: Final = 0.001  # between the table's surface and the slab below it: far enough not to flicker

_FINGER_TURNED: Final = (0.0, 0.0, 0.0, 1.0)  # the URDF turns the right finger's mesh by 180 degrees about z
#: Body, mesh of the wheel, quaternion (wxyz) of the mesh in the body.
_ARM_MESHES: Final = (
    *((f"panda_link{i}", f"link{i}", (1.0, 0.0, 0.0, 0.0)) for i in range(8)),
    ("panda_hand", "hand", (1.0, 0.0, 0.0, 0.0)),
    ("panda_leftfinger", "finger", (1.0, 0.0, 0.0, 0.0)),
    ("panda_rightfinger", "finger", _FINGER_TURNED),
)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera fixed to a body; vectors are in that body's frame."""

    body: str
    position_m: Vector
    forward: Vector
    """Direction of view, of any length."""
    up: Vector
    """Any vector that points up in the image."""
    fovy_deg: float
    """Vertical field of view."""

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Axes of the image in the body's frame, as columns ``(3, 3)``: right, up, backward."""
        backward = -np.asarray(self.forward) / np.linalg.norm(self.forward)
        right = np.cross(self.up, backward)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(backward, right), backward], axis=1)

    def focal_px(self, height_px: int) -> float:
        """Focal length of an image of that height; pixels are square."""
        return float(height_px / (2.0 * np.tan(np.deg2rad(self.fovy_deg) / 2.0)))


def _fovy_deg(focal_px: float, height_px: int) -> float:
    return float(np.rad2deg(2.0 * np.arctan(height_px / (2.0 * focal_px))))


_WRIST_PITCH = np.deg2rad(-70.0)

#: Poses from the reference's simulator, focal lengths from its RealSense cameras (640x480).
CAMERAS: Final = MappingProxyType(
    {
        "front": Camera(
            body="world",
            position_m=(1.20, 0.0, 0.235),
            forward=(-0.7 - 1.20, 0.0, -0.115 - 0.235),
            up=(0.0, 0.0, 1.0),
            fovy_deg=_fovy_deg(607.391, 480),
        ),
        # 4 cm behind and 5 cm above the fingertip frame, along that frame's x axis pitched by -70 degrees
        "wrist": Camera(
            body="panda_hand",
            position_m=(-0.04, 0.0, spaces.EE_OFFSET_FROM_FLANGE_M - 0.05),
            forward=(np.cos(_WRIST_PITCH), 0.0, -np.sin(_WRIST_PITCH)),
            up=(np.sin(_WRIST_PITCH), 0.0, np.cos(_WRIST_PITCH)),
            fovy_deg=_fovy_deg(613.162, 480),
        ),
        # for people: reports and documentation
        "overview": Camera(
            body="world",
            position_m=(1.30, -0.85, 0.80),
            forward=(-1.0, 0.9, -0.56),
            up=(0.0, 0.0, 1.0),
            fovy_deg=41.0,
        ),
    }
)


def add_visuals(spec: mujoco.MjSpec, parts: Sequence[Part]) -> None:
    """Add everything that rendering needs to a scene with the arm, ``table``, ``obstacle`` and the parts' bodies.

    Args:
      spec: the scene; its part bodies have the parts' names.
      parts: which meshes to show.

    Raises:
      AssetsError: the meshes' wheel is missing or the mesh cache cannot be written.
    """
    spec.compiler.discardvisual = False
    _set_quality(spec)
    _add_lights(spec)
    _add_background(spec)
    _add_cameras(spec)
    _add_table(spec)
    _add_obstacle(spec)
    for body, mesh, quat in _ARM_MESHES:
        _add_arm_mesh(spec, spec.body(body), mesh, quat)
    for part in parts:
        _add_part(spec, part)


def _set_quality(spec: mujoco.MjSpec) -> None:
    spec.stat.center = _SCENE_CENTER_M
    spec.stat.extent = _SCENE_EXTENT_M
    visual = spec.visual
    visual.map.znear = 0.01
    visual.map.zfar = 5.0
    visual.map.shadowclip = 1.0  # of the extent: smaller makes shadows sharper and surfaces shadow themselves
    visual.quality.shadowsize = _SHADOW_MAP_PX
    visual.quality.offsamples = _MULTISAMPLES
    visual.global_.offwidth = MAX_IMAGE_WIDTH_PX
    visual.global_.offheight = MAX_IMAGE_HEIGHT_PX


def _add_lights(spec: mujoco.MjSpec) -> None:
    headlight = spec.visual.headlight
    headlight.ambient = [_AMBIENT] * 3
    headlight.diffuse = [_HEADLIGHT] * 3
    headlight.specular = [0.05] * 3
    direction = _KEY_DIRECTION / np.linalg.norm(_KEY_DIRECTION)
    for name in (KEY_LIGHT, *FILL_LIGHTS):
        spec.worldbody.add_light(
            name=name,
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            pos=light_position_m(direction),
            dir=direction,
            ambient=[0.0] * 3,
            diffuse=[_KEY] * 3,
            specular=[0.1] * 3,
            castshadow=name == KEY_LIGHT,
            active=name == KEY_LIGHT,
        )


def light_position_m(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a directional light of unit ``direction`` ``(3,)`` stands: its shadows are drawn for what is before it."""
    return np.asarray(_SCENE_CENTER_M) - _LIGHT_DISTANCE_M * direction


def _add_background(spec: mujoco.MjSpec) -> None:
    spec.add_texture(
        name=BACKGROUND_TEXTURE,
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=_SKY_TOP_RGB,
        rgb2=_SKY_BOTTOM_RGB,
        width=_BACKGROUND_FACE_PX,
        height=6 * _BACKGROUND_FACE_PX,
    )


def _add_cameras(spec: mujoco.MjSpec) -> None:
    for name, camera in CAMERAS.items():
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, camera.matrix.ravel())
        spec.body(camera.body).add_camera(name=name, pos=camera.position_m, quat=quat, fovy=camera.fovy_deg)


def _add_material(spec: mujoco.MjSpec, name: str, rgba: Sequence[float]) -> str:
    """Add a matt material, unless the scene has it already, and return its name."""
    if spec.material(name) is None:
        spec.add_material(name=name, rgba=rgba, specular=0.2, shininess=0.3)
    return name


def _visual_fields(material: str) -> dict[str, Any]:
    return {"material": material, "group": VISUAL_GROUP, "contype": 0, "conaffinity": 0, "mass": 0.0, "density": 0.0}


def _add_table(spec: mujoco.MjSpec) -> None:
    """Show the table as a plane, which unlike a box casts no shadow on itself, over a slab."""
    fields = _visual_fields(_add_table_material(spec))
    table = spec.geom("table")
    length, width, half_height = table.size
    surface = table.pos + [0.0, 0.0, half_height]
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, pos=surface, size=(length, width, 1.0), **fields)
    slab_pos, slab_size = table.pos - [0.0, 0.0, _SLAB_GAP_M], (length, width, half_height - _SLAB_GAP_M)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, pos=slab_pos, size=slab_size, **fields)


def _add_table_material(spec: mujoco.MjSpec) -> str:
    spec.add_texture(
        name=TABLE_TEXTURE,
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=(1.0, 1.0, 1.0),
        width=_TABLE_TEXTURE_PX,
        height=_TABLE_TEXTURE_PX,
    )
    name = _add_material(spec, TABLE_MATERIAL, _TABLE_RGBA)
    material = spec.material(name)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = TABLE_TEXTURE
    material.texuniform = True  # repeats count along a metre, not along the table
    return name


def _add_obstacle(spec: mujoco.MjSpec) -> None:
    fields = _visual_fields(_add_material(spec, OBSTACLE_MATERIAL, _OBSTACLE_RGBA))
    obstacle = spec.body("obstacle")
    for wall in obstacle.geoms:
        obstacle.add_geom(type=wall.type, pos=wall.pos, size=wall.size, **fields)


def _add_mesh(spec: mujoco.MjSpec, path: Path) -> str:
    """Add a mesh asset, unless the scene has it already, and return its name."""
    if spec.mesh(path.stem) is None:
        # surfaces may be open: as shells they need no volume
        spec.add_mesh(name=path.stem, file=str(path), inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
    return path.stem


def _add_mesh_geom(
    body: mujoco.MjsBody, mesh: str, material: str, quat: Sequence[float] = (1.0, 0.0, 0.0, 0.0)
) -> None:
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=mesh, quat=quat, **_visual_fields(material))


def _add_arm_mesh(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, quat: Sequence[float]) -> None:
    for mesh in assets.visual_meshes(assets.panda_visual_mesh(name)):
        red, green, blue = (round(255 * channel) for channel in mesh.rgba[:3])
        material = _add_material(spec, f"{ARM_MATERIAL_PREFIX}{red:02x}{green:02x}{blue:02x}", mesh.rgba)
        _add_mesh_geom(body, _add_mesh(spec, mesh.path), material, quat)


def _add_part(spec: mujoco.MjSpec, part: Part) -> None:
    material = _add_material(spec, part.name, _PART_RGBA)
    body = spec.body(part.name)
    if part.mesh is None:
        for geom in body.geoms:
            body.add_geom(type=geom.type, pos=geom.pos, quat=geom.quat, size=geom.size, **_visual_fields(material))
        return
    for mesh in assets.visual_meshes(assets.furniture_mesh(part.mesh)):
        _add_mesh_geom(body, _add_mesh(spec, mesh.path), material)
