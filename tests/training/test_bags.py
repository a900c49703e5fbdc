"""`resip bag to-dataset`: recordings become a set that co-training reads; what is left out is said."""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from demo_bags import DemoBag, damage, story
from resip import cli, spaces
from resip.errors import ResipError
from resip.recording.reader import Bag
from resip.recording.resampling import resample
from resip_training.data import store
from resip_training.data.mixture import Mixture
from resip_training.data.store import DemoSet
from trial_bags import outcome, write_trials

STORY = story(run_s=(100.0, 102.0), randomness="low", robot="polymetis", marks_s=[100.7])


def to_dataset(*arguments: object) -> int:
    return cli.run(["bag", "to-dataset", *map(str, arguments)])


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    """Two successes of different length and a failure."""
    folder = tmp_path / "bags"
    DemoBag(2000).write(folder / "a" / "bag", STORY)
    DemoBag(1500, closes_at=7).write(folder / "b" / "bag", STORY)
    DemoBag(1000).write(folder / "c" / "bag", replace(STORY, result="failure"))
    return folder


def test_the_set_has_the_steps_of_each_successful_recording(bags: Path, tmp_path: Path) -> None:
    to_dataset(bags, "--out", tmp_path / "set")
    demos = DemoSet(tmp_path / "set", task="one_leg", images=True)
    assert np.diff(demos.episode_ends, prepend=0).tolist() == [20, 15]
    assert demos.success.all()
    assert not demos.knows_parts
    for name, rows in zip("ab", demos.episodes, strict=True):
        steps = resample(Bag(bags / name))
        np.testing.assert_array_equal(demos.robot_state[rows], steps.robot_state.astype(np.float32))
        np.testing.assert_array_equal(demos.joint_positions[rows], steps.joint_positions.astype(np.float32))
        np.testing.assert_array_equal(demos.action[rows], steps.action.astype(np.float32))
        for camera in spaces.CAMERAS:
            np.testing.assert_array_equal(demos.images(camera, rows), steps.images[camera])


def test_success_is_rewarded_at_its_last_step_and_failure_never(bags: Path, tmp_path: Path) -> None:
    to_dataset(bags, "--out", tmp_path / "set", "--keep-failures")
    demos = DemoSet(tmp_path / "set")
    assert demos.success.tolist() == [True, True, False]
    rewarded = np.zeros(demos.n_steps)
    rewarded[demos.episode_ends[:2] - 1] = 1
    np.testing.assert_array_equal(demos.reward, rewarded)


def test_cotraining_reads_it_as_real(bags: Path, tmp_path: Path) -> None:
    to_dataset(bags, "--out", tmp_path / "set")
    assert Mixture(real=[tmp_path / "set"]).is_real.all()


def test_the_provenance_names_each_bag_with_its_hash_story_and_bounds(bags: Path, tmp_path: Path) -> None:
    to_dataset(bags, "--out", tmp_path / "set", "--max-skew-s", "0.04")
    provenance = DemoSet(tmp_path / "set").provenance
    assert (provenance["task"], provenance["source"], provenance["randomness"]) == ("one_leg", "spacemouse", "low")
    assert provenance["simulator"]["matching"] == {"max_skew_s": 0.04, "max_age_s": 0.3}
    first = provenance["simulator"]["bags"][0]
    assert first["name"] == "a/bag/bag_0.mcap"
    assert first["sha256"] == hashlib.sha256((bags / "a/bag/bag_0.mcap").read_bytes()).hexdigest()
    assert first["seed"] == DemoSet(tmp_path / "set").seeds[0]
    told = {name: first["story"][name] for name in ("operator", "robot", "versions", "marks_s")}
    assert told == {"operator": "ada", "robot": "polymetis", "versions": {"resip": "0.1.0"}, "marks_s": [100.7]}


def test_the_same_command_again_adds_nothing(bags: Path, tmp_path: Path) -> None:
    to_dataset(bags, "--out", tmp_path / "set")
    before = DemoSet(tmp_path / "set").sha256()
    to_dataset(bags, "--out", tmp_path / "set")
    assert DemoSet(tmp_path / "set").sha256() == before


