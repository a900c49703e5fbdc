"""Training on from a policy that there is: a run, or a shipped model, with other demonstrations."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_demos import PROVENANCE, make_episode, write_demos, write_real_demos
from resip import spaces
from resip.errors import ResipError
from resip.policy.artefact import MANIFEST_FILE, read_manifest
from resip_training.checkpoints import of_other_shape
from resip_training.cli import TrainDistill
from resip_training.data.store import DemoSet, DemoWriter
from resip_training.export import export_policy
from resip_training.models.diffusion_policy import WRIST_VIEWS, DiffusionPolicy, views
from resip_training.origin import PART_POSE_LIMITS
from resip_training.runs import CONFIG_FILE, Budget
from resip_training.train import load_policy_of, train_images
from small_policies import SMALL

#: Of what is trained on: so low that the policy is still the one that it began with.
STILL = replace(SMALL, learning_rate=1e-12, weight_decay=0.0)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return write_demos(tmp_path_factory.mktemp("data") / "demos", n_episodes=5, n_steps=16)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    """Demonstrations of one more episode, so of other limits."""
    return write_demos(tmp_path_factory.mktemp("data") / "others", n_episodes=6, n_steps=16)


@pytest.fixture(scope="module")
def first(demos: DemoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "first"
    train_images([demos.path], run, budget=Budget(steps=6), config=replace(SMALL, learning_rate=2e-3))
    return run


@pytest.fixture(scope="module")
def model(first: Path, demos: DemoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_policy(first, demos.path, tmp_path_factory.mktemp("models") / "one_leg")


def chunk_of(policy: DiffusionPolicy, demos: DemoSet) -> torch.Tensor:
    config = policy.config
    seen = views(config)
    front, wrist = (seen[c](torch.from_numpy(demos.images(c, slice(0, 1)))) for c in spaces.CAMERAS)
    noise = torch.randn(1, config.prediction_horizon, 10, generator=torch.Generator().manual_seed(0))
    return policy.sample(torch.from_numpy(demos.robot_state[:1]), front, wrist, noise)


@pytest.mark.parametrize("origin", ["run", "model"])
def test_it_begins_as_the_policy_that_it_was_told(
    origin: str, first: Path, model: Path, demos: DemoSet, others: DemoSet, tmp_path: Path
) -> None:
    """The same actions, though the data's limits are others: those of the first policy stay."""
    begin_with = {"run": first, "model": model}[origin]
    larger = replace(STILL, policy=replace(STILL.policy, width=96))  # the network is that of the origin
    train_images([others.path], tmp_path / "run", budget=Budget(steps=1), config=larger, begin_with=begin_with)
    policy, config = load_policy_of(tmp_path / "run")
    before, _ = load_policy_of(first)
    torch.testing.assert_close(chunk_of(policy, demos), chunk_of(before, demos), atol=1e-5, rtol=0)
    torch.testing.assert_close(policy.parts_normalizer.state_dict(), before.parts_normalizer.state_dict())
    assert config["begun_with"]["name"] == begin_with.name
    assert config["settings"]["policy"]["width"] == SMALL.policy.width


def test_it_learns_on_and_is_exported(model: Path, others: DemoSet, first: Path, tmp_path: Path) -> None:
    TrainDistill(tmp_path / "run", sim=(others.path,), steps=3, threads=1, begin_with=model).run()
    before, after = load_policy_of(first)[0], load_policy_of(tmp_path / "run")[0]
    assert not torch.equal(before.denoiser.output[-1].weight, after.denoiser.output[-1].weight)
    card = (export_policy(tmp_path / "run", others.path, tmp_path / "model") / "README.md").read_text()
    assert "begun with the weights of one_leg" in card


@pytest.mark.parametrize("origin", ["run", "model"])
def test_the_encoders_alone_are_taken_for_another_task(origin: str, first: Path, model: Path, tmp_path: Path) -> None:
    """The one of another task has other parts and other limits, and begins with nothing else of that policy."""
    writer = DemoWriter(tmp_path / "peg", replace(PROVENANCE, task="peg_hole", part_names=("peg", "hole", "obstacle")))
    for seed in range(5):
        episode = make_episode(seed, 16)
        lifted = np.concatenate([episode.part_poses[:, :7], episode.part_poses], axis=1)
        writer.append(replace(episode, part_poses=lifted))
    peg = tmp_path / "peg"
    encoders = {"run": first, "model": model}[origin]
    train_images([peg], tmp_path / "run", budget=Budget(steps=1), config=STILL, encoder_weights=encoders)
    before, (after, config) = load_policy_of(first)[0], load_policy_of(tmp_path / "run")
    for name, weight in before.encoder.state_dict().items():
        torch.testing.assert_close(after.encoder.state_dict()[name], weight, atol=1e-6, rtol=0)
    assert not torch.allclose(before.denoiser.output[-1].weight, after.denoiser.output[-1].weight)
    assert config["encoder_weights"]["name"] == encoders.name
    card = (export_policy(tmp_path / "run", peg, tmp_path / "model") / "README.md").read_text()
    assert f"begun with the encoders of {encoders.name}" in card


