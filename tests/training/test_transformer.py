"""The transformer denoiser: Table 10's architecture, causal, and the same network once exported."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from resip.errors import ResipError
from resip_training.models.transformer import Transformer, TransformerConfig

SMALL = TransformerConfig(layers=2, heads=2, width=16)
HORIZON, FEATURES = 8, 5


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def small(**changes: float) -> Transformer:
    """Of weights that are large enough to tell."""
    transformer = Transformer(HORIZON, 10, FEATURES, replace(SMALL, **changes))
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.mul_(5)
    return transformer.eval()


def inputs(n: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(n, HORIZON, 10), torch.randint(0, 100, (n,)), torch.randn(n, FEATURES)


def test_an_action_does_not_depend_on_later_ones() -> None:
    transformer, (noisy, step, features) = small(), inputs()
    before = transformer(noisy, step, features)
    for place in range(HORIZON):
        changed = noisy.clone()
        changed[:, place] += 1
        after = transformer(changed, step, features)
        torch.testing.assert_close(after[:, :place], before[:, :place])
        assert ((after - before)[:, place:].abs().amax(dim=-1) > 1e-4).all(), "it and those after it do"


def test_every_action_depends_on_the_diffusion_step_and_the_observation() -> None:
    transformer, (noisy, step, features) = small(), inputs()
    before = transformer(noisy, step, features)
    for after in (transformer(noisy, step + 40, features), transformer(noisy, step, features + 1)):
        assert ((after - before).abs().amax(dim=-1) > 1e-4).all()


def test_places_in_a_chunk_are_told_apart() -> None:
    transformer, (noisy, step, features) = small(), inputs()
    same = transformer(noisy[:, :1].expand_as(noisy), step, features)
    assert (same[:, 1:] - same[:, :-1]).abs().amax(dim=-1).min() > 1e-4


def test_dropout_of_the_attention_is_for_training_only() -> None:
    transformer, given = small(attention_dropout=0.3), inputs()
    assert torch.equal(transformer(*given), transformer(*given))
    transformer.train()
    assert not torch.equal(transformer(*given), transformer(*given))


def test_table_10_has_8_layers_of_4_heads_and_256_numbers() -> None:
    """The paper states no count: this is the sum over its layers."""
    transformer, width, horizon, features = Transformer(32, 10, 272, TransformerConfig()), 256, 32, 272
    attention, norm = 4 * (width + 1) * width, 2 * width
    between = (width + 1) * 4 * width + (4 * width + 1) * width
    layer = 2 * attention + between + 3 * norm
    around = (10 + 1) * width + (features + 1) * width + (horizon + 2) * width + between + norm + (width + 1) * 10
    assert sum(parameter.numel() for parameter in transformer.parameters()) == 8 * layer + around
    heads = {block.self_attn.num_heads for block in transformer.decoder.layers}  # pyright: ignore
    drops = {block.self_attn.dropout for block in transformer.decoder.layers}  # pyright: ignore
    assert (heads, drops) == ({4}, {0.3})


def test_a_traced_one_gives_the_same_for_any_batch() -> None:
    transformer = small()
    with torch.inference_mode():
        traced = torch.jit.freeze(torch.jit.trace(transformer, inputs(2), check_trace=False))
        for n in (1, 4):
            given = inputs(n)
            torch.testing.assert_close(traced(*given), transformer(*given), atol=1e-5, rtol=0)


def test_a_width_that_its_heads_do_not_share_is_refused() -> None:
    with pytest.raises(ResipError, match="width of 18 is no even multiple of its 4 heads"):
        Transformer(8, 10, 5, TransformerConfig(heads=4, width=18))
