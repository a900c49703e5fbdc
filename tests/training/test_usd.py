"""Trajectories as USD: what a stage says when it is opened is what was recorded."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_demos import write_demos
from pxr import Gf, Usd, UsdGeom, UsdShade
from resip import spaces
from resip.control import panda
from resip.errors import ResipError
from resip_training.data.store import DemoSet, DemoWriter, Episode, Provenance
from resip_training.experts.rollout import run_expert
from resip_training.render import usd
from resip_training.render.replay import Replay
from resip_training.render.usd import CELL_FILE, episode_file, write_usd
from resip_training.sim import tasks
from resip_training.sim.collision import VISUAL_GROUP

TASK = tasks.PEG_HOLE
SEEDS = (60, 61)
STEPS = 12
NUMBERS = ("robot_state", "part_poses", "action", "reward", "joint_positions")


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    """Every tenth step of two of the expert's episodes."""
    path = tmp_path_factory.mktemp("recorded") / "peg_hole_low"
    writer = DemoWriter(path, Provenance(TASK.name, "low", "expert", TASK.part_names, {}, images=False))
    for run in sorted(run_expert(TASK.name, "low", SEEDS, threads=1), key=lambda run: run.seed):
        rows = np.linspace(0, len(run) - 1, STEPS).astype(int)
        writer.append(Episode(**{name: getattr(run, name)[rows] for name in NUMBERS}, seed=run.seed, success=True))
    return DemoSet(path)


@pytest.fixture(scope="module")
def folder(demos: DemoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("usd") / "stages"
    write_usd(demos.path, out)
    return out


@pytest.fixture(scope="module")
def stage(folder: Path) -> Usd.Stage:
    """The second episode's."""
    return Usd.Stage.Open(str(folder / episode_file(1, SEEDS[1])))


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay(TASK)


def posed(replay: Replay, demos: DemoSet, step: int) -> Replay:
    """The second episode at a step."""
    row = demos.episodes[1].start + step
    replay.pose(demos.joint_positions[row], demos.robot_state[row, 15], demos.part_poses[row])
    return replay


def placed(stage: Usd.Stage, path: str, time: float) -> np.ndarray:
    """Matrix ``(4, 4)`` from a prim's frame to the base frame, acting on columns."""
    prim = stage.GetPrimAtPath(path)
    assert prim.IsValid(), path
    return np.array(UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(time)).T


# ---- the stage ----


def test_a_stage_is_in_metres_with_z_up_and_ten_time_codes_a_second(stage: Usd.Stage):
    assert UsdGeom.GetStageUpAxis(stage) == "Z"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert stage.GetTimeCodesPerSecond() == spaces.CONTROL_HZ
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (0, STEPS - 1)
    assert stage.GetDefaultPrim().GetPath() == "/cell"


def test_an_episode_says_where_it_is_from(stage: Usd.Stage, demos: DemoSet):
    origin = stage.GetRootLayer().customLayerData["resip"]
    assert origin == {"dataset": "peg_hole_low", "sha256": demos.sha256(), "task": "peg_hole", "seed": "61"}


def test_shapes_are_in_one_file_that_all_episodes_refer_to(folder: Path, stage: Usd.Stage):
    assert {path.name for path in folder.iterdir()} == {CELL_FILE, episode_file(0, 60), episode_file(1, 61)}
    cell = next(layer for layer in stage.GetUsedLayers() if layer.realPath == str(folder / CELL_FILE))
    assert cell.GetPrimAtPath("/cell/panda_hand").nameChildren
    assert not stage.GetRootLayer().GetPrimAtPath("/cell/panda_hand").nameChildren
    assert (folder / CELL_FILE).stat().st_size > 10 * (folder / episode_file(1, 61)).stat().st_size


# ---- poses ----


def test_every_link_part_and_camera_moves_as_recorded(stage: Usd.Stage, replay: Replay, demos: DemoSet):
    model = replay.model
    for step in (0, 5, STEPS - 1):
        data = posed(replay, demos, step).data
        for body in range(1, model.nbody):
            matrix = placed(stage, f"/cell/{model.body(body).name}", step)
            np.testing.assert_allclose(matrix[:3, 3], data.xpos[body], atol=1e-9)
            np.testing.assert_allclose(matrix[:3, :3], data.xmat[body].reshape(3, 3), atol=1e-9)


def test_parts_and_fingertip_are_at_the_recorded_poses_themselves(stage: Usd.Stage, demos: DemoSet):
    rows = demos.episodes[1]
    offset = np.array([0.0, 0.0, spaces.EE_OFFSET_FROM_FLANGE_M, 1.0])  # the hand's frame is the flange's, turned
    for step in range(STEPS):
        poses = demos.part_poses[rows.start + step].reshape(-1, spaces.PART_POSE_DIM)
        for name, pose in zip((*TASK.part_names, "obstacle"), poses, strict=True):
            np.testing.assert_allclose(placed(stage, f"/cell/{name}", step)[:3, 3], pose[:3], atol=1e-6)
        tip = placed(stage, "/cell/panda_hand", step) @ offset
        np.testing.assert_allclose(tip[:3], panda.ee_pose(demos.joint_positions[rows.start + step]).position, atol=1e-5)
        np.testing.assert_allclose(tip[:3], demos.robot_state[rows.start + step, :3], atol=1e-3)


def test_rotations_never_change_sign_between_two_time_codes(stage: Usd.Stage, replay: Replay):
    for path in [f"/cell/{replay.model.body(i).name}" for i in range(1, replay.model.nbody)] + ["/cell/camera_wrist"]:
        orient = stage.GetPrimAtPath(path).GetAttribute("xformOp:orient")
        quats = [orient.Get(t) for t in orient.GetTimeSamples()]
        assert len(quats) == STEPS
        wxyz = np.array([[quat.GetReal(), *quat.GetImaginary()] for quat in quats])
        assert ((wxyz[1:] * wxyz[:-1]).sum(axis=1) > 0).all(), path


# ---- shapes and cameras ----


def test_every_shape_that_the_cell_shows_is_where_it_is(stage: Usd.Stage, replay: Replay, demos: DemoSet):
    model, data = replay.model, posed(replay, demos, 4).data
    shown = np.flatnonzero(model.geom_group == VISUAL_GROUP)
    prims = {int(p.GetName().partition("_")[2]): p for p in stage.Traverse() if p.GetName().startswith("visual_")}
    assert set(prims) == set(shown.tolist())
    for geom in shown:
        prim = prims[int(geom)]
        assert UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()[0].GetPrim().GetName() == (
            model.mat(model.geom_matid[geom]).name
        )
        if prim.IsA(UsdGeom.Mesh) and model.geom_dataid[geom] >= 0:
            mesh = model.geom_dataid[geom]
            first = model.mesh_vertadr[mesh]
            vertices = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
            matrix = placed(stage, str(prim.GetPath()), 4)
            points = np.array(UsdGeom.Mesh(prim).GetPointsAttr().Get()) @ matrix[:3, :3].T + matrix[:3, 3]
            np.testing.assert_allclose(
                points, vertices @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom], atol=1e-6
            )
            assert len(UsdGeom.Mesh(prim).GetNormalsAttr().Get()) == 3 * model.mesh_facenum[mesh]


