"""Normaliser, views and network: ranges, pixels and the anchor that a chunk is predicted from."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from resip_training.models.diffusion_policy import PolicyConfig
from resip_training.models.encoder import View, ViewConfig, to_input
from resip_training.models.normalizer import (
    GRIPPER_HALF_RANGE,
    HALF_RANGE_FLOOR,
    AbsoluteChunkNormalizer,
    ChunkNormalizer,
    Normalizer,
)
from resip_training.models.schedule import PredictionType, inference_scheduler


def test_the_datas_range_becomes_minus_one_to_one() -> None:
    normalizer = Normalizer(2).fit(torch.tensor([[0.2, -5.0], [0.6, 1.0], [0.3, 0.0]]))
    torch.testing.assert_close(
        normalizer.normalize(torch.tensor([[0.2, 1.0], [0.4, -2.0]])), torch.tensor([[-1.0, 1.0], [0.0, 0.0]])
    )


def test_a_constant_dimension_maps_to_zero_and_a_narrow_one_is_not_blown_up() -> None:
    normalizer = Normalizer(2).fit(torch.tensor([[0.015, 0.0152], [0.015, 0.0148]]))
    torch.testing.assert_close(normalizer.normalize(torch.tensor([0.015, 0.0152])), torch.tensor([0.0, 0.02]))
    torch.testing.assert_close(normalizer.half_range, torch.full((2,), HALF_RANGE_FLOOR))


@given(st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3))
def test_denormalising_inverts_normalising(values: list[float]) -> None:
    normalizer = Normalizer(3).fit(torch.tensor([[0.0, -1.0, 2.0], [0.5, 1.0, 2.0]]))
    there_and_back = normalizer.denormalize(normalizer.normalize(torch.tensor(values)))
    torch.testing.assert_close(there_and_back, torch.tensor(values), atol=1e-5, rtol=1e-5)


def test_a_view_is_the_window_averaged_without_its_margin() -> None:
    images = torch.arange(240 * 320 * 3, dtype=torch.float64).remainder(251).to(torch.uint8).reshape(1, 240, 320, 3)
    config = ViewConfig(top=8, left=16, height=32, width=48, reduction=2, margin=3)
    view = View(config)

    pixel = images[0, 8 + 2 * 5 : 8 + 2 * 6, 16 + 2 * 7 : 16 + 2 * 8].to(torch.float64).mean(dim=(0, 1))
    assert (view.window(images)[0, 5, 7] - pixel).abs().max() <= 0.5
    assert view.window(images).shape[1:] == config.cached_shape
    assert view(images).shape == (1, 3, *config.input_size)
    torch.testing.assert_close(view(images)[0, :, 2, 4], to_input(view.window(images))[0, :, 5, 7])


def test_a_chunk_is_seen_from_the_present_pose_each_step_in_its_own_range() -> None:
    state = torch.randn(50, 16)
    reach = torch.linspace(0.05, 0.5, 4)[:, None]
    actions = state[:, None, :9] + reach * (2 * torch.rand(50, 4, 9) - 1)
    actions = torch.cat([actions, torch.randn(50, 4, 1).sign()], dim=-1)
    normalizer = ChunkNormalizer(horizon=4).fit(state, actions)

    chunk = normalizer.normalize(actions, state)
    torch.testing.assert_close(chunk[..., :9].abs().amax(dim=0), torch.ones(4, 9))
    torch.testing.assert_close(chunk[..., 9], actions[..., 9] / GRIPPER_HALF_RANGE)
    torch.testing.assert_close(normalizer.denormalize(chunk, state), actions)
    held = normalizer.denormalize(torch.zeros(50, 4, 10), state)
    torch.testing.assert_close(held[:, 3, :9], state[:, :9])


def test_sampling_starts_from_the_noisiest_step_at_which_the_prediction_decides_something() -> None:
    def steps(prediction_type: PredictionType) -> list[int]:
        config = PolicyConfig(inference_steps=4, prediction_type=prediction_type)
        return inference_scheduler(config).timesteps.tolist()

    assert steps("sample") == [99, 74, 49, 24]
    assert steps("epsilon") == [75, 50, 25, 0]


def test_limits_of_pieces_are_those_of_the_whole() -> None:
    state, actions = torch.randn(30, 16), torch.randn(30, 4, 10)
    for make in (lambda: ChunkNormalizer(4), AbsoluteChunkNormalizer):
        whole, pieces = make().fit(state, actions), make()
        for first in (0, 10, 20):
            pieces.fit(state[first : first + 10], actions[first : first + 10], more=first > 0)
        assert all(torch.equal(pieces.state_dict()[name], value) for name, value in whole.state_dict().items())
        pieces.fit(state[:10], actions[:10])
        assert pieces.state_dict().keys() == whole.state_dict().keys()
        assert any(not torch.equal(pieces.state_dict()[name], value) for name, value in whole.state_dict().items())


def test_absolute_chunks_are_in_one_range_whatever_the_pose() -> None:
    actions = torch.rand(50, 4, 10)
    normalizer = AbsoluteChunkNormalizer().fit(torch.randn(50, 16), actions)
    chunk = normalizer.normalize(actions, torch.randn(50, 16))
    torch.testing.assert_close(chunk.flatten(0, 1).amax(dim=0), torch.ones(10))
    torch.testing.assert_close(chunk.flatten(0, 1).amin(dim=0), -torch.ones(10))
    torch.testing.assert_close(normalizer.denormalize(chunk, torch.randn(50, 16)), actions)
