"""A run learns, resumes exactly, stops cleanly, and exports what it learned."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_demos import write_demos
from resip.errors import ResipError
from resip.policy.artefact import load_policy, read_manifest
from resip_training import runs
from resip_training.algorithms.bc import BCTrainer, load_training_data
from resip_training.algorithms.cloning import part_columns
from resip_training.data.mixture import Mixture
from resip_training.data.store import DemoSet
from resip_training.export import export_policy, record_evaluation
from resip_training.models.diffusion_policy import PolicyConfig, views
from resip_training.runs import Budget, read_metrics
from resip_training.train import load_policy_of, train_images
from safetensors.torch import load_file
from small_policies import SMALL as SMALL_IMAGES

SMALL = replace(
    SMALL_IMAGES,
    policy=replace(SMALL_IMAGES.policy, width=128),
    learning_rate=2e-3,
    ema_decay=0.9,
    held_out=0.2,
)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return write_demos(tmp_path_factory.mktemp("data") / "demos.zarr", n_episodes=5, n_steps=16)


@pytest.fixture(scope="module")
def finished(demos: DemoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    train_images([demos.path], run, budget=Budget(steps=6), config=SMALL)
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / runs.CHECKPOINT_FILE)


def test_a_few_seconds_overfit_the_training_episodes(demos: DemoSet) -> None:
    data = load_training_data(Mixture([demos.path]), SMALL)
    trainer = BCTrainer(SMALL, data)
    untrained = trainer.validate(data.train_rows)
    for step in range(140):
        trainer.train_step(step / 140)
    trained = trainer.validate(data.train_rows)
    assert trained["position_error_mm"] < 0.3 * untrained["position_error_mm"]
    assert trained["parts_error_mm"] < 0.5 * untrained["parts_error_mm"]
    assert trained["gripper_agreement"] > 0.75


def test_only_parts_that_move_and_the_obstacle_are_predicted(demos: DemoSet) -> None:
    assert part_columns(demos.part_poses, demos.episodes) == [*range(7), *range(14, 21)]


def test_a_part_that_one_episode_pushes_aside_is_not(demos: DemoSet) -> None:
    poses, pushed = demos.part_poses.copy(), demos.episodes[0]
    poses[pushed, 7] += np.linspace(0.0, 0.1, pushed.stop - pushed.start)
    assert part_columns(poses, demos.episodes) == [*range(7), *range(14, 21)]


@pytest.mark.parametrize(("units", "low"), [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)])
def test_encoders_are_trained_in_bfloat16_where_the_cpu_has_units_for_it(
    demos: DemoSet, monkeypatch: pytest.MonkeyPatch, units: dict[str, bool], low: bool
) -> None:
    """One without is ten times slower in it than in float32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    trainer = BCTrainer(SMALL, load_training_data(Mixture([demos.path]), SMALL))
    assert [encoder.low_precision for encoder in trainer.policy.image_encoders] == [low, low]
    exact = replace(SMALL, precision="float32")
    trainer = BCTrainer(exact, load_training_data(Mixture([demos.path]), exact))
    assert not any(encoder.low_precision for encoder in trainer.policy.image_encoders)


def test_the_seed_decides_a_run(demos: DemoSet, finished: Path, tmp_path: Path) -> None:
    train_images([demos.path], tmp_path / "same", budget=Budget(steps=6), config=SMALL)
    train_images([demos.path], tmp_path / "other", budget=Budget(steps=1), config=replace(SMALL, seed=1))
    same, other, straight = weights(tmp_path / "same"), weights(tmp_path / "other"), weights(finished)
    assert all(torch.equal(same[key], straight[key]) for key in straight)
    assert not torch.equal(other["model.encoder.front.stem.0.weight"], straight["model.encoder.front.stem.0.weight"])


