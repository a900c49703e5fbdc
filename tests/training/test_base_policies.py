"""The base policies: sizes of the paper, what each can learn, and what survives saving."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resip import spaces
from resip.errors import ResipError, UnknownNameError
from resip_training.models.act import ActBase, ActConfig
from resip_training.models.base_policy import BaseConfig, BasePolicy
from resip_training.models.diffusion import DiffusionBase, DiffusionConfig
from resip_training.models.features import Inputs, goals_of
from resip_training.models.mlp import MlpConfig
from resip_training.models.presets import PRESETS, build, config_as_json, config_from_json, preset
from resip_training.models.schedule import inference_scheduler
from resip_training.models.transformer import TransformerConfig
from resip_training.models.unet import Unet, UnetConfig
from resip_training.sim import tasks
from safetensors.torch import load_file, save_file
from torch import Tensor

ONE_LEG_DIM = spaces.STATE_DIM + 6 * spaces.PART_POSE_DIM
GOALS = goals_of(tasks.ONE_LEG, tasks.ONE_LEG.part_names)
INPUTS = Inputs(ONE_LEG_DIM, tuple(range(ONE_LEG_DIM)), GOALS)
NAMES = ("mlp-s", "mlp-c", "dp", "act")

#: Settings small enough to learn a toy by heart in seconds.
SMALL: dict[str, BaseConfig] = {
    "mlp-s": MlpConfig(prediction_horizon=1, action_horizon=1, width=64, blocks=2, dropout=0.0),
    "mlp-c": MlpConfig(width=64, blocks=2, dropout=0.0),
    "dp": DiffusionConfig(prediction_horizon=8, width=96, blocks=2),
    "dp-unet": DiffusionConfig(prediction_horizon=8, backbone="unet", unet=UnetConfig((16, 32), 16, 3, 4)),
    "dp-transformer": DiffusionConfig(
        prediction_horizon=8,
        backbone="transformer",
        transformer=TransformerConfig(layers=2, heads=2, width=32, attention_dropout=0.0),
    ),
    "act": ActConfig(prediction_horizon=8, width=32, feedforward=64, encoder_layers=1, dropout=0.0),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def toy(horizon: int, n: int = 24) -> tuple[Tensor, Tensor]:
    """Observations, and chunks that go from the hand towards the last part, closing where it is to the left."""
    observation = torch.rand(n, ONE_LEG_DIM) - 0.5
    here, there = observation[:, None, :9], observation[:, None, -7:-4].repeat(1, 1, 3)
    share = torch.linspace(0.1, 0.8, horizon)[:, None]
    gripper = there[..., 1:2].sign().expand(-1, horizon, -1)
    return observation, torch.cat([here + share * (there - here), gripper], dim=-1)


def train(policy: BasePolicy, observation: Tensor, chunks: Tensor, steps: int, rate: float = 3e-3) -> BasePolicy:
    policy.fit(observation, chunks)
    optimizer = torch.optim.Adam(policy.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        policy.loss(observation, chunks).backward()
        optimizer.step()
        schedule.step()
    return policy.eval()


def noise_of(policy: BasePolicy, n: int) -> Tensor:
    return torch.randn(n, *policy.noise_shape)


def n_parameters(config: BaseConfig) -> int:
    return sum(parameter.numel() for parameter in build(config, INPUTS).parameters())


def test_the_papers_unet_has_66_million_parameters() -> None:
    assert n_parameters(preset("dp", "paper")) == pytest.approx(66e6, rel=0.02)


@pytest.mark.parametrize(("name", "horizon"), [("mlp-s", 1), ("mlp-c", 8)])
def test_the_papers_mlp_has_five_blocks_of_two_layers_which_round_to_11_million(name: str, horizon: int) -> None:
    width = 1024
    layers = [(ONE_LEG_DIM, width), *[(width, width)] * 10, (width, horizon * spaces.ACTION_DIM)]
    count = n_parameters(preset(name, "paper"))
    assert count == sum((inputs + 1) * outputs for inputs, outputs in layers)
    assert round(count / 1e6) == 11


def test_the_papers_diffusion_predicts_noise_in_100_steps_and_acts_after_4() -> None:
    config = preset("dp", "paper")
    assert isinstance(config, DiffusionConfig)
    assert (config.prediction_type, config.diffusion_steps, config.inference_steps) == ("epsilon", 100, 4)
    assert (config.actions, config.parts, config.poses) == ("absolute", "all", "absolute")
    assert inference_scheduler(config).timesteps.tolist() == [75, 50, 25, 0]


@pytest.mark.parametrize("size", ["paper", "compact"])
def test_horizons_are_those_of_tables_4_and_5(size: str) -> None:
    horizons = {name: (config.prediction_horizon, config.action_horizon) for name, config in PRESETS[size].items()}
    assert horizons["mlp-s"] == (1, 1)
    assert horizons["mlp-c"] == (8, 8)
    assert horizons["dp"] == ((32, 8) if size == "paper" else (16, 8))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", ["paper", "compact"])
def test_every_preset_learns(size: str, name: str) -> None:
    policy = build(preset(name, size), INPUTS)
    observation, chunks = toy(policy.prediction_horizon, n=2)
    policy.fit(observation, chunks)

    def loss() -> Tensor:
        torch.manual_seed(1)
        return policy.loss(observation, chunks)

    before = loss()
    before.backward()
    with torch.no_grad():
        squared_slope = sum(p.grad.square().sum() for p in policy.parameters() if p.grad is not None)
        for parameter in policy.parameters():
            if parameter.grad is not None:
                parameter -= 0.02 * before / squared_slope * parameter.grad
        assert loss() < 0.999 * before


@pytest.mark.parametrize("name", SMALL)
def test_a_tiny_data_set_is_learned_by_heart(name: str) -> None:
    policy = build(SMALL[name], INPUTS)
    observation, chunks = toy(policy.prediction_horizon, n=12)
    train(policy, observation, chunks, steps=250)
    error = (policy.sample(observation, noise_of(policy, 12)) - chunks).abs()
    assert error[..., :9].mean() < 0.03, "of pose entries whose spread is 0.3"
    assert error[..., 9].mean() < 0.25


@pytest.mark.parametrize("name", SMALL)
def test_weights_and_normalisers_survive_a_file(name: str, tmp_path: Path) -> None:
    policy = build(SMALL[name], INPUTS)
    observation, chunks = toy(policy.prediction_horizon)
    policy.fit(observation, 3.0 * chunks)
    save_file(policy.state_dict(), tmp_path / "policy.safetensors")

    config = config_from_json(json.loads(json.dumps(config_as_json(SMALL[name]))))
    restored = build(config, INPUTS)
    restored.load_state_dict(load_file(tmp_path / "policy.safetensors"))
    noise = noise_of(policy, 24)
    assert torch.equal(restored.eval().sample(observation, noise), policy.eval().sample(observation, noise))


@pytest.mark.parametrize("size", PRESETS)
@pytest.mark.parametrize("name", NAMES)
def test_settings_survive_their_json_form(size: str, name: str) -> None:
    config = preset(name, size)
    assert config_from_json(json.loads(json.dumps(config_as_json(config)))) == config


def test_unknown_names_are_refused_with_the_nearest_valid_one() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown base policy 'mlpc': did you mean 'mlp-c'"):
        preset("mlpc", "paper")
    with pytest.raises(UnknownNameError, match=r"unknown preset 'papers': did you mean 'paper'"):
        preset("dp", "papers")
    with pytest.raises(UnknownNameError, match="unknown kind of base policy 'rnn'"):
        config_from_json({"kind": "rnn"})
    with pytest.raises(UnknownNameError, match=r"unknown setting of MlpConfig 'widht': did you mean 'width'"):
        config_from_json({"kind": "mlp", "widht": 3})
    with pytest.raises(UnknownNameError, match="unknown setting of UnetConfig 'n_groups'"):
        config_from_json({"kind": "diffusion", "unet": {"n_groups": 8}})
    with pytest.raises(UnknownNameError, match="unknown backbone 'u-net': did you mean 'unet'"):
        build(config_from_json({"kind": "diffusion", "backbone": "u-net"}), INPUTS)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MlpConfig(prediction_horizon=4), "action horizon of 8 does not fit chunks of 4"),
        (DiffusionConfig(backbone="unet", prediction_horizon=30), "choose a multiple of 4"),
        (DiffusionConfig(backbone="unet", unet=UnetConfig(kernel_size=4)), "choose an odd one"),
        (DiffusionConfig(backbone="unet", unet=UnetConfig((64, 100))), "not multiples of its 8 groups"),
        (DiffusionConfig(backbone="unet", unet=UnetConfig(())), "at least one level"),
        (ActConfig(width=66), "no even multiple of its 4 heads"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(config: BaseConfig, message: str) -> None:
    with pytest.raises(ResipError, match=message):
        build(config, INPUTS)


@pytest.mark.parametrize("name", ["mlp-c", "act"])
def test_dropout_is_for_cloning_only(name: str) -> None:
    """The reference leaves it on in updates by reinforcement and in their evaluation."""
    policy = build(preset(name, "compact"), INPUTS)
    observation, _ = toy(policy.prediction_horizon)
    noise = noise_of(policy, 24)
    assert not torch.equal(policy.sample(observation, noise), policy.sample(observation, noise))
    policy.eval()
    assert torch.equal(policy.sample(observation, noise), policy.sample(observation, noise))


@pytest.mark.parametrize("name", SMALL)
def test_a_chunk_depends_on_its_own_observation_and_noise_alone(name: str) -> None:
    """The reference starts from a plan made before, which outlives the reset of an episode."""
    policy = build(SMALL[name], INPUTS).eval()
    observation, _ = toy(policy.prediction_horizon)
    noise = noise_of(policy, 24)
    fresh = policy.sample(observation[:1], noise[:1])
    together = policy.sample(observation, noise)
    torch.testing.assert_close(together[:1], fresh, atol=1e-5, rtol=0)
    assert torch.equal(policy.sample(observation[:1], noise[:1]), fresh)


@pytest.mark.parametrize("name", ["mlp-s", "mlp-c", "act"])
def test_only_diffusion_listens_to_the_noise(name: str) -> None:
    policy = build(SMALL[name], INPUTS).eval()
    observation, _ = toy(policy.prediction_horizon)
    assert torch.equal(
        policy.sample(observation, noise_of(policy, 24)), policy.sample(observation, noise_of(policy, 24))
    )


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_takes_part(name: str) -> None:
    policy = build(SMALL[name], INPUTS)
    observation, chunks = toy(policy.prediction_horizon)
    train(policy, observation, chunks, 1)  # layers that start at zero have moved
    policy.zero_grad()
    policy.loss(observation, chunks).backward()
    idle = [key for key, p in policy.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize(
    ("change", "shows_in"),
    [
        ({"kernel_size": 3}, lambda unet: unet.down[0].first.first[0].kernel_size == (3,)),
        ({"groups": 4}, lambda unet: unet.middle[1].second[1].num_groups == 4),
        ({"step_embedding_dim": 32}, lambda unet: unet.time[-1].out_features == 32),
        ({"down_dims": (16, 32)}, lambda unet: (len(unet.down), len(unet.up)) == (2, 1)),
    ],
)
def test_every_setting_of_the_unet_reaches_it(change: dict[str, Any], shows_in: Any) -> None:
    """In the reference, kernel, groups and step embedding stay at the defaults of its class."""
    config = replace(UnetConfig((16, 32, 64), 16, 5, 8), **change)
    policy = build(DiffusionConfig(backbone="unet", unet=config), INPUTS)
    assert isinstance(policy, DiffusionBase)
    assert shows_in(policy.denoiser)


def test_the_unet_sees_the_whole_chunk_the_step_and_the_observation() -> None:
    unet = Unet(16, 10, 5, UnetConfig((16, 32, 64), 16, 5, 8)).eval()
    noisy, step, features = torch.randn(2, 16, 10), torch.tensor([3, 3]), torch.randn(2, 5)
    before = unet(noisy, step, features)
    assert before.shape == noisy.shape
    first, last = noisy.clone(), noisy.clone()
    first[:, 0], last[:, -1] = 0.0, 0.0
    assert not torch.allclose(unet(first, step, features)[:, -1], before[:, -1])
    assert not torch.allclose(unet(last, step, features)[:, 0], before[:, 0])
    assert not torch.allclose(unet(noisy, step + 50, features), before)
    assert not torch.allclose(unet(noisy, step, -features), before)


def act(**changes: Any) -> ActBase:
    torch.manual_seed(2)
    policy = ActBase(replace(ActConfig(dropout=0.0), **changes), INPUTS)
    observation, chunks = toy(policy.prediction_horizon)
    policy.fit(observation, chunks)
    return policy


def test_the_loss_of_act_is_the_l1_error_and_ten_times_the_divergence() -> None:
    observation, chunks = toy(16)
    weighted, alone = act(), act(kl_weight=0.0)
    losses = []
    for policy in (weighted, alone):
        torch.manual_seed(3)
        losses.append(policy.loss(observation, chunks))
    state = weighted.features(observation)[:, : spaces.STATE_DIM]
    chunk = weighted.chunk_normalizer.normalize(chunks, observation[:, : spaces.STATE_DIM])
    mean, log_variance = weighted.style_encoder(state, chunk)
    style = torch.distributions.Normal(mean, (log_variance / 2).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    divergence = torch.distributions.kl_divergence(style, prior).sum(dim=-1).mean()
    assert mean.shape == (24, 32)
    torch.testing.assert_close(losses[0] - losses[1], 10 * divergence, rtol=1e-4, atol=1e-4)


def test_act_tells_parts_and_steps_apart() -> None:
    policy = act(poses="absolute").eval()
    observation, _ = toy(16)
    swapped = observation.clone()
    swapped[:, 16:23], swapped[:, 23:30] = observation[:, 23:30], observation[:, 16:23]
    noise = noise_of(policy, 24)
    chunks = policy.sample(observation, noise)
    assert (chunks[:, 1:] - chunks[:, :-1]).abs().amax(dim=-1).min() > 1e-4
    assert not torch.allclose(policy.sample(swapped, noise), chunks)
