"""Simulation and reality in one run: what is mixed, weighed, logged and measured of each."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_demos import PROVENANCE, make_episode, write_demos, write_real_demos
from resip.errors import ResipError
from resip_training.algorithms.bc import BCTrainer, load_training_data
from resip_training.cli import TrainDistill
from resip_training.data.mixture import Mixture
from resip_training.data.store import DemoSet, DemoWriter
from resip_training.evaluate import load
from resip_training.export import export_policy
from resip_training.model_card import where_shown
from resip_training.runs import CONFIG_FILE, Budget, read_metrics
from resip_training.train import train_images
from small_policies import SMALL as SMALL_IMAGES
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SMALL = replace(SMALL_IMAGES, learning_rate=2e-3, ema_decay=0.9, held_out=0.2)


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demos(tmp_path_factory.mktemp("data") / "sim", n_episodes=5, n_steps=16).path


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_real_demos(tmp_path_factory.mktemp("data") / "real", n_episodes=5, n_steps=8).path


@pytest.fixture(scope="module")
def finished(sim: Path, real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "cotrained"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resip_training.runs._LOG_EVERY_S", 0.0)
        train_images([sim], run, real=[real], budget=Budget(steps=8), config=SMALL)
    return run


def trainer(sim: list[Path], real: list[Path], **changes: object) -> BCTrainer:
    config = replace(SMALL, **changes)  # pyright: ignore[reportArgumentType]
    return BCTrainer(config, load_training_data(Mixture(sim, real), config))


def test_the_loss_of_each_domain_is_logged(finished: Path) -> None:
    log = EventAccumulator(str(finished / "tensorboard")).Reload()
    assert {"loss/action", "loss/action/sim", "loss/action/real", "loss/parts"} <= set(log.Tags()["scalars"])
    assert {"validation/position_error_mm/sim", "validation/position_error_mm/real"} <= set(log.Tags()["scalars"])


def test_each_domain_is_validated_by_itself_and_parts_where_they_are_known(finished: Path) -> None:
    figures = read_metrics(finished)
    for name in ("position_error_mm", "gripper_agreement"):
        apart = sorted(figures[f"{name}/{domain}"] for domain in ("sim", "real"))
        assert apart[0] <= figures[name] <= apart[1]
    assert figures["parts_error_mm"] == figures["parts_error_mm/sim"]
    assert "parts_error_mm/real" not in figures


def test_the_run_records_every_set(finished: Path, sim: Path, real: Path) -> None:
    data = json.loads((finished / CONFIG_FILE).read_text())["data"]
    assert [(one["name"], one["domain"]) for one in data["sets"]] == [("sim", "sim"), ("real", "real")]
    assert all(len(one["sha256"]) == 64 for one in data["sets"])


def test_a_cotrained_policy_is_loaded_and_exported_with_an_observation_of_either_set(
    finished: Path, sim: Path, real: Path, tmp_path: Path
) -> None:
    assert load(finished).task == "one_leg"
    for dataset in (sim, real):
        export_policy(finished, dataset, tmp_path / dataset.name)
    other = write_demos(tmp_path / "other", n_episodes=2)
    with pytest.raises(ResipError, match="not the data set that"):
        export_policy(finished, other.path, tmp_path / "model")


def test_the_card_of_a_cotrained_policy_lists_every_set(finished: Path, sim: Path, tmp_path: Path) -> None:
    card = (export_policy(finished, sim, tmp_path / "model") / "README.md").read_text()
    assert "10 demonstrations (120 steps at 10 Hz) of 2 data sets" in card
    assert f"| sim | in simulation | 5 | 80 | expert | low | 0-4 | `{DemoSet(sim).sha256()[:16]}` |" in card
    assert "| real | on the real cell | 5 | 40 | spacemouse | low | 100-104 |" in card
    assert "Trained in simulation and on the real cell on one camera pose" in card


@pytest.mark.parametrize(
    ("robots", "where"),
    [(["sim", "sim"], "in the simulated cell"), (["sim", "polymetis"], "on the real cell"), ([], "on the real cell")],
)
def test_a_card_does_not_call_the_simulated_cell_a_real_one(robots: list[str], where: str) -> None:
    bags = [{"story": {"robot": robot}} for robot in robots]
    assert where_shown({"domain": "real", "provenance": {"simulator": {"bags": bags}}}) == where


def test_episodes_that_failed_are_left_out_and_that_is_said(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = DemoWriter(tmp_path / "sim", PROVENANCE)
    for seed in range(6):
        writer.append(replace(make_episode(seed, 16), success=seed != 1))
    data = load_training_data(Mixture([tmp_path / "sim"], [real]), SMALL)
    cloned = {*data.train_rows.tolist(), *data.validation_rows.tolist()}
    assert cloned == set(range(6 * 16 + 5 * 8)) - set(range(16, 32))

    train_images([tmp_path / "sim"], tmp_path / "run", budget=Budget(steps=1), config=SMALL)
    assert "1 episodes that failed are left out" in capsys.readouterr().out
    described = json.loads((tmp_path / "run" / CONFIG_FILE).read_text())["data"]
    assert (described["n_episodes"], described["n_steps"]) == (5, 80)
    assert described["seeds"] == [0, 2, 3, 4, 5]


def test_one_domain_alone_is_not_logged_twice(sim: Path, real: Path) -> None:
    for cloner in (trainer([sim], []), trainer([], [real])):
        assert not [name for name in cloner.train_step(0.1) if name.endswith(("/sim", "/real"))]
        assert not [name for name in cloner.validate() if name.endswith(("/sim", "/real"))]


def test_real_data_alone_have_no_part_poses_to_learn(real: Path) -> None:
    cloner = trainer([], [real])
    assert cloner.policy.parts_head is None
    assert "loss/parts" not in cloner.train_step(0.1)
    assert "parts_error_mm" not in cloner.validate()


def test_part_poses_of_real_steps_are_not_learned(sim: Path, real: Path) -> None:
    """They are zeros in memory: were they a target, the predicted ones would be drawn towards them."""
    cloner = trainer([sim], [real])
    rows, _ = cloner.loader.batch(0)
    changed = replace(cloner.data, parts=cloner.data.parts.clone())
    changed.parts[torch.from_numpy(changed.is_real)] = 1e6
    other = BCTrainer(SMALL, changed)
    assert changed.is_real[rows].any()
    assert other.train_step(0.1)["loss/parts"] == cloner.train_step(0.1)["loss/parts"]
    torch.testing.assert_close(other.policy.parts_normalizer.centre, cloner.policy.parts_normalizer.centre)


def test_a_real_observation_can_weigh_more_in_the_loss(sim: Path, real: Path) -> None:
    cloner = trainer([sim], [real], real_weight=3.0)
    rows, _ = cloner.loader.batch(0)
    share = (
        3 * cloner.data.is_real[rows].sum() / (3 * cloner.data.is_real[rows].sum() + (~cloner.data.is_real[rows]).sum())
    )
    figures = cloner.train_step(0.1)
    wanted = share * figures["loss/action/real"] + (1 - share) * figures["loss/action/sim"]
    assert float(figures["loss/action"]) == pytest.approx(float(wanted), rel=1e-5)


def test_batches_have_the_share_of_real_observations_that_is_asked_for(sim: Path, real: Path) -> None:
    """Two thirds of the steps are simulated: 64 of 96 that are trained on."""
    for share, wanted in ((None, 1 / 3), (0.75, 0.75)):
        cloner = trainer([sim], [real], real_share=share)
        drawn = np.concatenate([cloner.loader.batch(step)[0] for step in range(cloner.loader.steps_per_epoch)])
        assert cloner.data.is_real[drawn].mean() == pytest.approx(wanted, abs=0.02)


def test_a_run_that_reads_while_it_trains_ends_like_one_resumed(
    sim: Path, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SMALL, memory_gb=40 * 10_332 / 1e9)
    train_images([sim], tmp_path / "whole", real=[real], budget=Budget(steps=7), config=config)
    assert "they are read while training goes on" in capsys.readouterr().out.replace("\n", " ")
    train_step = BCTrainer.train_step

    def stopped(cloner: BCTrainer, progress: float) -> object:
        if cloner.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return train_step(cloner, progress)

    with monkeypatch.context() as patch:
        patch.setattr(BCTrainer, "train_step", stopped)
        with pytest.raises(SystemExit):
            train_images([sim], tmp_path / "parts", real=[real], budget=Budget(steps=7), config=config)
    train_images([sim], tmp_path / "parts", real=[real], budget=Budget(steps=7), config=config)
    assert load(tmp_path / "whole").sha256 == load(tmp_path / "parts").sha256


def test_the_command_mixes_what_it_is_given(sim: Path, real: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resip_training.algorithms.bc._SIZES", {"compact": SMALL})
        figures = tmp_path / "figures.json"
        command = TrainDistill(tmp_path / "run", (sim,), (real,), steps=1, threads=1, real_share=0.5, json=figures)
        command.run()
    assert json.loads(figures.read_text())["steps"] == 1
    settings = json.loads((tmp_path / "run" / CONFIG_FILE).read_text())["settings"]
    assert (settings["real_share"], settings["real_weight"]) == (0.5, 1.0)