def test_a_box_has_its_size(stage: Usd.Stage):
    """The table's slab, 1 mm below the plane that is seen."""
    bounds = UsdGeom.BBoxCache(0, ["default"]).ComputeWorldBound(stage.GetPrimAtPath("/cell/table"))
    extent = bounds.ComputeAlignedRange()
    np.testing.assert_allclose(extent.GetMin(), (-0.35, -0.4, -0.03), atol=2e-3)
    np.testing.assert_allclose(extent.GetMax(), (0.95, 0.4, 0.0), atol=1e-6)


@pytest.mark.parametrize("camera", spaces.CAMERAS)
def test_a_camera_of_the_stage_sees_a_point_at_the_pixel_where_ours_does(
    stage: Usd.Stage, replay: Replay, demos: DemoSet, camera: str
):
    for step in (0, 7):
        view = posed(replay, demos, step).view(camera)
        forward_m = -0.3 * view.camera.matrix[:, 2]
        point_m = view.camera.position + forward_m + 0.04 * view.camera.matrix[:, 0] + 0.02 * view.camera.matrix[:, 1]
        seen = UsdGeom.Camera(stage.GetPrimAtPath(f"/cell/camera_{camera}")).GetCamera(step)
        frustum = seen.frustum
        screen = (frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()).Transform(Gf.Vec3d(*point_m))
        pixel = (0.5 * (1 + screen[0]) * view.width_px, 0.5 * (1 - screen[1]) * view.height_px)
        np.testing.assert_allclose(pixel, view.project(point_m), atol=1e-3)


# ---- interrupts and errors ----


def test_what_is_there_stays_and_what_lacks_is_written(demos: DemoSet, folder: Path, tmp_path: Path):
    write_usd(demos.path, tmp_path)
    (tmp_path / episode_file(0, 60)).unlink()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write_usd(demos.path, tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert after.pop(episode_file(0, 60))
    assert after == before


def test_a_file_is_whole_or_not_there(demos: DemoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(usd.os, "replace", full)
        with pytest.raises(ResipError, match=r"cell.usdc cannot be written .*No space left"):
            write_usd(demos.path, tmp_path)
    assert not list(tmp_path.iterdir())
    write_usd(demos.path, tmp_path)


def test_stages_of_another_set_are_not_mixed_in(folder: Path, demos: DemoSet, tmp_path: Path):
    other = tmp_path / "other"
    writer = DemoWriter(other, Provenance(TASK.name, "low", "expert", TASK.part_names, {}, images=False))
    rows = demos.episodes[0]
    writer.append(Episode(**{name: getattr(demos, name)[rows] for name in NUMBERS}, seed=9, success=True))
    with pytest.raises(ResipError, match="holds stages of another data set than other"):
        write_usd(other, folder)


def test_a_set_with_other_parts_than_its_task_is_refused(tmp_path: Path):
    write_demos(tmp_path / "demos", n_episodes=1, images=False)
    with pytest.raises(ResipError, match="has the parts"):
        write_usd(tmp_path / "demos", tmp_path / "usd")


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pxr", None)
    monkeypatch.delitem(sys.modules, "resip_training.render.usd")
    with pytest.raises(ResipError, match=r"pip install -e 'training\[usd\]'"):
        importlib.import_module("resip_training.render.usd")
