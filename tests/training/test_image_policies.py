"""Policies on images: every encoder with every denoiser, the paper's sizes, and what survives saving and export."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from fake_demos import write_demos
from resip.errors import ResipError, UnknownNameError
from resip.policy.artefact import load_policy
from resip_training.algorithms.bc import BCConfig, BCTrainer, load_training_data, preset
from resip_training.data.images import AugmentConfig, PaperAugmentConfig
from resip_training.data.mixture import Mixture
from resip_training.data.store import DemoSet
from resip_training.export import ExportedPolicy, export_policy
from resip_training.models.backbones import Backbone
from resip_training.models.diffusion_policy import PAPER, DiffusionPolicy, Encoder, PolicyConfig, views
from resip_training.models.encoder import ViewConfig
from resip_training.models.resized_view import ResizedViewConfig
from resip_training.models.resnet import ResNet18, ResNetEncoder
from resip_training.models.transformer import TransformerConfig
from resip_training.models.unet import UnetConfig
from resip_training.runs import CONFIG_FILE, Budget
from resip_training.train import load_policy_of, train_images
from safetensors.torch import save_file
from torch import Tensor

#: Views for encoders that are to be quick.
VIEWS = {
    "compact": (
        ViewConfig(top=80, left=32, height=136, width=264, reduction=4),
        ViewConfig(top=0, left=0, height=240, width=320, reduction=8, margin=2),
    ),
    "resnet18": (ResizedViewConfig(36, 42, crop=32), ResizedViewConfig(32, 32, crop=32)),
}


def small(encoder: Encoder, backbone: Backbone, **changes: object) -> PolicyConfig:
    front, wrist = VIEWS[encoder]
    config = PolicyConfig(
        front=front,
        wrist=wrist,
        encoder=encoder,
        norm="group",
        feature_dim=16,
        backbone=backbone,
        width=64,
        blocks=2,
        unet=UnetConfig((16, 32), 16, 3, 4),
        transformer=TransformerConfig(layers=2, heads=2, width=32, attention_dropout=0.0),
        prediction_horizon=8,
    )
    return replace(config, **changes)  # pyright: ignore[reportArgumentType]


#: The paper's kind of policy, small: learns in seconds.
TINY = BCConfig(
    policy=small("resnet18", "transformer", predicts_parts=False, actions="absolute"),
    front_augment=PaperAugmentConfig(jitter=0.0, blur_sigma_px=(0.01, 0.02), erased=0.0),
    wrist_augment=PaperAugmentConfig(jitter=0.0, blur_sigma_px=(0.01, 0.02), erased=0.0),
    batch_size=16,
    noise_draws=4,
    learning_rate=2e-3,
    ema_decay=0.9,
    refinement=0.0,
    held_out=0.2,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return write_demos(tmp_path_factory.mktemp("data") / "demos", n_episodes=5, n_steps=16)


@pytest.fixture(scope="module")
def finished(demos: DemoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    train_images([demos.path], run, budget=Budget(steps=3), config=TINY)
    return run


def resnets(policy: DiffusionPolicy) -> list[ResNetEncoder]:
    return [encoder for encoder in policy.image_encoders if isinstance(encoder, ResNetEncoder)]


def observations(n: int) -> tuple[Tensor, Tensor, Tensor]:
    front, wrist = torch.randint(0, 256, (2, n, 240, 320, 3), dtype=torch.uint8)
    return torch.randn(n, 16), front, wrist


@pytest.mark.parametrize("backbone", ["mlp", "unet", "transformer"])
@pytest.mark.parametrize("encoder", ["compact", "resnet18"])
@pytest.mark.parametrize("parts", [0, 14])
def test_any_encoder_goes_with_any_denoiser_and_is_exported_as_it_is(
    encoder: Encoder, backbone: Backbone, parts: int
) -> None:
    policy = DiffusionPolicy(small(encoder, backbone), parts).eval()
    cut = views(policy.config)
    state, front, wrist = observations(3)
    noise = torch.randn(3, 8, 10)
    with torch.inference_mode():
        wanted = policy.sample(state, cut["front"](front), cut["wrist"](wrist), noise)
        pair = (state[:2], front[:2], wrist[:2], noise[:2])
        traced = torch.jit.freeze(torch.jit.trace(ExportedPolicy(policy).eval(), pair, check_trace=False))
        given = traced(state, front, wrist, noise)
    assert wanted.shape == (3, 8, 10)
    torch.testing.assert_close(given, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", [PolicyConfig(), PAPER, small("resnet18", "unet")])
def test_a_configuration_survives_its_json_form(config: PolicyConfig) -> None:
    assert PolicyConfig.from_json(json.loads(json.dumps(asdict(config)))) == config


def test_a_configuration_of_before_there_was_a_choice_is_the_compact_one() -> None:
    new = ("encoder", "norm", "predicts_parts", "actions", "backbone", "unet", "transformer")
    older = {name: value for name, value in asdict(PolicyConfig()).items() if name not in new}
    assert PolicyConfig.from_json(older) == PolicyConfig()
    with pytest.raises(UnknownNameError, match="blocs"):
        PolicyConfig.from_json({**older, "blocs": 3})


def test_the_papers_preset_is_tables_10_to_12() -> None:
    config, updates = preset("paper")
    assert (updates, config.batch_size, config.weight_decay) == (500_000, 256, 1e-3)
    assert (config.learning_rate, config.encoder_learning_rate) == (1e-4, 1e-5)
    assert (config.warmup * 500_000, config.encoder_warmup * 500_000) == (1000, 5000)
    policy = config.policy
    assert (policy.encoder, policy.feature_dim, policy.backbone) == ("resnet18", 128, "transformer")
    assert policy.transformer == TransformerConfig(8, 4, 256, attention_dropout=0.3, embedding_dropout=0.0)
    assert (policy.front.input_size, policy.wrist.input_size) == ((224, 224), (224, 224))
    assert (policy.prediction_type, policy.actions, policy.predicts_parts) == ("epsilon", "absolute", False)
    assert (policy.prediction_horizon, policy.action_horizon, policy.diffusion_steps) == (32, 8, 100)
    assert preset("paper", "unet", "group")[0].policy == replace(policy, backbone="unet", norm="group")
    assert preset("compact")[1] is None
    with pytest.raises(UnknownNameError, match="huge"):
        preset("huge")


def test_a_compact_policy_may_see_the_centre_of_the_wrist_image_at_full_resolution() -> None:
    config, _ = preset("compact", wrist_view="centre", shift_px=0)
    assert isinstance(config.policy.wrist, ViewConfig)
    assert (config.policy.wrist.reduction, config.policy.front) == (1, PolicyConfig().front)
    assert config.front_augment == config.wrist_augment == AugmentConfig(shift_px=0)
    assert PolicyConfig.from_json(json.loads(json.dumps(asdict(config.policy)))) == config.policy
    for settings in ({"wrist_view": "centre"}, {"shift_px": 0}):
        with pytest.raises(ResipError, match="paper preset has views and shifts of its own"):
            preset("paper", **settings)


@pytest.mark.parametrize(("backbone", "denoiser"), [("transformer", 9.04e6), ("unet", 66e6)])
def test_the_papers_policy_has_two_encoders_of_11_million_parameters(backbone: Backbone, denoiser: float) -> None:
    """Table 4 counts 66 M of the U-Net, conditioned by 58 numbers of a state; 272 of an observation add a few."""
    config, _ = preset("paper", backbone)
    policy = DiffusionPolicy(config.policy, 0)
    trunks = [sum(p.numel() for p in encoder.trunk.parameters()) for encoder in resnets(policy)]
    assert trunks == pytest.approx([11e6, 11e6], rel=0.02)
    assert policy.encoder.dim == 16 + 128 + 128
    assert sum(p.numel() for p in policy.denoiser.parameters()) == pytest.approx(denoiser, rel=0.06)


@pytest.mark.parametrize(("backbone", "left"), [("transformer", 0.65), ("unet", 0.35)])
def test_a_few_seconds_overfit_the_training_episodes(demos: DemoSet, backbone: Backbone, left: float) -> None:
    policy = small("compact", backbone)
    config = BCConfig(policy, batch_size=16, learning_rate=1.5e-3, ema_decay=0.9, refinement=0.0, held_out=0.2)
    data = load_training_data(Mixture([demos.path]), config)
    trainer = BCTrainer(config, data)
    untrained = trainer.validate(data.train_rows)
    for step in range(140):
        trainer.train_step(step / 140)
    trained = trainer.validate(data.train_rows)
    assert trained["position_error_mm"] < left * untrained["position_error_mm"]
    assert trained["parts_error_mm"] < 0.5 * untrained["parts_error_mm"]


def test_a_run_says_which_policy_it_is_and_is_loaded_and_exported(
    finished: Path, demos: DemoSet, tmp_path: Path
) -> None:
    recorded = json.loads((finished / CONFIG_FILE).read_text())["settings"]["policy"]
    assert (recorded["encoder"], recorded["backbone"]) == ("resnet18", "transformer")
    policy, _ = load_policy_of(finished)
    assert policy.config == TINY.policy
    model = export_policy_of_any_size(finished, demos, tmp_path / "model")
    chunk = load_policy(model).chunk(
        demos.robot_state[0], *(demos.images(c, slice(0, 1))[0] for c in ("front", "wrist"))
    )
    assert chunk.shape == (8, 10)


def export_policy_of_any_size(run: Path, demos: DemoSet, out: Path) -> Path:
    """Two ResNets are larger than what may be shipped in git."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resip_training.export.MAX_SIZE_BYTES", 10**9)
        return export_policy(run, demos.path, out)


