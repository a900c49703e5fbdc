"""Visual randomisation: what a seed decides, within which ranges, and that physics never notices."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
from resip import rotation, spaces
from resip_training.render.replay import Replay
from resip_training.sim import scene, tasks, textures, visuals
from resip_training.sim.appearance import CUT_OFF, Appearance, Appearances, VisualRandomness
from resip_training.sim.env import AssemblyEnv

TASK = tasks.ONE_LEG
RANGES = VisualRandomness()
LIGHTS = (visuals.KEY_LIGHT, *visuals.FILL_LIGHTS)
DRAWS = 300


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return scene.build(TASK, visual=True)


@pytest.fixture(scope="module")
def appearances(model: mujoco.MjModel) -> Appearances:
    return Appearances(model)


@pytest.fixture(scope="module")
def drawn(appearances: Appearances) -> list[Appearance]:
    return [appearances.draw(5, episode) for episode in range(DRAWS)]


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    replay = Replay(TASK)
    yield replay
    replay.close()


@pytest.fixture(scope="module")
def state() -> tuple[np.ndarray, float, np.ndarray]:
    """Joints, width and part poses of a start."""
    env = AssemblyEnv("one_leg", threads=1)
    observation, _ = env.reset(seed=1)
    return env.joint_positions()[0], TASK.gripper_open_m, observation["part_poses"][0]


def stacked(drawn: list[Appearance], field: str) -> np.ndarray:
    return np.stack([one.fields[field] for one in drawn])


def same(a: Appearance, b: Appearance) -> bool:
    return a.shadows == b.shadows and all(np.array_equal(a.fields[name], b.fields[name]) for name in a.fields)


# ---- what a seed decides ----


def test_a_seed_decides_the_appearance_whatever_was_drawn_or_shown_before(model: mujoco.MjModel):
    here, there = Appearances(model), Appearances(scene.build(TASK, visual=True))
    first = here.draw(3, 7)
    here.draw(3, 8).apply(model)
    assert same(here.draw(3, 7), first)
    assert same(there.draw(3, 7), first)
    here.nominal.apply(model)


def test_other_seeds_give_other_appearances(drawn: list[Appearance], appearances: Appearances):
    assert not any(same(drawn[0], other) for other in (*drawn[1:], appearances.draw(6, 0), appearances.nominal))


# ---- ranges ----


def test_the_lights_have_the_reference_s_colours_and_are_as_often_off(model: mujoco.MjModel, drawn: list[Appearance]):
    lights = [model.light(name).id for name in LIGHTS]
    on = stacked(drawn, "light_active")[:, lights].astype(bool)
    assert (~on).mean() == pytest.approx(RANGES.lights_switched * RANGES.light_off, abs=0.06)
    color = stacked(drawn, "light_diffuse")[:, lights][on]
    tint = color / color.max(axis=1, keepdims=True)
    assert (tint >= np.array(RANGES.light_color_from) - 1e-6).all()


def test_the_light_of_a_picture_adds_up_to_its_exposure(model: mujoco.MjModel, drawn: list[Appearance]):
    lights = [model.light(name).id for name in LIGHTS]
    on = stacked(drawn, "light_active")[:, lights, None]
    room = (stacked(drawn, "light_diffuse")[:, lights] * on).sum(axis=1)
    total = room + stacked(drawn, "headlight_ambient") + stacked(drawn, "headlight_diffuse")
    assert total.max() <= RANGES.exposure[1]
    assert (total >= RANGES.exposure[0] * np.array(RANGES.light_color_from)).all()


def test_the_lights_shine_down_on_the_scene(model: mujoco.MjModel, drawn: list[Appearance]):
    lights = [model.light(name).id for name in LIGHTS]
    directions = stacked(drawn, "light_dir")[:, lights]
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1.0)
    assert np.arccos(-directions[..., 2]).max() <= RANGES.light_tilt_rad + 1e-9
    assert np.ptp(np.arctan2(directions[..., 1], directions[..., 0])) > 6.0, "from all sides"


def test_parts_and_obstacle_are_black_or_white_alike_or_each_their_own(model: mujoco.MjModel, drawn: list[Appearance]):
    materials = [model.mat(name).id for name in (*TASK.part_names, visuals.OBSTACLE_MATERIAL)]
    rgb = stacked(drawn, "mat_rgba")[:, materials, :3]
    black = (rgb <= RANGES.black_part[1]).all(axis=(1, 2))
    assert ((rgb >= RANGES.white_part[0]).all(axis=(1, 2)) | black).all()
    assert black.mean() == pytest.approx(RANGES.black_parts, abs=0.1)
    alike = (rgb == rgb[:, :1]).all(axis=(1, 2))
    assert alike.mean() == pytest.approx(1 - RANGES.different_parts, abs=0.1)


def test_the_table_is_nearly_nominal_or_recoloured(
    model: mujoco.MjModel, drawn: list[Appearance], appearances: Appearances
):
    table = model.mat(visuals.TABLE_MATERIAL).id
    rgb = stacked(drawn, "mat_rgba")[:, table, :3]
    near = (np.abs(rgb - appearances.nominal.fields["mat_rgba"][table, :3]) < 5 * RANGES.table_noise).all(axis=1)
    assert near.mean() == pytest.approx(1 - RANGES.table_recolored, abs=0.1)
    assert (rgb[~near] >= RANGES.table_color[0]).all()


def test_a_texture_darkens_the_table_by_its_contrast_at_most(model: mujoco.MjModel, drawn: list[Appearance]):
    start = model.tex_adr[model.tex(visuals.TABLE_TEXTURE).id]
    size = model.tex_height[model.tex(visuals.TABLE_TEXTURE).id] ** 2 * 3
    texels = stacked(drawn, "tex_data")[:, start : start + size]
    textured = (texels < 255).any(axis=1)
    assert textured.mean() == pytest.approx(RANGES.textured, abs=0.1)
    assert texels.min() >= np.floor(255 * (1 - RANGES.texture_contrast[1]))


@pytest.mark.parametrize("camera", spaces.CAMERAS)
def test_the_cameras_are_off_by_the_reference_s_deviations(
    model: mujoco.MjModel, drawn: list[Appearance], appearances: Appearances, camera: str
):
    i, noise = model.camera(camera).id, RANGES.cameras[camera]
    nominal = appearances.nominal.fields
    offset_m = stacked(drawn, "cam_pos")[:, i] - nominal["cam_pos"][i]
    assert offset_m.std() == pytest.approx(noise.position_m, rel=0.15)
    assert np.linalg.norm(offset_m, axis=1).max() <= np.sqrt(3) * CUT_OFF * noise.position_m
    matrices = [rotation.matrix_from_quat(np.roll(quats, -1, axis=-1)) for quats in _quats(drawn, nominal, i)]
    angle_rad = rotation.angle_between(*matrices)
    assert np.sqrt((angle_rad**2).mean() / 3) == pytest.approx(noise.angle_rad, rel=0.15)
    focal = np.tan(np.deg2rad(nominal["cam_fovy"][i]) / 2) / np.tan(np.deg2rad(stacked(drawn, "cam_fovy")[:, i]) / 2)
    assert (focal - 1).std() == pytest.approx(RANGES.focal_noise, rel=0.2)


def _quats(drawn: list[Appearance], nominal: dict, camera: int) -> tuple[np.ndarray, np.ndarray]:
    quats = stacked(drawn, "cam_quat")[:, camera]
    return quats, np.broadcast_to(nominal["cam_quat"][camera], quats.shape)


def test_the_camera_for_people_stays(model: mujoco.MjModel, drawn: list[Appearance], appearances: Appearances):
    overview = model.camera("overview").id
    for field in ("cam_pos", "cam_quat", "cam_fovy"):
        np.testing.assert_array_equal(drawn[0].fields[field][overview], appearances.nominal.fields[field][overview])


@pytest.mark.parametrize("pattern", textures.PATTERNS)
def test_patterns_are_shares_and_differ_from_draw_to_draw(pattern):
    draws = [pattern(32, np.random.default_rng(seed)) for seed in range(6)]
    for values in draws:
        assert values.shape == (32, 32)
        assert 0.0 <= values.min() < values.max() <= 1.0
    assert len({values.tobytes() for values in draws}) > 1


# ---- what must not change ----


def test_only_what_is_seen_changes_in_the_model(appearances: Appearances):
    changed, untouched = scene.build(TASK, visual=True), scene.build(TASK, visual=True)
    appearances.draw(1, 2).apply(changed)
    for name in dir(untouched):
        value = getattr(untouched, name)
        if isinstance(value, np.ndarray) and not name.startswith(("mat_", "light_", "cam_", "tex_")):
            np.testing.assert_array_equal(getattr(changed, name), value, err_msg=name)
    assert (changed.mat_rgba != untouched.mat_rgba).any()


def test_physics_is_the_same_whatever_it_looks_like(appearances: Appearances, state: tuple):
    ends = []
    for look in (appearances.nominal, appearances.draw(1, 3)):
        model = scene.build(TASK, visual=True)
        look.apply(model)
        data = mujoco.MjData(model)
        data.qpos[:7] = state[0]
        mujoco.mj_step(model, data, 50)
        ends.append(np.concatenate([data.qpos, data.qvel]))
    np.testing.assert_array_equal(*ends)


def test_the_nominal_appearance_comes_back_to_the_pixel(replay: Replay, state: tuple):
    nominal = replay.appearances.nominal
    before = {camera: replay.render_one(camera, *state) for camera in visuals.CAMERAS}
    replay.show(replay.appearances.draw(1, 1))
    assert (replay.render_one("front", *state) != before["front"]).any(axis=-1).mean() > 0.8
    replay.show(nominal)
    assert same(Appearance.of(replay.model), nominal)
    for camera, image in before.items():
        np.testing.assert_array_equal(replay.render_one(camera, *state), image, err_msg=camera)


# ---- what it looks like ----


def test_no_picture_is_overexposed_black_or_flat(replay: Replay, state: tuple):
    for episode in range(12):
        replay.show(replay.appearances.draw(2, episode))
        image = replay.render_one("front", *state)
        assert (image >= 254).any(axis=-1).mean() < 0.002, episode
        assert 40 < image.mean() < 200, episode
        assert image.std() > 12, episode
    replay.show(replay.appearances.nominal)


def test_a_texture_that_changed_is_seen(replay: Replay, state: tuple):
    ranges = VisualRandomness(textured=1.0, texture_contrast=(0.5, 0.5), shadows=0.0)
    plain = Appearances(replay.model, VisualRandomness(textured=0.0, shadows=0.0))
    spread = []
    for appearances in (plain, Appearances(replay.model, ranges)):
        replay.show(appearances.draw(4))
        spread.append(replay.render_one("front", *state)[-30:].std(axis=(0, 1)).max())
    assert spread[1] > 2 * spread[0], "the table in the foreground"
    replay.show(replay.appearances.nominal)


# ---- live ----


def test_an_environment_shows_each_episode_in_its_own_light_and_moves_as_ever():
    plain = AssemblyEnv("peg_hole", 2, threads=1)
    env = AssemblyEnv("peg_hole", 2, threads=1, visual_seed=1)
    states = [one.reset(seed=[4, 4])[0] for one in (plain, env)]
    for name, values in states[0].items():
        np.testing.assert_array_equal(states[1][name], values)
    first = env.images("front")
    np.testing.assert_array_equal(first[0], first[1], "the same episode looks the same in every world")
    assert (first[0] != plain.images("front")[0]).any(axis=-1).mean() > 0.5
    env.reset(seed=[5, None], options={"reset_mask": np.array([True, False])})
    second = env.images("front")
    np.testing.assert_array_equal(second[1], first[1])
    assert (second[0] != first[0]).any(axis=-1).mean() > 0.5
    plain.close()
    env.close()
