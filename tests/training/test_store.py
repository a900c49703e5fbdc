"""A demonstration set keeps every complete episode and nothing else, whatever interrupted the writing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import pytest
import zarr
from resip.errors import ResipError
from resip_training.data.salvage import salvage
from resip_training.data.store import DemoSet, DemoWriter, Episode, Provenance
from zarr.storage import LocalStore

PROVENANCE = Provenance(
    task="one_leg", randomness="low", source="expert", part_names=("top", "leg4"), simulator={"timestep_s": 0.002}
)


def make_episode(seed: int, n_steps: int = 5) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        robot_state=rng.normal(size=(n_steps, 16)),
        part_poses=rng.normal(size=(n_steps, 21)),
        action=rng.normal(size=(n_steps, 10)),
        reward=np.zeros(n_steps),
        joint_positions=rng.normal(size=(n_steps, 7)),
        front=rng.integers(0, 255, size=(n_steps, 240, 320, 3), dtype=np.uint8),
        wrist=rng.integers(0, 255, size=(n_steps, 240, 320, 3), dtype=np.uint8),
        seed=seed,
        success=True,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "demos"


def test_what_was_written_is_read_back(path: Path) -> None:
    episodes = [make_episode(3, 18), make_episode(4, 5)]
    writer = DemoWriter(path, PROVENANCE)
    for episode in episodes:
        writer.append(episode)

    demos = DemoSet(path, task="one_leg")

    assert demos.episodes == [slice(0, 18), slice(18, 23)]
    assert demos.seeds.tolist() == [3, 4]
    assert demos.success.all()
    for episode, rows in zip(episodes, demos.episodes, strict=True):
        np.testing.assert_array_equal(demos.action[rows], episode.action.astype(np.float32))
        np.testing.assert_array_equal(demos.images("front", rows), episode.front)
        np.testing.assert_array_equal(demos.images("wrist", rows), episode.wrist)


def test_two_processes_do_not_write_one_set(path: Path) -> None:
    """What one has half written, the other would cut off."""
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    holds = f"""
import sys
from resip_training.data.store import _lock
from pathlib import Path
held = _lock(Path({str(path)!r}))
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", holds], stdin=PIPE, stdout=PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ResipError, match=f"another process is writing {path}"):
            DemoWriter(path, PROVENANCE)
        assert DemoSet(path).seeds.tolist() == [1], "reading needs no leave"
        other.communicate("")
    DemoWriter(path, PROVENANCE).append(make_episode(2))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*not recognized")  # zarr's, of files that are not its own
        assert DemoSet(path).seeds.tolist() == [1, 2]


@pytest.mark.parametrize("last_written", ["robot_state", "wrist", "seed", "success", "digest"])
def test_an_interrupted_episode_is_ignored_then_cut_off(path: Path, last_written: str) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    group = zarr.open_group(path)
    for name in (
        "robot_state",
        "part_poses",
        "action",
        "reward",
        "joint_positions",
        "front",
        "wrist",
        "seed",
        "success",
        "digest",
    ):
        array = group[name]
        assert isinstance(array, zarr.Array)
        array.append(np.ones((2, *array.shape[1:]), dtype=array.dtype))
        if name == last_written:
            break

    assert DemoSet(path).n_steps == 5
    writer = DemoWriter(path, PROVENANCE)
    assert writer.seeds == {1}
    writer.append(make_episode(2))

    demos = DemoSet(path)
    assert demos.n_steps == 10
    assert demos.seeds.tolist() == [1, 2]
    np.testing.assert_array_equal(demos.robot_state[5:], make_episode(2).robot_state.astype(np.float32))


def test_an_episode_whose_end_was_reserved_but_not_written_does_not_count(path: Path) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    ends = zarr.open_group(path)["episode_ends"]
    assert isinstance(ends, zarr.Array)
    ends.resize((2,))

    assert DemoSet(path).n_episodes == 1
    assert DemoWriter(path, PROVENANCE).n_steps == 5


def test_resuming_knows_the_seeds_that_are_there(path: Path) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(7))
    writer = DemoWriter(path, PROVENANCE)
    assert writer.seeds == {7}
    with pytest.raises(ResipError, match="seed 7 is already"):
        writer.append(make_episode(7))


def test_a_demonstration_whose_second_copy_fails_leaves_nothing_in_the_way_of_the_next(path: Path) -> None:
    def copies() -> Iterator[Episode]:
        yield make_episode(1)
        raise KeyboardInterrupt

    writer = DemoWriter(path, PROVENANCE)
    with pytest.raises(KeyboardInterrupt):
        writer.append_from(copies())
    writer.append_from(make_episode(2) for _ in range(2))
    demos = DemoSet(path)
    assert demos.seeds.tolist() == [2, 2]
    np.testing.assert_array_equal(demos.action[demos.episodes[1]], make_episode(2).action.astype(np.float32))