def test_encoders_of_another_view_are_taken_but_for_the_layer_that_it_gives_another_size(
    first: Path, demos: DemoSet, tmp_path: Path
) -> None:
    closer = replace(STILL, policy=replace(STILL.policy, wrist=WRIST_VIEWS["centre"]))
    train_images([demos.path], tmp_path / "run", budget=Budget(steps=1), config=closer, encoder_weights=first)
    before, after = (load_policy_of(run)[0].encoder.state_dict() for run in (first, tmp_path / "run"))
    assert of_other_shape(load_policy_of(tmp_path / "run")[0].encoder, before) == ["wrist.head.0.weight"]
    for name in before.keys() - {"wrist.head.0.weight"}:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)


def test_a_policy_that_is_trained_on_may_execute_fewer_actions_of_a_chunk(
    model: Path, demos: DemoSet, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    TrainDistill(run, sim=(demos.path,), steps=1, threads=1, begin_with=model, action_horizon=2).run()
    out = export_policy(run, demos.path, tmp_path / "model")
    assert read_manifest(out)["horizons"]["action"] == 2
    assert "2 of them are executed before the next prediction" in (out / "README.md").read_text()
    too_many = TrainDistill(tmp_path / "none", sim=(demos.path,), steps=1, begin_with=model, action_horizon=99)
    with pytest.raises(ResipError, match="an action horizon of 99 does not fit chunks of"):
        too_many.run()
    with pytest.raises(ResipError, match="has a network: --denoiser and --wrist-view are for a new one"):
        replace(too_many, action_horizon=None, wrist_view="centre").run()
    assert not (tmp_path / "none").exists()


def test_demonstrations_of_a_real_cell_train_a_policy_on_that_predicts_parts(model: Path, tmp_path: Path) -> None:
    """Nobody knows where the parts are; what the policy has learned of them stays in it."""
    real = write_real_demos(tmp_path / "real", n_episodes=5, n_steps=8)
    train_images([], tmp_path / "run", real=[real.path], budget=Budget(steps=2), config=SMALL, begin_with=model)
    assert load_policy_of(tmp_path / "run")[0].parts_head is not None


def test_an_interrupted_run_is_resumed_with_the_same_origin_only(
    first: Path, model: Path, others: DemoSet, tmp_path: Path
) -> None:
    train_images([others.path], tmp_path / "run", budget=Budget(steps=1), config=SMALL, begin_with=first)
    train_images([others.path], tmp_path / "run", budget=Budget(steps=2), config=SMALL, begin_with=first)
    with pytest.raises(ResipError, match="begun_with"):
        train_images([others.path], tmp_path / "run", budget=Budget(steps=3), config=SMALL, begin_with=model)
    assert json.loads((tmp_path / "run" / CONFIG_FILE).read_text())["begun_with"]["name"] == first.name


def test_what_nothing_can_begin_with_is_named(first: Path, model: Path, demos: DemoSet, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ResipError, match="nowhere is neither a training run nor a model folder"):
        train_images([demos.path], out, config=SMALL, begin_with=tmp_path / "nowhere")
    with pytest.raises(ResipError, match="either a policy to begin with, or weights for encoders"):
        train_images([demos.path], out, config=SMALL, begin_with=first, encoder_weights=tmp_path / "r3m.pt")
    larger = replace(SMALL, policy=replace(SMALL.policy, feature_dim=96))
    with pytest.raises(ResipError, match="has other encoders than these settings"):
        train_images([demos.path], out, config=larger, encoder_weights=first)
    older = json.loads((shutil.copytree(model, tmp_path / "older") / MANIFEST_FILE).read_text())
    del older["training"][PART_POSE_LIMITS]
    (tmp_path / "older" / MANIFEST_FILE).write_text(json.dumps(older))
    with pytest.raises(ResipError, match="older does not say how it normalises part poses: export the policy again"):
        train_images([demos.path], out, config=SMALL, begin_with=tmp_path / "older")
    assert not out.exists()
    three = DemoWriter(tmp_path / "three", replace(PROVENANCE, part_names=("top", "leg3", "leg4")))
    for seed in range(4):
        episode = make_episode(seed, 16)
        lifted = np.concatenate([episode.part_poses[:, :7], episode.part_poses], axis=1)
        three.append(replace(episode, part_poses=lifted))
    with pytest.raises(ResipError, match="predicts 14 numbers of part poses, and in these data 21 matter"):
        train_images([tmp_path / "three"], out, config=SMALL, begin_with=first)
