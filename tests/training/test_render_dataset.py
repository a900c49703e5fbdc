"""Rendering a data set again: what is copied, what changes, and that interrupts and shards lose nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from resip import spaces
from resip.errors import ResipError
from resip_training.data.displaced import displaced
from resip_training.data.info import _lines, describe
from resip_training.data.mixture import Mixture
from resip_training.data.store import DemoSet, DemoWriter, Episode, Provenance
from resip_training.experts.rollout import Trajectory, run_expert
from resip_training.render import sheet
from resip_training.render.dataset import render_dataset
from resip_training.render.replay import Replay
from resip_training.shards import Shard
from resip_training.sim import tasks

TASK = tasks.PEG_HOLE
SEEDS = (60, 61, 62)
STEPS = 3
PROVENANCE = Provenance(TASK.name, "low", "expert", TASK.part_names, {"timestep_s": TASK.timestep_s})
NUMBERS = ("robot_state", "part_poses", "action", "reward", "joint_positions")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    """Three demonstrations of three steps, each with a displaced copy."""
    writer = DemoWriter(tmp_path_factory.mktemp("recorded") / "peg_hole_low", PROVENANCE)
    replay = Replay(TASK)
    for run in run_expert(TASK.name, "low", SEEDS, threads=1):
        writer.append(*(_episode(displaced(run, copy), replay) for copy in range(2)))
    replay.close()
    return DemoSet(writer._path)


def _episode(run: Trajectory, replay: Replay) -> Episode:
    """A few steps from the middle, the last one twice."""
    rows = np.minimum(np.arange(STEPS) + len(run) // 2, len(run) // 2 + STEPS - 2)
    numbers = {name: getattr(run, name)[rows] for name in NUMBERS}
    seen = numbers["joint_positions"], numbers["robot_state"][:, 15], numbers["part_poses"]
    images = {camera: replay.render(camera, *seen) for camera in spaces.CAMERAS}
    return Episode(**numbers, **images, seed=run.seed, success=run.success)


@pytest.fixture(scope="module")
def whole(recorded: DemoSet, tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    """All of it rendered at once, two copies of each episode."""
    out = tmp_path_factory.mktemp("rendered") / "whole"
    render_dataset(recorded.path, out, seed=9, copies=2)
    return DemoSet(out, task=TASK.name)


def images(demos: DemoSet, camera: str) -> np.ndarray:
    return demos.images(camera, slice(0, demos.n_steps))


def assert_same(a: DemoSet, b: DemoSet) -> None:
    assert a.sha256() == b.sha256()
    for camera in spaces.CAMERAS:
        np.testing.assert_array_equal(images(a, camera), images(b, camera))


def by_seed(demos: DemoSet) -> dict[int, list[np.ndarray]]:
    """Front views of each demonstration's episodes."""
    found: dict[int, list[np.ndarray]] = {}
    for seed, rows in zip(demos.seeds.tolist(), demos.episodes, strict=True):
        found.setdefault(seed, []).append(demos.images("front", rows))
    return found


# ---- what a rendered set holds ----


def test_the_recorded_numbers_are_enough_to_render_what_was_recorded(recorded: DemoSet):
    replay = Replay(TASK)
    for camera in spaces.CAMERAS:
        again = replay.render(camera, recorded.joint_positions, recorded.robot_state[:, 15], recorded.part_poses)
        differs = np.abs(again.astype(int) - images(recorded, camera)).max(axis=-1) > 2
        assert differs.mean() < 0.001, "they are stored with single precision"
    replay.close()


def test_every_episode_is_there_as_often_as_asked_with_its_numbers(recorded: DemoSet, whole: DemoSet):
    assert whole.n_episodes == 2 * recorded.n_episodes
    assert whole.n_demonstrations == len(SEEDS)
    np.testing.assert_array_equal(whole.seeds, np.repeat(recorded.seeds, 2))
    for copy in range(2):
        episodes = whole.episodes[copy::2]
        for name in NUMBERS:
            copied = np.concatenate([getattr(whole, name)[rows] for rows in episodes])
            np.testing.assert_array_equal(copied, getattr(recorded, name), err_msg=name)