def rates_and_weights(demos: DemoSet, config: BCConfig, weights: Path | None = None) -> BCTrainer:
    return BCTrainer(config, load_training_data(Mixture([demos.path]), config), encoder_weights=weights)


def test_encoders_learn_at_their_own_rate(demos: DemoSet) -> None:
    trainer = rates_and_weights(
        demos, replace(TINY, encoder_learning_rate=2e-4, warmup=0.1, encoder_warmup=0.4, learning_rate=2e-3)
    )
    rates = []
    for progress in (0.05, 0.1, 0.2, 0.4):
        trainer.train_step(progress)
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])
    assert rates[0] == pytest.approx([2e-4 * 0.05 / 0.4, 2e-3 * 0.5])
    assert rates[1] == pytest.approx([2e-4 * 0.25, 2e-3])
    assert rates[3][0] == pytest.approx(2e-4)
    encoders = {id(p) for p in trainer.policy.encoder.parameters()}
    assert {id(p) for p in trainer.optimizer.param_groups[0]["params"]} == encoders


def test_a_frozen_encoder_stays_as_its_weights_were(demos: DemoSet, tmp_path: Path) -> None:
    torch.manual_seed(9)
    given = ResNet18().state_dict()
    save_file(given, tmp_path / "r3m.safetensors")
    config = replace(TINY, freeze_encoder=True, policy=replace(TINY.policy, norm="batch"))
    trainer = rates_and_weights(demos, config, tmp_path / "r3m.safetensors")
    projections = [encoder.projection.weight.clone() for encoder in resnets(trainer.policy)]
    trainer.train_step(0.5)
    for policy in (trainer.policy, trainer.average):
        for encoder in resnets(policy):
            assert all(torch.equal(v, given[k]) for k, v in encoder.trunk.state_dict().items())
    after = [encoder.projection.weight for encoder in resnets(trainer.policy)]
    assert not any(torch.equal(a, b) for a, b in zip(projections, after, strict=True))