def test_appending_under_other_settings_is_refused_naming_them(path: Path) -> None:
    DemoWriter(path, PROVENANCE)
    with pytest.raises(ResipError, match="randomness = 'low', not 'med'"):
        DemoWriter(path, replace(PROVENANCE, randomness="med"))


def test_a_folder_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for attempt in (lambda: DemoSet(tmp_path), lambda: DemoWriter(tmp_path, PROVENANCE), lambda: DemoSet("absent")):
        with pytest.raises(ResipError, match="not a demonstration data set"):
            attempt()


def test_another_task_is_refused(path: Path) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    with pytest.raises(ResipError, match="'one_leg', not of 'lamp'"):
        DemoSet(path, task="lamp")


def test_a_missing_array_is_named(path: Path) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    del zarr.open_group(path)["wrist"]
    with pytest.raises(ResipError, match="lacks the array 'wrist'"):
        DemoSet(path)


def test_a_set_without_an_episode_is_refused(path: Path) -> None:
    DemoWriter(path, PROVENANCE)
    with pytest.raises(ResipError, match="no complete episode"):
        DemoSet(path)


def test_nan_is_refused_when_writing_and_when_reading(path: Path) -> None:
    writer = DemoWriter(path, PROVENANCE)
    bad = make_episode(2)
    bad.action[3, 1] = np.nan
    with pytest.raises(ResipError, match="action has a value that is not finite"):
        writer.append(bad)
    writer.append(make_episode(1))
    action = zarr.open_group(path)["action"]
    assert isinstance(action, zarr.Array)
    action[3, 1] = np.nan
    with pytest.raises(ResipError, match="action has a value that is not finite in episode 0"):
        DemoSet(path)


def without_images(episode: Episode) -> Episode:
    return replace(episode, front=None, wrist=None)


def test_a_set_may_have_no_images_and_says_so_where_they_are_asked_for(path: Path) -> None:
    DemoWriter(path, replace(PROVENANCE, images=False)).append(without_images(make_episode(1)))
    demos = DemoSet(path)
    assert not demos.has_images
    assert not (path / "front").exists()
    np.testing.assert_array_equal(demos.action, make_episode(1).action.astype(np.float32))
    for attempt in (lambda: demos.images("front", slice(0, 1)), lambda: DemoSet(path, images=True)):
        with pytest.raises(ResipError, match="demos has no images"):
            attempt()


def test_episodes_have_images_if_their_set_has_them(path: Path) -> None:
    writer = DemoWriter(path, PROVENANCE)
    with pytest.raises(ResipError, match=r"front has shape \(\)"):
        writer.append(without_images(make_episode(1)))
    writer = DemoWriter(path.with_name("states"), replace(PROVENANCE, images=False))
    with pytest.raises(ResipError, match="seed 1 has front, which the set was not made for"):
        writer.append(make_episode(1))
    with pytest.raises(ResipError, match="images = True, not False"):
        DemoWriter(path, replace(PROVENANCE, images=False))


def test_the_simulators_states_are_kept_to_the_last_bit(path: Path) -> None:
    provenance = replace(PROVENANCE, images=False, simulator={"world": {"time": [], "qpos": [2, 2]}})
    writer = DemoWriter(path, provenance)
    episode = replace(without_images(make_episode(1)), world=np.random.default_rng(0).normal(size=(5, 5)))
    writer.append(episode)
    demos = DemoSet(path)
    assert demos.has_worlds
    np.testing.assert_array_equal(demos.world, episode.world)
    with pytest.raises(ResipError, match=r"world has shape \(5, 4\), expected \(5, 5\)"):
        writer.append(replace(without_images(make_episode(2)), world=np.zeros((5, 4))))


def test_a_set_without_the_simulators_states_says_so(path: Path) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    demos = DemoSet(path)
    assert not demos.has_worlds
    with pytest.raises(ResipError, match="no simulator states"):
        demos.world  # noqa: B018


def test_a_set_of_an_older_format_is_to_be_collected_again(path: Path) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    zarr.open_group(path).attrs["format_version"] = 1
    with pytest.raises(ResipError, match="has format 1, this program reads 2: collect it again"):
        DemoSet(path)


def test_a_wrong_shape_is_named(path: Path) -> None:
    writer = DemoWriter(path, PROVENANCE)
    with pytest.raises(ResipError, match=r"front has shape \(5, 120, 160, 3\)"):
        writer.append(replace(make_episode(1), front=np.zeros((5, 120, 160, 3), dtype=np.uint8)))


def test_another_contract_is_refused_naming_the_field(path: Path) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    group = zarr.open_group(path)
    recorded = group.attrs["contract"]
    assert isinstance(recorded, dict)
    group.attrs["contract"] = {**recorded, "control_hz": 20.0}
    with pytest.raises(ResipError, match="control_hz"):
        DemoSet(path)