def test_no_two_rendered_frames_look_alike_or_like_the_recorded_ones(recorded: DemoSet, whole: DemoSet):
    for camera in spaces.CAMERAS:
        rendered = [image.tobytes() for image in images(whole, camera)]
        assert len(set(rendered)) == len(rendered)
        assert not set(rendered) & {image.tobytes() for image in images(recorded, camera)}


def test_an_appearance_can_last_for_an_episode(recorded: DemoSet, tmp_path: Path):
    render_dataset(recorded.path, tmp_path / "calm", every="episode")
    calm = DemoSet(tmp_path / "calm")
    for rows in calm.episodes:
        frames = calm.images("front", rows)
        np.testing.assert_array_equal(frames[-1], frames[-2], "nothing moved")
    assert len({calm.images("front", rows)[-1].tobytes() for rows in calm.episodes}) == calm.n_episodes


def test_without_randomisation_the_pictures_are_those_that_were_recorded(recorded: DemoSet, tmp_path: Path):
    render_dataset(recorded.path, tmp_path / "plain", every="never")
    plain = DemoSet(tmp_path / "plain")
    for camera in spaces.CAMERAS:
        differs = np.abs(images(plain, camera).astype(int) - images(recorded, camera)).max(axis=-1) > 2
        assert differs.mean() < 0.001, "they are stored with single precision"
    assert (plain.provenance["rendered"]["every"], plain.provenance["rendered"]["ranges"]) == ("never", None)
    with pytest.raises(ResipError, match="would be alike"):
        render_dataset(recorded.path, tmp_path / "twice", copies=2, every="never")


def test_with_a_stride_every_nth_step_of_an_episode_is_rendered_as_it_would_be_without(
    recorded: DemoSet, whole: DemoSet, tmp_path: Path
):
    render_dataset(recorded.path, tmp_path / "strides", seed=9, copies=2, stride=3)
    strides = DemoSet(tmp_path / "strides")
    steps = np.concatenate([np.arange(rows.stop - rows.start) for rows in strides.episodes])
    np.testing.assert_array_equal(strides.shown, steps % 3 == 0)
    assert whole.shown.all()
    assert strides.sha256() == whole.sha256(), "all steps are there"
    assert f"{strides.n_steps} steps" in "".join(lines := _lines(strides, describe(strides)))
    assert f"images of {int(strides.shown.sum())} of them" in "".join(lines)
    for camera in spaces.CAMERAS:
        np.testing.assert_array_equal(images(strides, camera)[strides.shown], images(whole, camera)[strides.shown])
        assert not images(strides, camera)[~strides.shown].any()
    picture = np.asarray(sheet.dataset_sheet(strides))[sheet._HEADER_PX :, sheet._MARGIN_PX :]
    width, height = sheet._TILE_PX
    means = picture.reshape(sheet.EPISODES, height, -1, width, 3).mean(axis=(1, 3, 4))
    assert means.min() > 10, "no tile is black"
    with pytest.raises(ResipError, match="a stride of 0 steps: at least 1"):
        render_dataset(recorded.path, tmp_path / "none", stride=0)


def test_a_policy_learns_from_the_rendered_steps_alone(recorded: DemoSet, tmp_path: Path):
    render_dataset(recorded.path, tmp_path / "strides", every="episode", stride=3)
    render_dataset(recorded.path, tmp_path / "all", every="episode")
    for path, share in ((tmp_path / "strides", 1 / 3), (tmp_path / "all", 1.0)):
        mixture = Mixture([path])
        train, validation = mixture.split(0.3, seed=0)
        assert len(train) + len(validation) == share * mixture.n_steps
        for rows in (train, validation):
            assert all(mixture.images("wrist", slice(row, row + 1)).any() for row in rows.tolist())


def test_a_rendered_set_says_where_it_comes_from_and_what_was_randomised(recorded: DemoSet, whole: DemoSet):
    rendered = whole.provenance["rendered"]
    assert (rendered["from"], rendered["sha256"]) == ("peg_hole_low", recorded.sha256())
    assert (rendered["seed"], rendered["copies"], rendered["every"]) == (9, 2, "frame")
    assert rendered["ranges"]["cameras"]["front"]["position_m"] == 0.0025
    assert {**whole.provenance, "rendered": None} == recorded.provenance


