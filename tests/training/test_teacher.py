"""Teachers: a run's policy as a folder that can be evaluated, refused where it is not what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_demos import write_demos
from resip.errors import ResipError
from resip.policy.artefact import CARD_FILE, GOLDEN_FILE, MANIFEST_FILE, MODULE_FILE
from resip_training import runs
from resip_training.algorithms.state_bc import StateBCConfig
from resip_training.checkpoints import load_teacher
from resip_training.export_teacher import export_teacher
from resip_training.models.mlp import MlpConfig
from resip_training.runs import Budget
from resip_training.train import train_bc
from safetensors.torch import load_file, save_file
from tiny_runs import write_residual_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    demos = write_demos(folder / "demos", n_episodes=3, images=False)
    policy = MlpConfig(prediction_horizon=4, action_horizon=4, width=16, blocks=1)
    train_bc(demos.path, folder / "run", budget=Budget(steps=2), config=StateBCConfig(policy, batch_size=16))
    return folder / "run"


def evaluation(path: Path, sha256: str) -> Path:
    success = {"n": 4, "k": 3, "rate": 0.75, "interval": [0.3, 0.95], "seeds": [7, 8, 9, 12]}
    path.write_text(json.dumps({"randomness": "low", "success": success, "sha256": sha256}))
    return path


def test_what_is_shipped_is_what_was_trained(run: Path, tmp_path: Path):
    trained = load_teacher(run)
    export_teacher(run, tmp_path / "teacher", [evaluation(tmp_path / "e.json", trained.sha256())])
    shipped = load_teacher(tmp_path / "teacher")
    assert shipped.sha256() == trained.sha256()
    assert (shipped.task, shipped.randomness) == ("one_leg", "low")
    assert {f.name for f in (tmp_path / "teacher").iterdir()} == {
        runs.CONFIG_FILE,
        runs.BEST_FILE,
        CARD_FILE,
        MODULE_FILE,
        MANIFEST_FILE,
        GOLDEN_FILE,
    }
    card = (tmp_path / "teacher" / CARD_FILE).read_text()
    assert "3 of 4 (30% to 95%)" in card
    assert "7-9, 12" in card
    assert trained.sha256() in card


def test_a_shipped_teacher_is_exported_again_with_what_is_known_of_its_training(run: Path, tmp_path: Path):
    shipped = tmp_path / "teacher"
    export_teacher(run, shipped, [evaluation(tmp_path / "e.json", load_teacher(run).sha256())])
    before = {path.name: path.read_bytes() for path in shipped.iterdir() if path.name != MODULE_FILE}
    (shipped / MODULE_FILE).unlink()
    export_teacher(shipped, shipped)
    assert (shipped / MODULE_FILE).exists()
    assert json.loads((shipped / runs.CONFIG_FILE).read_text()) == json.loads(before[runs.CONFIG_FILE])
    assert (shipped / CARD_FILE).read_bytes() == before[CARD_FILE]
    assert load_teacher(shipped).sha256() == load_teacher(run).sha256()


def test_an_evaluation_of_other_weights_is_refused(run: Path, tmp_path: Path):
    with pytest.raises(ResipError, match="measured other weights"):
        export_teacher(run, tmp_path / "teacher", [evaluation(tmp_path / "e.json", "0" * 64)])
    assert not (tmp_path / "teacher").exists()


def test_altered_weights_are_refused(run: Path, tmp_path: Path):
    export_teacher(run, tmp_path / "teacher")
    path = tmp_path / "teacher" / runs.BEST_FILE
    weights = load_file(path)
    weights[next(iter(weights))] += 1
    save_file(weights, path)
    with pytest.raises(ResipError, match="another hash"):
        load_teacher(tmp_path / "teacher")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contract": {"observation": "state", "action": "delta"}}, "trained under another contract"),
        ({"algorithm": "dagger"}, "a run of 'dagger'"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_by_name(run: Path, tmp_path: Path, change: dict, message: str):
    export_teacher(run, tmp_path / "other")
    config = json.loads((tmp_path / "other" / runs.CONFIG_FILE).read_text())
    (tmp_path / "other" / runs.CONFIG_FILE).write_text(json.dumps({**config, **change}))
    with pytest.raises(ResipError, match=message):
        load_teacher(tmp_path / "other")


def test_weights_of_another_network_are_refused(run: Path, tmp_path: Path):
    export_teacher(run, tmp_path / "other")
    config = json.loads((tmp_path / "other" / runs.CONFIG_FILE).read_text())
    config["base"]["policy"]["width"] = 32
    (tmp_path / "other" / runs.CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(ResipError, match="weights of another network"):
        load_teacher(tmp_path / "other")


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(ResipError, match="is not a training run"):
        load_teacher(tmp_path)


def test_a_residual_that_was_learned_without_demonstrations_names_its_base(tmp_path: Path):
    export_teacher(write_residual_run(tmp_path / "run"), tmp_path / "teacher")
    assert "Those of its base, the run runs/base" in (tmp_path / "teacher" / CARD_FILE).read_text()
    assert load_teacher(tmp_path / "teacher").residual is not None
