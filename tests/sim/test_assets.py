"""The meshes: found without importing their wheel, converted once, and made again when the cache is damaged."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from resip.errors import ResipError
from resip_training.sim import assets


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "resip"


def _finger() -> tuple[assets.VisualMesh, ...]:
    return assets.visual_meshes(assets.panda_visual_mesh("finger"))


def test_the_wheel_is_found_without_importing_it():
    assert assets.panda_urdf().is_file()
    assert assets.panda_collision_mesh("hand").is_file()
    assert assets.furniture_mesh("square_table/square_table_leg4").is_file()
    assert "furniture_bench" not in sys.modules


def test_a_missing_wheel_is_an_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResipError, match=r"make setup.*pip install --no-deps furniture-bench==0\.1"):
        assets.panda_urdf()


def test_a_file_that_the_wheel_lacks_is_named():
    with pytest.raises(ResipError, match=r"link9\.dae"):
        assets.panda_visual_mesh("link9")


def test_a_mesh_is_converted_once(cache: Path, monkeypatch: pytest.MonkeyPatch):
    first = _finger()
    assert all(mesh.path.is_relative_to(cache) for mesh in first)

    def refuse(source: Path) -> None:
        raise AssertionError(f"converted {source} again")

    monkeypatch.setattr(assets, "_convert", refuse)
    assert _finger() == first


@pytest.mark.parametrize(
    "damage", ["truncated mesh", "missing mesh", "garbled index", "index of another shape", "no index"]
)
def test_a_damaged_cache_is_made_again(cache: Path, damage: str):
    first = _finger()
    mesh, index = first[0].path, first[0].path.parent / "index.json"
    intact = mesh.read_bytes()
    match damage:
        case "truncated mesh":
            mesh.write_bytes(intact[: len(intact) // 2])
        case "missing mesh":
            mesh.unlink()
        case "garbled index":
            index.write_bytes(b"\x00\xff{")
        case "index of another shape":
            index.write_text('{"finger_0.obj": 3}')
        case _:
            index.unlink()
    assert _finger() == first
    assert mesh.read_bytes() == intact
    assert not [path for path in mesh.parent.iterdir() if path.suffix not in (".obj", ".json")], "temporary files stay"


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    occupied = tmp_path / "file"
    occupied.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(occupied))
    with pytest.raises(ResipError, match="XDG_CACHE_HOME"):
        _finger()


def test_decimation_keeps_the_engraved_leg_and_thins_its_thread(cache: Path):
    source_path = assets.furniture_mesh("square_table/square_table_leg4")
    (mesh,) = assets.visual_meshes(source_path)
    source = trimesh.load_mesh(source_path, process=False, skip_materials=True)
    lean = trimesh.load_mesh(mesh.path, process=False)
    engraved_faces, thread_faces = 2882, 9150
    assert len(source.faces) == engraved_faces + thread_faces
    assert engraved_faces < mesh.faces == len(lean.faces) < engraved_faces + thread_faces / 10
    np.testing.assert_allclose(lean.bounds, source.bounds, atol=1e-5)


def test_an_arm_link_keeps_its_colours_and_its_size(cache: Path):
    source_path = assets.panda_visual_mesh("link5")
    meshes = assets.visual_meshes(source_path)
    source = trimesh.load_scene(source_path)
    lean = trimesh.util.concatenate([trimesh.load_mesh(mesh.path, process=False) for mesh in meshes])
    white, black = meshes
    assert white.rgba == (1.0, 1.0, 1.0, 1.0)
    assert black.rgba == (0.251, 0.251, 0.251, 1.0)
    np.testing.assert_allclose(lean.bounds, source.bounds, atol=2e-3)
    assert sum(mesh.faces for mesh in meshes) < 2500