def test_rendered_rollouts_say_who_acted_but_know_no_failures(recorded: DemoSet, tmp_path: Path):
    path, rows = tmp_path / "rollouts", recorded.episodes[0]
    acted = {"checkpoint": "teacher", "sha256": "e" * 64}
    writer = DemoWriter(path, replace(PROVENANCE, source="teacher", images=False, rollout=acted))
    numbers = {name: getattr(recorded, name)[rows] for name in NUMBERS}
    writer.append(Episode(**numbers, seed=1, success=True))
    writer.record_failure(2, steps=700)
    render_dataset(path, tmp_path / "rendered")
    assert DemoSet(tmp_path / "rendered").provenance["rollout"] == acted
    assert describe(DemoSet(path))["rollouts"]["n"] == 2
    assert describe(DemoSet(tmp_path / "rendered"))["rollouts"] is None


# ---- a contact sheet ----


def test_a_sheet_shows_each_episode_at_several_moments_in_both_cameras(whole: DemoSet, tmp_path: Path):
    picture = np.asarray(sheet.dataset_sheet(whole))
    width, height = sheet._TILE_PX
    tiles = picture[sheet._HEADER_PX :, sheet._MARGIN_PX :]
    assert tiles.shape == (sheet.EPISODES * height, 2 * len(sheet.MOMENTS) * width, 3)
    first, last = whole.episodes[0], whole.episodes[-1]
    for corner, frame in (((0, 0), first.start), (((sheet.EPISODES - 1) * height, 2 * width), last.stop - 1)):
        tile = tiles[corner[0] :, corner[1] :][:height, :width]
        np.testing.assert_allclose(
            tile.mean(axis=(0, 1)), whole.images("front", slice(frame, frame + 1)).mean(axis=(0, 1, 2)), atol=1.0
        )
    sheet.write_dataset_sheet(whole.path, tmp_path)
    assert (tmp_path / "sheet_whole.png").read_bytes().startswith(b"\x89PNG")


def test_a_sheet_needs_images_and_a_folder(recorded: DemoSet, whole: DemoSet, tmp_path: Path):
    DemoWriter(tmp_path / "states", replace(PROVENANCE, images=False))
    with pytest.raises(ResipError, match="has no images"):
        sheet.write_dataset_sheet(tmp_path / "states", tmp_path)
    with pytest.raises(ResipError, match="absent is no folder"):
        sheet.write_dataset_sheet(whole.path, tmp_path / "absent")


# ---- interrupts ----


@pytest.mark.parametrize("frame", [0, 7, 30])
def test_an_interrupted_run_is_finished_by_the_same_command(
    recorded: DemoSet, whole: DemoSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: int
):
    """The interrupt comes while frame ``frame`` is rendered: 24 make up a demonstration."""
    out, rendered = tmp_path / "again", Replay.render_one
    count = iter(range(1000))

    def interrupted(self: Replay, *args):
        if next(count) == frame:
            raise KeyboardInterrupt
        return rendered(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Replay, "render_one", interrupted)
        with pytest.raises(KeyboardInterrupt):
            render_dataset(recorded.path, out, seed=9, copies=2)
    render_dataset(recorded.path, out, seed=9, copies=2)
    assert_same(DemoSet(out), whole)


def test_a_process_killed_between_two_arrays_loses_nothing_either(recorded: DemoSet, whole: DemoSet, tmp_path: Path):
    """What it leaves behind is a set whose last episode is in some arrays only."""
    out = tmp_path / "killed"
    render_dataset(recorded.path, out, seed=9, copies=2, shard=None)
    group = DemoWriter(out, _provenance_of(out))._group
    group["episode_ends"].resize((8,))  # the third demonstration was never committed
    group["wrist"].resize((30, 240, 320, 3))
    render_dataset(recorded.path, out, seed=9, copies=2)
    assert_same(DemoSet(out), whole)


def _provenance_of(path: Path) -> Provenance:
    recorded = DemoSet(path).provenance
    return Provenance(**{**recorded, "part_names": tuple(recorded["part_names"])})


def test_a_finished_set_is_left_alone(recorded: DemoSet, whole: DemoSet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Replay, "render_one", lambda *args: pytest.fail("rendered again"))
    render_dataset(recorded.path, whole.path, seed=9, copies=2)


