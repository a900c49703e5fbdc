"""Meshes of the arm and the furniture: where the wheel keeps them, and their conversion for rendering.

The geometry is that of the wheel ``furniture-bench`` 0.1, which is located but never imported (its code
needs simulators that this project does not have). MuJoCo reads neither the arm's DAE files nor wants the
wheel's 200 000 faces, so at first use each mesh becomes one lean OBJ a material colour, in
``$XDG_CACHE_HOME/resip/meshes-<hash>``. A file there that is missing or damaged is made again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from resip.errors import ResipError

if TYPE_CHECKING:
    import trimesh

Rgba = tuple[float, float, float, float]

#: Part of the cache key: raise it when the conversion below changes its output.
_CONVERSION_VERSION: Final = 2
_WHEEL_PACKAGE: Final = "furniture_bench"
_FRANKA: Final = Path("assets/franka_description_ros/franka_description")
_FURNITURE: Final = Path("assets/furniture/mesh")
_INDEX: Final = "index.json"

#: The wheel's arm has 134 000 faces; a tenth of them, shaded like the original, looks the same at 320x240.
_ARM_KEEP: Final = 0.07
#: Details of an arm link, and its fingers, which fill the wrist camera's lower edge, stay as they are.
_ARM_MIN_FACES: Final = 700
#: The library's default of 7 moves surfaces by up to 15 mm, 5 by at most 4; smaller values leave holes bridged.
_AGGRESSION: Final = 5
_THREAD_FACES: Final = 360
#: A thread is a helical tube: it fills a seventh of its bounding box, every other body of a part a third or more.
_THREAD_MAX_FILL: Final = 0.2
_THREAD_MAX_SIZE_M: Final = 0.035
#: A lean face takes a source's normal that lies within 40 degrees of its own, else it is shaded flat.
_MIN_AGREEMENT: Final = 0.77
_NORMAL_CANDIDATES: Final = 8
#: Edges of the source sharper than this stay edges.
_CREASE_RAD: Final = 0.6
_CORNER_INSET: Final = 0.02
_FURNITURE_RGBA: Final[Rgba] = (1.0, 1.0, 1.0, 1.0)


class AssetsError(ResipError):
    """The meshes' wheel is missing or incomplete, or the cache cannot be written."""


@dataclass(frozen=True)
class VisualMesh:
    """One converted mesh of a single colour: an OBJ file in metres, in the source mesh's frame."""

    path: Path
    rgba: Rgba
    """Colour of the source's material; white for furniture, whose colour is the scene's choice."""
    faces: int