def test_statistics_of_batch_norms_reach_the_weights_that_act(demos: DemoSet) -> None:
    trainer = rates_and_weights(demos, replace(TINY, policy=replace(TINY.policy, norm="batch")))
    trainer.train_step(0.5)
    learned, averaged = (resnets(policy)[0].trunk.state_dict() for policy in (trainer.policy, trainer.average))
    assert learned["bn1.running_mean"].abs().max() > 1e-3
    assert torch.equal(averaged["bn1.running_mean"], learned["bn1.running_mean"])


def test_weights_where_they_have_no_place_are_refused_and_leave_no_run(demos: DemoSet, tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.safetensors")
    compact = replace(TINY, policy=small("compact", "mlp"))
    refusals: list[tuple[str, BCConfig, str | None]] = [
        ("the compact encoder learns", compact, "other.safetensors"),
        ("at random cannot stay frozen", replace(TINY, freeze_encoder=True), None),
        ("no encoder weights at", TINY, "absent.pt"),
        (r"conv1.weight has shape \(64, 3, 3, 3\), not \(64, 3, 7, 7\)", TINY, "other.safetensors"),
    ]
    for reason, config, file in refusals:
        weights = None if file is None else tmp_path / file
        with pytest.raises(ResipError, match=reason):
            train_images([demos.path], tmp_path / "run", config=config, encoder_weights=weights)
        assert not (tmp_path / "run").exists()