# ---- shards ----


def test_shards_together_are_what_one_process_renders(recorded: DemoSet, whole: DemoSet, tmp_path: Path):
    for index in (2, 1):
        render_dataset(recorded.path, tmp_path, seed=9, copies=2, shard=Shard(index, 2))
    parts = DemoSet(tmp_path, task=TASK.name)
    assert parts.n_steps == whole.n_steps
    found, expected = by_seed(parts), by_seed(whole)
    assert found.keys() == expected.keys()
    for seed in expected:
        np.testing.assert_array_equal(found[seed], expected[seed])
    across = parts.images("wrist", slice(0, parts.n_steps))
    np.testing.assert_array_equal(parts.images("wrist", slice(20, 30)), across[20:30], "rows of two shards")


def test_a_shard_may_be_empty_and_a_missing_one_is_named(recorded: DemoSet, tmp_path: Path):
    for index in (1, 2, 4):
        render_dataset(recorded.path, tmp_path, shard=Shard(index, 4))
    with pytest.raises(ResipError, match="lacks shard-3-of-4"):
        DemoSet(tmp_path)
    render_dataset(recorded.path, tmp_path, shard=Shard(3, 4))
    assert DemoSet(tmp_path).n_episodes == recorded.n_episodes


def test_shards_of_different_divisions_or_settings_do_not_mix(recorded: DemoSet, tmp_path: Path):
    render_dataset(recorded.path, tmp_path, shard=Shard(4, 5))
    with pytest.raises(ResipError, match="holds shard-4-of-5: choose another folder"):
        render_dataset(recorded.path, tmp_path, shard=Shard(4, 4))
    for index in (1, 2, 3):
        DemoWriter(tmp_path / f"shard-{index}-of-5", PROVENANCE)
    DemoWriter(tmp_path / "shard-5-of-5", PROVENANCE)
    with pytest.raises(ResipError, match="different sets or with different settings"):
        DemoSet(tmp_path)


def test_a_shard_does_not_go_into_a_set_in_one_piece(recorded: DemoSet):
    with pytest.raises(ResipError, match="a set in one piece"):
        render_dataset(recorded.path, recorded.path, shard=Shard(1, 2))


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2"])
def test_a_shard_that_is_none_is_refused(text: str):
    with pytest.raises(ResipError, match="is not I/N"):
        Shard.parse(text)


def test_a_shard_is_read_from_the_command_line():
    assert Shard.parse("2/4") == Shard(2, 4)


# ---- what cannot be rendered ----


def test_a_missing_set_is_named(tmp_path: Path):
    with pytest.raises(ResipError, match="nowhere is not a demonstration data set"):
        render_dataset(tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        (replace(PROVENANCE, task="chair"), "unknown task 'chair'"),
        (replace(PROVENANCE, part_names=("peg", "block")), "has the parts"),
    ],
)
def test_a_set_of_an_unknown_task_or_other_parts_is_refused(
    recorded: DemoSet, tmp_path: Path, provenance: Provenance, message: str
):
    path = tmp_path / "set"
    rows = recorded.episodes[0]
    numbers = {name: getattr(recorded, name)[rows] for name in NUMBERS}
    frames = {camera: recorded.images(camera, rows) for camera in spaces.CAMERAS}
    DemoWriter(path, provenance).append(Episode(**numbers, **frames, seed=1, success=True))
    with pytest.raises(ResipError, match=message) as error:
        render_dataset(path, tmp_path / "out")
    assert str(path) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_set_is_not_rendered_into_itself_or_continued_with_another_seed(recorded: DemoSet, whole: DemoSet):
    with pytest.raises(ResipError, match=r"rendered\.from = None, not 'peg_hole_low'"):
        render_dataset(recorded.path, recorded.path)
    with pytest.raises(ResipError, match=r"rendered\.seed = 9, not 8"):
        render_dataset(recorded.path, whole.path, seed=8, copies=2)


def test_no_copy_is_none(recorded: DemoSet, tmp_path: Path):
    with pytest.raises(ResipError, match="at least 1"):
        render_dataset(recorded.path, tmp_path / "out", copies=0)
