"""Simulated and real sets are one: which go together, what is known of them, and what a run says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from fake_demos import PROVENANCE, make_episode, write_demos, write_real_demos
from resip import spaces
from resip.errors import ResipError
from resip_training.algorithms.state_bc import StateBCConfig, load_state_data
from resip_training.data.info import data_info
from resip_training.data.mixture import Mixture
from resip_training.data.store import DemoSet, DemoWriter, Provenance, shard_path


def written(path: Path, provenance: Provenance, seeds: range = range(2)) -> Path:
    writer = DemoWriter(path, provenance)
    for seed in seeds:
        writer.append(make_episode(seed, 4))
    return path


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven steps in each of four episodes."""
    return write_demos(tmp_path_factory.mktemp("sim") / "sim", n_episodes=4, n_steps=7).path


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five steps in each of three episodes."""
    return write_real_demos(tmp_path_factory.mktemp("real") / "real", n_episodes=3, n_steps=5).path


def test_rows_are_those_of_one_set_after_the_other(sim: Path, real: Path) -> None:
    mixture, first, second = Mixture([sim], [real]), DemoSet(sim), DemoSet(real)
    assert (mixture.n_steps, mixture.domains) == (28 + 15, ("sim", "real"))
    np.testing.assert_array_equal(mixture.action, np.concatenate([first.action, second.action]))
    np.testing.assert_array_equal(mixture.is_real, [False] * 28 + [True] * 15)
    assert mixture.episodes[3:5] == [slice(21, 28), slice(28, 33)]
    wanted = [first.images("wrist", slice(26, 28)), second.images("wrist", slice(0, 3))]
    np.testing.assert_array_equal(mixture.images("wrist", slice(26, 31)), np.concatenate(wanted))


def test_part_poses_are_known_of_simulation_alone(sim: Path, real: Path) -> None:
    mixture = Mixture([sim], [real])
    np.testing.assert_array_equal(mixture.knows_parts, ~mixture.is_real)
    np.testing.assert_array_equal(mixture.part_poses[:28], DemoSet(sim).part_poses)
    assert not mixture.part_poses[28:].any()
    assert Mixture(real=[real]).part_poses.shape == (15, 0)


def test_a_set_without_part_poses_is_sound_and_its_info_is_shown(real: Path, tmp_path: Path) -> None:
    demos = DemoSet(real)
    assert not demos.knows_parts
    assert demos.part_poses.shape == (15, 0)
    figures = data_info(real, plot=tmp_path / "plot.png")
    assert figures["part_poses"] == {}
    assert (tmp_path / "plot.png").exists()


def test_a_policy_on_states_needs_part_poses(real: Path) -> None:
    with pytest.raises(ResipError, match="has no part poses, which a policy on states is shown"):
        load_state_data(DemoSet(real), StateBCConfig())


def test_each_domain_is_held_out_by_demonstration(sim: Path, real: Path) -> None:
    mixture = Mixture([sim], [real])
    train, validation = mixture.split(0.25, seed=0)
    assert sorted([*train, *validation]) == list(range(43))
    assert (np.diff(train) > 0).all()
    assert mixture.is_real[validation].sum() == 5
    assert (~mixture.is_real[validation]).sum() == 7


def test_a_demonstration_and_its_other_rendering_are_held_out_together(sim: Path, tmp_path: Path) -> None:
    rendered = write_demos(tmp_path / "again", n_episodes=4, n_steps=7)
    _, validation = Mixture([sim, rendered.path]).split(0.25, seed=1)
    assert len(validation) == 14
    np.testing.assert_array_equal(validation[:7] + 28, validation[7:])


def test_a_run_says_what_it_learned_from(sim: Path, real: Path) -> None:
    described = Mixture([sim], [real]).described()
    assert [(one["name"], one["domain"]) for one in described["sets"]] == [("sim", "sim"), ("real", "real")]
    assert [one["sha256"] for one in described["sets"]] == [DemoSet(sim).sha256(), DemoSet(real).sha256()]
    assert (described["n_demonstrations"], described["n_steps"]) == (7, 43)
    assert described["seeds"] == [0, 1, 2, 3, 100, 101, 102]
    assert described["provenance"]["task"] == "one_leg"
    alone = Mixture([sim]).described()
    assert alone["sha256"] == DemoSet(sim).sha256() != described["sha256"]


def test_the_shards_of_a_set_are_read_as_one(tmp_path: Path) -> None:
    for index in (1, 2):
        written(shard_path(tmp_path / "set", index, 2), PROVENANCE, range(3 * index, 3 * index + 3))
    mixture = Mixture([tmp_path / "set"])
    assert mixture.n_steps == 24
    np.testing.assert_array_equal(mixture.image_chunks, [0] * 12 + [1] * 12)


def test_chunks_of_several_sets_are_told_apart(sim: Path, real: Path) -> None:
    chunks = Mixture([sim], [real]).image_chunks
    np.testing.assert_array_equal(chunks, [0] * 16 + [1] * 12 + [2] * 15)


def test_sets_that_do_not_go_together_are_refused(sim: Path, tmp_path: Path) -> None:
    other_task = written(tmp_path / "lamp", replace(PROVENANCE, task="lamp"))
    with pytest.raises(
        ResipError, match=r"lamp holds demonstrations of 'lamp', .*sim of 'one_leg': a policy learns one"
    ):
        Mixture([sim, other_task])
    other_parts = written(tmp_path / "parts", replace(PROVENANCE, part_names=("top", "leg1")))
    with pytest.raises(ResipError, match=r"parts has the parts top, leg1, .*sim has top, leg4"):
        Mixture([sim, other_parts])
    with pytest.raises(ResipError, match="is named twice"):
        Mixture([sim], [sim])
    with pytest.raises(ResipError, match="nothing to learn from: name data sets after --sim"):
        Mixture()


def test_sets_with_broken_or_missing_images_are_refused_before_training(sim: Path, tmp_path: Path) -> None:
    without = write_demos(tmp_path / "without", n_episodes=2, images=False).path
    with pytest.raises(ResipError, match="without has no images"):
        Mixture([sim, without])

    lacking = written(tmp_path / "lacking", PROVENANCE)
    del zarr.open_group(lacking, mode="r+")["wrist"]
    with pytest.raises(ResipError, match="lacking lacks the array 'wrist'"):
        Mixture([sim, lacking])

    large = written(tmp_path / "large", PROVENANCE)
    group = zarr.open_group(large, mode="r+")
    group.create_array("front", shape=(8, 480, 640, 3), dtype="uint8", overwrite=True)
    with pytest.raises(ResipError, match=r"large: front has frames of .* \(480, 640, 3\), not \(240, 320, 3\)"):
        Mixture([sim, large])


def test_sets_under_another_contract_or_with_bad_numbers_are_refused(sim: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other", PROVENANCE)
    group = zarr.open_group(other, mode="r+")
    group.attrs["contract"] = {**spaces.contract("image"), "control_hz": 20.0}
    with pytest.raises(ResipError, match="other was recorded under another contract: its control_hz differs"):
        Mixture([sim, other])

    broken = written(tmp_path / "broken", PROVENANCE)
    actions = zarr.open_group(broken, mode="r+")["action"]
    assert isinstance(actions, zarr.Array)
    actions[3, 2] = np.nan
    with pytest.raises(ResipError, match="action has a value that is not finite in episode 0"):
        Mixture([sim], [broken])


def test_too_few_demonstrations_of_a_domain_to_hold_one_out_are_refused(sim: Path, tmp_path: Path) -> None:
    single = write_real_demos(tmp_path / "single", n_episodes=1).path
    with pytest.raises(ResipError, match="1 demonstrations are too few"):
        Mixture([sim], [single]).split(0.1, seed=0)
