"""`resip bag to-lerobot`: what it writes is a LeRobotDataset v3.0, and holds what was recorded."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from demo_bags import DemoBag, story
from fake_demos import write_demos, write_real_demos
from lerobot_v3 import problems
from pyarrow import parquet
from resip import cli, spaces
from resip.errors import ResipError
from resip.recording.reader import Bag
from resip.recording.resampling import resample
from resip_training.data import lerobot
from resip_training.data.store import DemoSet


def to_lerobot(*arguments: object) -> int:
    return cli.run(["bag", "to-lerobot", *map(str, arguments)])


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A bag and a data set of another task, and the set that was made of both."""
    folder = tmp_path_factory.mktemp("lerobot")
    bag = DemoBag(1500, closes_at=7).write(folder / "a" / "bag", story())
    write_real_demos(folder / "demos", n_episodes=2, n_steps=8)
    to_lerobot(bag, folder / "demos", "--out", folder / "out")
    return bag, folder / "demos", folder / "out"


def rows(out: Path) -> dict[str, np.ndarray]:
    table = parquet.read_table(out / "data/chunk-000/file-000.parquet")
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def test_it_meets_the_formats_specification(written: tuple[Path, Path, Path]) -> None:
    assert problems(written[2]) == []


def test_states_and_actions_are_those_of_the_bag_and_of_the_set_to_the_bit(written: tuple[Path, Path, Path]) -> None:
    bag, demos, out = written
    steps, recorded, found = resample(Bag(bag)), DemoSet(demos), rows(out)
    expected = np.concatenate([steps.robot_state.astype(np.float32), recorded.robot_state])
    np.testing.assert_array_equal(found["observation.state"].astype(np.float32), expected)
    expected = np.concatenate([steps.action.astype(np.float32), recorded.action])
    np.testing.assert_array_equal(found["action"].astype(np.float32), expected)


def test_the_videos_show_what_was_seen_but_for_the_compression(written: tuple[Path, Path, Path]) -> None:
    bag, demos, out = written
    steps, recorded = resample(Bag(bag)), DemoSet(demos)
    for camera in spaces.CAMERAS:
        shown = pictures(out / f"videos/observation.images.{camera}/chunk-000/file-000.mp4").astype(float)
        seen = np.concatenate([steps.images[camera], recorded.images(camera, slice(0, recorded.n_steps))])
        assert np.abs(shown - seen).mean(axis=(1, 2, 3)).max() < 6  # the set's pictures are noise of +- 10 levels


def test_the_statistics_are_those_of_the_recorded_numbers_and_pixels(written: tuple[Path, Path, Path]) -> None:
    bag, demos, out = written
    stats = json.loads((out / "meta/stats.json").read_text())
    actions = rows(out)["action"].astype(np.float32).astype(float)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(axis=0))
    np.testing.assert_allclose(stats["action"]["q90"], np.quantile(actions, 0.9, axis=0))
    recorded = DemoSet(demos)
    seen = np.concatenate([resample(Bag(bag)).images["front"], recorded.images("front", slice(0, recorded.n_steps))])
    channels = np.moveaxis(seen, -1, 0).reshape(3, -1) / 255
    front = stats["observation.images.front"]
    for key, expected in (("mean", channels.mean(1)), ("std", channels.std(1)), ("max", channels.max(1))):
        np.testing.assert_allclose(np.ravel(front[key]), expected, atol=1e-12)
    np.testing.assert_allclose(np.ravel(front["q10"]), np.quantile(channels, 0.1, axis=1, method="inverted_cdf"))
    assert front["count"] == [len(seen)]


def test_it_says_where_each_episode_comes_from(written: tuple[Path, Path, Path]) -> None:
    sources = json.loads((written[2] / "meta/resip.json").read_text())["episodes"]
    assert sources[0]["name"] == "a/bag/bag_0.mcap"
    assert len(sources[0]["sha256"]) == 64
    assert sources[1:] == [{"dataset": "demos", "seed": 100}, {"dataset": "demos", "seed": 101}]


def test_a_full_video_file_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot, "_VIDEO_MB", 0)
    write_real_demos(tmp_path / "demos", n_episodes=3, n_steps=5)
    to_lerobot(tmp_path / "demos", "--out", tmp_path / "out")
    assert len(list((tmp_path / "out/videos/observation.images.wrist/chunk-000").iterdir())) == 3
    assert problems(tmp_path / "out") == []


class TestValidator:
    """What the other tests rely on finds what is wrong."""

    def test_a_missing_picture(self, written: tuple[Path, Path, Path], tmp_path: Path) -> None:
        self.change(written[2], tmp_path, lambda row: row | {"videos/observation.images.front/from_timestamp": 0.05})
        assert any("no picture for frame" in problem for problem in problems(tmp_path / "set"))

    def test_an_episode_at_other_rows(self, written: tuple[Path, Path, Path], tmp_path: Path) -> None:
        self.change(written[2], tmp_path, lambda row: row | {"dataset_from_index": row["dataset_from_index"] + 1})
        assert any("is not at 0 to" in problem for problem in problems(tmp_path / "set"))

    def change(self, out: Path, tmp_path: Path, changed: Callable[[dict], dict]) -> None:
        shutil.copytree(out, tmp_path / "set")
        path = tmp_path / "set/meta/episodes/chunk-000/file-000.parquet"
        table = [changed(row) for row in parquet.read_table(path).to_pylist()]
        parquet.write_table(pa.Table.from_pylist(table), path)


class TestErrors:
    def test_a_set_without_images(self, tmp_path: Path) -> None:
        write_demos(tmp_path / "demos", n_episodes=2, images=False)
        with pytest.raises(ResipError, match="has no images: render them"):
            to_lerobot(tmp_path / "demos", "--out", tmp_path / "out")
        assert not any(tmp_path.glob("out*"))

    def test_a_folder_that_is_there_already(self, written: tuple[Path, Path, Path]) -> None:
        with pytest.raises(ResipError, match="is there already: name a new folder"):
            to_lerobot(written[1], "--out", written[2])

    def test_a_full_disk_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        write_real_demos(tmp_path / "demos", n_episodes=1)
        monkeypatch.setattr(lerobot.parquet.ParquetWriter, "write_table", full)
        with pytest.raises(ResipError, match=r"out cannot be written \(No space left on device\): make room"):
            to_lerobot(tmp_path / "demos", "--out", tmp_path / "out")
        assert not any(tmp_path.glob("out*"))

    def test_no_success_among_the_bags(self, tmp_path: Path) -> None:
        bag = DemoBag(500).write(tmp_path / "a" / "bag", story("failure"))
        with pytest.raises(ResipError, match="no success among the recordings"):
            to_lerobot(bag, "--out", tmp_path / "out")


def test_failures_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    good = DemoBag(500).write(tmp_path / "a" / "bag", story())
    bad = DemoBag(700).write(tmp_path / "b" / "bag", story("failure"))
    to_lerobot(good.parent.parent, "--out", tmp_path / "some")
    to_lerobot(good, bad, "--out", tmp_path / "all", "--keep-failures")
    totals = [json.loads((tmp_path / name / "meta/info.json").read_text())["total_frames"] for name in ("some", "all")]
    assert totals == [5, 12]
