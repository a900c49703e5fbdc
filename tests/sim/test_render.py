"""What the cameras see: the cell, from where the reference's cameras stand, the same for the same state."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
from resip import spaces
from resip.control import panda
from resip.errors import ResipError, UnknownNameError
from resip_training.render import gl
from resip_training.render.renderer import Renderer
from resip_training.sim import robot, scene, tasks, visuals
from resip_training.sim.task import nominal_poses

TASK = tasks.ONE_LEG


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return scene.build(TASK, visual=True)


@pytest.fixture
def data(model: mujoco.MjModel) -> mujoco.MjData:
    """The nominal layout, the arm in its reset pose, the gripper open."""
    data = mujoco.MjData(model)
    for name, angle in zip(panda.JOINT_NAMES, panda.RESET_RAD, strict=True):
        data.joint(name).qpos[0] = angle
    for name in panda.FINGER_NAMES:
        data.joint(name).qpos[0] = 0.0325
    for name, pose in zip(TASK.part_names, nominal_poses(TASK), strict=False):
        data.joint(name).qpos[:] = pose[[0, 1, 2, 6, 3, 4, 5]]
    mujoco.mj_forward(model, data)
    return data


@pytest.fixture
def renderer(model: mujoco.MjModel) -> Iterator[Renderer]:
    with Renderer(model) as renderer:
        yield renderer


def _bodies_seen(model: mujoco.MjModel, geoms: np.ndarray) -> dict[str, int]:
    """Pixels of each body in a segmentation."""
    bodies = model.geom_bodyid[geoms[geoms >= 0]]
    return {model.body(i).name: int(count) for i, count in zip(*np.unique(bodies, return_counts=True), strict=True)}


def test_images_have_the_contract_s_size(renderer: Renderer, data: mujoco.MjData):
    for camera in spaces.CAMERAS:
        image = renderer.render(data, camera)
        assert image.shape == (spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous


def test_the_front_camera_sees_every_part_the_obstacle_and_the_arm(
    model: mujoco.MjModel, renderer: Renderer, data: mujoco.MjData
):
    seen = _bodies_seen(model, renderer.segment(data, "front"))
    for body in (*TASK.part_names, "obstacle", "panda_hand", "panda_leftfinger", "panda_link0"):
        assert seen.get(body, 0) > 20, body
    assert seen["square_table_top"] > 500


def test_the_wrist_camera_sees_the_part_below_between_the_fingers(
    model: mujoco.MjModel, renderer: Renderer, data: mujoco.MjData
):
    geoms = renderer.segment(data, "wrist")
    seen = _bodies_seen(model, geoms)
    assert seen["square_table_top"] > geoms.size // 4
    half = geoms.shape[1] // 2
    bodies = {name: model.body(name).id for name in robot.FINGER_BODIES}
    columns = {name: np.argwhere(model.geom_bodyid[geoms] == body)[:, 1] for name, body in bodies.items()}
    sides = {name: bool(xs.mean() < half) for name, xs in columns.items()}
    assert sorted(sides.values()) == [False, True], "one finger at each edge"


def test_nothing_is_overexposed_or_dark(renderer: Renderer, data: mujoco.MjData):
    for camera in spaces.CAMERAS:
        image = renderer.render(data, camera)
        assert image.max() < 250, camera
        assert 60 < image.mean() < 190, camera
        assert image.std() > 30, camera


def test_the_same_state_gives_the_same_pixels(model: mujoco.MjModel, renderer: Renderer, data: mujoco.MjData):
    first = {camera: renderer.render(data, camera) for camera in spaces.CAMERAS}
    moved = mujoco.MjData(model)
    moved.qpos[:] = data.qpos
    moved.joint("panda_joint1").qpos[0] += 0.3
    mujoco.mj_forward(model, moved)
    assert (renderer.render(moved, "front") != first["front"]).any()
    with Renderer(model) as other:
        for camera in reversed(spaces.CAMERAS):
            np.testing.assert_array_equal(renderer.render(data, camera), first[camera])
            np.testing.assert_array_equal(other.render(data, camera), first[camera])


def test_shadows_darken_and_can_be_left_out(model: mujoco.MjModel, data: mujoco.MjData):
    with Renderer(model, shadows=True) as shaded, Renderer(model, shadows=False) as plain:
        difference = plain.render(data, "front").astype(int) - shaded.render(data, "front")
    assert (difference > 20).mean() > 0.02
    assert (difference < -20).mean() < 0.002


def test_the_front_camera_stands_where_the_reference_s_does(model: mujoco.MjModel, data: mujoco.MjData):
    camera = data.camera("front")
    np.testing.assert_allclose(camera.xpos, (1.20, 0.0, 0.235))
    right, up, backward = camera.xmat.reshape(3, 3).T
    view = np.array([-0.7, 0.0, -0.115]) - camera.xpos
    np.testing.assert_allclose(-backward, view / np.linalg.norm(view), atol=1e-9)
    np.testing.assert_allclose(right, (0.0, 1.0, 0.0), atol=1e-9)
    assert up[2] > 0.9


def test_the_wrist_camera_is_fixed_to_the_fingertip_frame(model: mujoco.MjModel, data: mujoco.MjData):
    tip = panda.ee_pose(panda.RESET_RAD)
    camera = data.camera("wrist")
    np.testing.assert_allclose(tip.matrix.T @ (camera.xpos - tip.position), (-0.04, 0.0, -0.05), atol=1e-5)
    pitch = np.deg2rad(-70.0)
    x_axis_pitched = tip.matrix @ (np.cos(pitch), 0.0, -np.sin(pitch))
    np.testing.assert_allclose(-camera.xmat.reshape(3, 3)[:, 2], x_axis_pitched, atol=1e-5)


def test_the_optics_are_those_of_the_real_cameras(model: mujoco.MjModel):
    for name, focal_px in (("front", 607.391), ("wrist", 613.162)):
        assert visuals.CAMERAS[name].focal_px(480) == pytest.approx(focal_px)
        assert model.camera(name).fovy[0] == pytest.approx(visuals.CAMERAS[name].fovy_deg)


def test_visuals_leave_the_physics_alone(model: mujoco.MjModel):
    bare = scene.build(TASK)
    assert [bare.body(i).name for i in range(bare.nbody)] == [model.body(i).name for i in range(model.nbody)]
    np.testing.assert_allclose(model.body_mass, bare.body_mass)
    np.testing.assert_allclose(model.body_inertia, bare.body_inertia)
    seen_only = model.geom_group == 2
    assert seen_only.sum() == model.ngeom - bare.ngeom
    assert not model.geom_contype[seen_only].any()
    assert not model.geom_conaffinity[seen_only].any()


def test_a_renderer_works_in_a_thread_of_its_own_and_only_there(model: mujoco.MjModel, data: mujoco.MjData):
    renderer, images, errors = Renderer(model), [], []
    used, checked = threading.Event(), threading.Event()

    def work() -> None:
        images.append(renderer.render(data, "front"))
        used.set()
        assert checked.wait(30)
        renderer.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert used.wait(30)
    try:
        renderer.render(data, "front")
    except RuntimeError as error:
        errors.append(str(error))
    checked.set()
    thread.join(30)
    assert len(errors) == 1
    assert "thread" in errors[0]
    with Renderer(model) as here:
        np.testing.assert_array_equal(here.render(data, "front"), images[0])


def test_an_unknown_camera_is_answered_with_the_known_ones(renderer: Renderer, data: mujoco.MjData):
    with pytest.raises(UnknownNameError, match="front, overview, wrist"):
        renderer.render(data, "side")


def test_an_image_that_is_too_large_is_refused(model: mujoco.MjModel):
    with pytest.raises(ResipError, match="at most 960x540"):
        Renderer(model, width=1920, height=1080)


def test_a_backend_that_needs_a_display_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(ResipError, match="egl or osmesa"):
        gl.choose_backend()


def test_without_egl_osmesa_is_used_and_without_both_the_packages_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(gl, "_egl_answers", lambda: False)
    monkeypatch.setattr(gl.ctypes.util, "find_library", lambda name: "libOSMesa.so.8")
    assert gl.choose_backend() == "osmesa"
    monkeypatch.setattr(gl.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(ResipError, match="libegl1 libgl1-mesa-dri libosmesa6"):
        gl.choose_backend()


_LEFT_OPEN = """
import mujoco
from resip_training.render.renderer import Renderer
from resip_training.sim import scene, tasks
model = scene.build(tasks.ONE_LEG, visual=True)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = Renderer(model)
print(renderer.render(data, "front").std() > 10)
"""


_NO_OSMESA = pytest.mark.skipif(not ctypes.util.find_library("OSMesa"), reason="apt-get install libosmesa6")


@pytest.mark.parametrize("backend", ["", pytest.param("osmesa", marks=_NO_OSMESA)])
def test_a_renderer_left_open_does_not_disturb_the_interpreter_s_exit(backend: str):
    # this process has chosen its own OpenGL already, and PyOpenGL says so in the environment
    inherited = {name: value for name, value in os.environ.items() if name != "PYOPENGL_PLATFORM"}
    done = subprocess.run(
        [sys.executable, "-c", _LEFT_OPEN],
        env={**inherited, "MUJOCO_GL": backend},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "True", "")