def test_a_set_of_other_bags_is_not_added_to(bags: Path, tmp_path: Path) -> None:
    to_dataset(bags / "a", "--out", tmp_path / "set")
    with pytest.raises(ResipError, match=r"recorded with other simulator\.bags: \d, not these \d: choose"):
        to_dataset(bags / "b", "--out", tmp_path / "set")


def test_trials_of_a_policy_become_episodes_with_their_verdict(tmp_path: Path) -> None:
    trials = [outcome(0), outcome(1, "failure", "time is up", duration_s=2.0)]
    write_trials(tmp_path / "trials", trials, duration_s=2.0)
    to_dataset(tmp_path / "trials", "--out", tmp_path / "set")
    demos = DemoSet(tmp_path / "set")
    assert (demos.provenance["source"], demos.provenance["randomness"]) == ("policy", "low")
    assert demos.n_episodes == 1
    assert demos.provenance["simulator"]["bags"][0]["story"]["policy"] == {"policy": "models/one_leg"}


class TestWhatIsLeftOut:
    def test_a_recording_with_a_gap_is_named_and_the_others_are_kept(
        self, bags: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        dropped = frozenset(("wrist", i) for i in range(20, 35))
        DemoBag(2000, dropped=dropped).write(bags / "d" / "bag", STORY)
        to_dataset(bags, "--out", tmp_path / "set")
        said = capsys.readouterr().out
        assert f"left out: {bags / 'd' / 'bag' / 'bag_0.mcap'} has a gap" in said
        assert "2 episodes of 3 recordings" in said

    def test_of_a_damaged_recording_nothing_is_a_success_once_its_end_is_lost(self, tmp_path: Path) -> None:
        path = DemoBag(2000, raw=True).write(tmp_path / "a" / "bag", STORY) / "bag_0.mcap"
        damage(path)
        with pytest.raises(ResipError, match=f"{path} is damaged.*without its end it is no success: --keep-failures"):
            to_dataset(path, "--out", tmp_path / "set")
        to_dataset(path, "--out", tmp_path / "set", "--keep-failures")
        demos = DemoSet(tmp_path / "set")
        assert demos.success.tolist() == [False]
        assert 0 < demos.n_steps < 20

    def test_of_a_damaged_recording_whose_run_survives_all_is_used_and_the_damage_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = DemoBag(4000, raw=True).write(tmp_path / "a" / "bag", replace(STORY, run_s=(100.0, 100.5)))
        damage(path / "bag_0.mcap")
        to_dataset(path, "--out", tmp_path / "set")
        assert "is damaged" in capsys.readouterr().out
        demos = DemoSet(tmp_path / "set")
        assert (demos.n_steps, demos.success.tolist()) == (6, [True])


class TestErrors:
    def test_no_bag_there(self, tmp_path: Path) -> None:
        with pytest.raises(ResipError, match=f"no bag at {tmp_path / 'nowhere'}"):
            to_dataset(tmp_path / "nowhere", "--out", tmp_path / "set")

    def test_no_success_in_any_bag(self, bags: Path, tmp_path: Path) -> None:
        with pytest.raises(ResipError, match=r"no success among the recordings \(1 failure\): --keep-failures"):
            to_dataset(bags / "c", "--out", tmp_path / "set")

    def test_several_tasks(self, bags: Path, tmp_path: Path) -> None:
        DemoBag(1000).write(bags / "d" / "bag", replace(STORY, task="lamp"))
        with pytest.raises(ResipError, match="of several tasks, lamp, one_leg: make a set of each"):
            to_dataset(bags, "--out", tmp_path / "set")

    def test_no_recording_that_makes_an_episode_leaves_no_set(self, tmp_path: Path) -> None:
        path = DemoBag(1000, silent=frozenset({"state"})).write(tmp_path / "a" / "bag", STORY)
        with pytest.raises(ResipError, match=r"none of 1 recordings makes an episode: .*no message of /robot/joint"):
            to_dataset(path, "--out", tmp_path / "set")
        assert not (tmp_path / "set").exists()

    def test_a_full_disk(self, bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(store.DemoWriter, "_write", full)
        with pytest.raises(ResipError, match=r"cannot be written \(No space left on device\)"):
            to_dataset(bags, "--out", tmp_path / "set")
        monkeypatch.undo()
        to_dataset(bags, "--out", tmp_path / "set")
        assert DemoSet(tmp_path / "set").n_episodes == 2