def _in_wheel(relative: Path) -> Path:
    spec = importlib.util.find_spec(_WHEEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise AssetsError(
            "the meshes of arm and furniture are missing: run `make setup`"
            " or `pip install --no-deps furniture-bench==0.1`"
        )
    path = Path(spec.submodule_search_locations[0]) / relative
    if not path.is_file():
        raise AssetsError(f"no file {path}: reinstall the meshes with `pip install --no-deps furniture-bench==0.1`")
    return path


def panda_urdf() -> Path:
    """Return the arm's URDF; it names its meshes as ``package://franka_description/...``.

    Raises:
      AssetsError: the wheel is not installed or incomplete; so do the other functions here.
    """
    return _in_wheel(_FRANKA / "robots/franka_panda.urdf")


def panda_visual_mesh(link: str) -> Path:
    """Return the DAE of a link (``link0`` to ``link7``, ``hand``, ``finger``), in the link's frame, metres."""
    return _in_wheel(_FRANKA / f"meshes/visual/{link}.dae")


def panda_collision_mesh(link: str) -> Path:
    """Return the convex STL of a link (``link0`` to ``link7``, ``hand``), in the link's frame, metres."""
    return _in_wheel(_FRANKA / f"meshes/collision/{link}.stl")


def furniture_mesh(name: str) -> Path:
    """Return the OBJ of a furniture part, such as ``square_table/square_table_leg4``, in its own frame, metres."""
    return _in_wheel(_FURNITURE / f"{name}.obj")


def cache_root() -> Path:
    """Return the folder of converted meshes: ``$XDG_CACHE_HOME/resip``, by default ``~/.cache/resip``."""
    configured = os.environ.get("XDG_CACHE_HOME")
    return (Path(configured) if configured else Path.home() / ".cache") / "resip"


def visual_meshes(source: Path) -> tuple[VisualMesh, ...]:
    """Convert a DAE of the arm or an OBJ of the furniture for rendering, or take it from the cache.

    Args:
      source: what ``panda_visual_mesh`` or ``furniture_mesh`` returned.

    Returns:
      One mesh for each of the source's colours.

    Raises:
      AssetsError: the cache cannot be written.
    """
    key = hashlib.sha256(f"{_CONVERSION_VERSION} {source.name} ".encode() + source.read_bytes()).hexdigest()
    folder = cache_root() / f"meshes-{key[:16]}"
    cached = _read_cache(folder)
    if cached is not None:
        return cached
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _write_cache(folder, source)
    except OSError as error:
        raise AssetsError(f"cannot keep converted meshes in {folder} ({error}): set XDG_CACHE_HOME") from error


def _read_cache(folder: Path) -> tuple[VisualMesh, ...] | None:
    """Meshes of a cache folder, None if anything there is missing or differs from its checksum."""
    try:
        index = json.loads((folder / _INDEX).read_text())
        entries = [(folder / name, entry) for name, entry in index.items()]
        if not entries or any(_sha256(path.read_bytes()) != entry["sha256"] for path, entry in entries):
            return None
        return tuple(VisualMesh(path, tuple(entry["rgba"]), entry["faces"]) for path, entry in entries)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # whatever is wrong with it, it is made again


def _write_cache(folder: Path, source: Path) -> tuple[VisualMesh, ...]:
    """Convert ``source`` into ``folder``; the index comes last, so that an interrupt leaves no valid cache.

    Two processes may do this at once: both write the same bytes, each file in one step.
    """
    meshes, index = [], {}
    for number, (rgba, mesh) in enumerate(_convert(source).items()):
        path = folder / f"{source.stem}_{number}.obj"
        text = _obj_text(mesh).encode()
        _replace(path, text)
        meshes.append(VisualMesh(path, rgba, len(mesh.faces)))
        index[path.name] = {"sha256": _sha256(text), "rgba": rgba, "faces": len(mesh.faces)}
    _replace(folder / _INDEX, json.dumps(index, indent=1).encode())
    return tuple(meshes)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step: readers see the old one or the new one, never half of it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


def _convert(source: Path) -> dict[Rgba, trimesh.Trimesh]:
    return _arm_meshes(source) if source.suffix == ".dae" else {_FURNITURE_RGBA: _furniture_mesh(source)}


def _arm_meshes(source: Path) -> dict[Rgba, trimesh.Trimesh]:
    """The bodies of a link joined by colour, decimated."""
    import trimesh

    by_colour: dict[Rgba, list[trimesh.Trimesh]] = {}
    for mesh in trimesh.load_scene(source).dump():
        if isinstance(mesh, trimesh.Trimesh):
            by_colour.setdefault(_material_rgba(mesh), []).append(mesh)
    joined = {rgba: _joined(meshes) for rgba, meshes in by_colour.items()}
    return {
        rgba: _shaded_like(_decimated(_welded(mesh), max(int(len(mesh.faces) * _ARM_KEEP), _ARM_MIN_FACES)), mesh)
        for rgba, mesh in joined.items()
    }


def _material_rgba(mesh: trimesh.Trimesh) -> Rgba:
    from trimesh.visual import TextureVisuals

    assert isinstance(mesh.visual, TextureVisuals)  # what the DAE reader makes of a material
    red, green, blue, alpha = (round(int(channel) / 255, 3) for channel in mesh.visual.material.main_color)
    return red, green, blue, alpha


def _furniture_mesh(source: Path) -> trimesh.Trimesh:
    """A part with its threads decimated; the rest carries engravings and keeps every face."""
    import trimesh

    mesh = trimesh.load_mesh(source, process=False, skip_materials=True)
    bodies = _welded(mesh).split(only_watertight=False)
    lean = _joined([_decimated(body, _THREAD_FACES) if _is_thread(body) else body for body in bodies])
    return _shaded_like(lean, mesh)


def _is_thread(body: trimesh.Trimesh) -> bool:
    size = body.extents
    return bool(max(size) < _THREAD_MAX_SIZE_M and body.volume < _THREAD_MAX_FILL * size.prod())


def _welded(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """A mesh whose faces share vertices: the sources split them wherever normals or texture differ."""
    import trimesh

    welded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    welded.merge_vertices()
    welded.update_faces(welded.nondegenerate_faces())
    return welded


def _decimated(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    import fast_simplification
    import trimesh

    if len(mesh.faces) <= faces:
        return mesh
    simplified = fast_simplification.simplify(mesh.vertices, mesh.faces, target_count=faces, agg=_AGGRESSION)
    return trimesh.Trimesh(simplified[0], simplified[1], process=False)


def _joined(meshes: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    import trimesh

    whole = trimesh.util.concatenate(meshes)
    assert isinstance(whole, trimesh.Trimesh)  # meshes joined are a mesh; the annotation is wider
    return whole


def _shaded_like(lean: trimesh.Trimesh, source: trimesh.Trimesh) -> trimesh.Trimesh:
    """Give each corner of each face the dense source's smooth normal there, so that few faces look like many.

    It is the nearest source normal that roughly agrees with the face: edges stay hard, curves smooth.
    """
    import trimesh
    from scipy.spatial import KDTree
    from trimesh.graph import smooth_shade

    source = smooth_shade(_welded(source), angle=_CREASE_RAD)
    corners = lean.triangles.reshape(-1, 3)
    face_normals = np.repeat(lean.face_normals, 3, axis=0)
    inside = corners + _CORNER_INSET * (np.repeat(lean.triangles_center, 3, axis=0) - corners)
    _, nearest = KDTree(source.vertices).query(inside, k=_NORMAL_CANDIDATES)
    candidates = source.vertex_normals[nearest]
    agreement = np.einsum("ckx,cx->ck", candidates, face_normals)
    fits = agreement > _MIN_AGREEMENT
    first = candidates[np.arange(len(corners)), fits.argmax(axis=1)]
    normals = np.where(fits.any(axis=1)[:, None], first, face_normals)
    return trimesh.Trimesh(
        corners, np.arange(len(corners)).reshape(-1, 3), vertex_normals=normals, process=False, validate=False
    )


def _obj_text(mesh: trimesh.Trimesh) -> str:
    lines = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in mesh.vertices]
    lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in mesh.vertex_normals]
    lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in mesh.faces + 1]
    return "\n".join(lines) + "\n"