def test_ctrl_c_finishes_the_step_and_saves_and_the_same_command_goes_on(
    demos: DemoSet, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_step = BCTrainer.train_step

    def interrupted_in_its_third_step(trainer: BCTrainer, progress: float) -> runs.Figures:
        if trainer.step == 2:
            signal.raise_signal(signal.SIGINT)
        return train_step(trainer, progress)

    with monkeypatch.context() as patch:
        patch.setattr(BCTrainer, "train_step", interrupted_in_its_third_step)
        with pytest.raises(SystemExit) as stopped:
            train_images([demos.path], tmp_path, budget=Budget(steps=6), config=SMALL)
    assert stopped.value.code == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert read_metrics(tmp_path)["steps"] == 3

    train_images([demos.path], tmp_path, budget=Budget(steps=6), config=SMALL)
    straight = weights(finished)
    assert all(torch.equal(value, straight[key]) for key, value in weights(tmp_path).items())


def test_a_folder_with_another_run_is_refused_naming_the_difference(demos: DemoSet, finished: Path) -> None:
    with pytest.raises(ResipError, match="other settings"):
        train_images([demos.path], finished, budget=Budget(steps=8), config=replace(SMALL, seed=1))


def test_a_folder_without_a_run_or_checkpoint_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ResipError, match="not a training run"):
        load_policy_of(tmp_path)
    (tmp_path / runs.CONFIG_FILE).write_bytes((finished / runs.CONFIG_FILE).read_bytes())
    with pytest.raises(ResipError, match="no checkpoint yet"):
        load_policy_of(tmp_path)
    (tmp_path / runs.CHECKPOINT_FILE).write_bytes(b"not tensors")
    with pytest.raises(ResipError, match="is damaged"):
        load_policy_of(tmp_path)


def test_the_configuration_survives_its_json_form(finished: Path) -> None:
    recorded = json.loads((finished / runs.CONFIG_FILE).read_text())
    assert PolicyConfig.from_json(recorded["settings"]["policy"]) == SMALL.policy


@pytest.fixture(scope="module")
def model(demos: DemoSet, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_policy(finished, demos.path, tmp_path_factory.mktemp("models") / "one_leg")


def test_the_exported_module_agrees_with_the_trained_policy_under_diffusers(
    demos: DemoSet, finished: Path, model: Path
) -> None:
    policy, _ = load_policy_of(finished)
    module = torch.jit.load(str(model / "policy.pt"))
    rows = np.arange(5)
    front, wrist = (torch.from_numpy(demos.images(camera, slice(0, 5))) for camera in ("front", "wrist"))
    state, noise = torch.from_numpy(demos.robot_state[rows]), torch.randn(5, 32, 10)
    inputs = train_views(policy.config, front, wrist)
    with torch.inference_mode():
        torch.testing.assert_close(
            module(state, front, wrist, noise), policy.sample(state, *inputs, noise), atol=1e-4, rtol=0
        )


def train_views(config: PolicyConfig, front: torch.Tensor, wrist: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The network's inputs as validation cuts them from the cached windows."""
    cut = views(config)
    return cut["front"].centre(cut["front"].window(front)), cut["wrist"].centre(cut["wrist"].window(wrist))


def test_the_manifest_says_where_the_policy_comes_from(model: Path, demos: DemoSet) -> None:
    manifest = read_manifest(model)
    assert manifest["data"]["sha256"] == demos.sha256()
    assert manifest["data"]["n_demonstrations"] == 5
    assert manifest["training"]["result"]["steps"] == 6
    assert manifest["horizons"] == {"observation": 1, "prediction": 32, "action": 8}
    assert "Not measured yet" in (model / "README.md").read_text()


def test_an_evaluation_is_written_into_manifest_and_card(model: Path) -> None:
    success = {"n": 20, "k": 7, "rate": 0.35, "interval": [0.18, 0.57], "seeds": [*range(19), 40]}
    record_evaluation(model, success, {"where": "ROS graph"})
    assert read_manifest(model)["evaluation"]["success"] == success
    card = (model / "README.md").read_text()
    assert "7 of 20 trials succeeded: 35%" in card
    assert "seeds 0-18, 40" in card
    load_policy(model).warm_up()
    with pytest.raises(ResipError, match="lacks rate"):
        record_evaluation(model, {name: value for name, value in success.items() if name != "rate"}, {})


def test_exporting_with_other_data_is_refused(finished: Path, tmp_path: Path) -> None:
    other = write_demos(tmp_path / "other.zarr", n_episodes=2)
    with pytest.raises(ResipError, match="not the data set that"):
        export_policy(finished, other.path, tmp_path / "model")