def test_the_hash_changes_with_the_numbers(path: Path) -> None:
    writer = DemoWriter(path, PROVENANCE)
    writer.append(make_episode(1))
    first = DemoSet(path).sha256()
    assert DemoSet(path).sha256() == first
    writer.append(make_episode(2))
    assert DemoSet(path).sha256() != first


# ---- damage ----


def fail_from_write(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let ``count`` writes to disk succeed; the disk is full for all that follow."""
    left = iter(range(count))
    write = LocalStore.set

    async def limited(store: LocalStore, key: str, value: Any) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await write(store, key, value)

    monkeypatch.setattr(LocalStore, "set", limited)


def numbers_only(seed: int) -> Episode:
    return without_images(make_episode(seed))


@pytest.mark.parametrize("writes", range(18))
def test_a_disk_that_fills_up_loses_nothing_whole(path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    writer = DemoWriter(path, replace(PROVENANCE, images=False))
    writer.append(numbers_only(1))
    with monkeypatch.context() as full:
        fail_from_write(full, writes)
        for _ in range(2):
            message = r"demos cannot be written \(No space left on device\): its 1 demonstrations are whole; make room"
            with pytest.raises(ResipError, match=message):
                writer.append(numbers_only(2))
    assert DemoSet(path).seeds.tolist() == [1]
    writer.append(numbers_only(2))
    demos = DemoSet(path)
    assert demos.seeds.tolist() == [1, 2]
    np.testing.assert_array_equal(demos.action[5:], make_episode(2).action.astype(np.float32))


def test_a_set_that_cannot_be_made_is_one_line_and_not_in_the_way_of_the_next_try(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for writes in (0, 3):
        with monkeypatch.context() as full:
            fail_from_write(full, writes)
            with pytest.raises(ResipError, match="demos cannot be written"):
                DemoWriter(path, PROVENANCE)
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    assert DemoSet(path).n_episodes == 1


def chunks(path: Path, name: str) -> list[Path]:
    return sorted(file for file in (path / name / "c").rglob("*") if file.is_file())


def flip_a_bit(chunk: Path) -> None:
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)


@pytest.mark.parametrize("name", ["action", "part_poses", "episode_ends", "seed"])
def test_a_damaged_chunk_is_found_when_the_set_is_opened(path: Path, name: str) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    flip_a_bit(chunks(path, name)[0])
    with pytest.raises(ResipError, match=rf"demos is damaged, {name} cannot be read"):
        DemoSet(path)


def test_a_damaged_image_is_found_when_it_is_read(path: Path) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1, 20))
    flip_a_bit(chunks(path, "wrist")[1])
    demos = DemoSet(path)
    demos.images("wrist", slice(0, 16))
    with pytest.raises(ResipError, match="demos is damaged, wrist cannot be read"):
        demos.images("wrist", slice(16, 20))


def test_numbers_that_were_changed_are_found_by_their_digest(path: Path) -> None:
    writer = DemoWriter(path, PROVENANCE)
    writer.append(make_episode(1))
    writer.append(make_episode(2))
    action = zarr.open_group(path)["action"]
    assert isinstance(action, zarr.Array)
    action[7, 3] += 0.5
    with pytest.raises(ResipError, match=r"numbers of episode 1 \(seed 2\) have changed: `resip data salvage`"):
        DemoSet(path)


def test_an_array_of_another_shape_is_named(path: Path) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    action = zarr.open_group(path)["action"]
    assert isinstance(action, zarr.Array)
    for shape, message in (((3, 10), r"action has shape \(3, 10\)"), ((5, 9), r"need \(5, 10\)")):
        action.resize(shape)
        with pytest.raises(ResipError, match=message):
            DemoSet(path)
    seed = zarr.open_group(path)["seed"]
    action.resize((5, 10))
    assert isinstance(seed, zarr.Array)
    seed.resize((0,))
    with pytest.raises(ResipError, match=r"seed has shape \(0,\), its episodes need \(1,\)"):
        DemoSet(path)


def test_an_array_whose_description_is_broken_is_damage(path: Path) -> None:
    DemoWriter(path, PROVENANCE).append(make_episode(1))
    (path / "action" / "zarr.json").write_text("{")
    with pytest.raises(ResipError, match="demos is damaged"):
        DemoSet(path)


def test_what_is_whole_of_a_damaged_set_is_kept(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = DemoWriter(path, PROVENANCE)
    for seed in (1, 2, 3):
        writer.append(make_episode(seed, 16))
    flip_a_bit(chunks(path, "wrist")[1])
    action = zarr.open_group(path)["action"]
    assert isinstance(action, zarr.Array)
    action[40, 3] += 0.5

    salvage(path, path.with_name("whole"))

    demos = DemoSet(path.with_name("whole"), task="one_leg")
    assert demos.seeds.tolist() == [1]
    np.testing.assert_array_equal(demos.images("wrist", slice(0, 16)), make_episode(1, 16).wrist)
    printed = capsys.readouterr().out
    assert "lost: episode 1 (seed 2)" in printed
    assert "lost: episode 2 (seed 3)" in printed
