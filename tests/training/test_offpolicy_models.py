"""The networks of off-policy learning: an ensemble of truly separate critics, and inputs of unit scale."""

from __future__ import annotations

import torch
from resip_training.models.critics import CriticEnsemble
from resip_training.models.offpolicy_residual import OffPolicyResidual
from resip_training.models.whitening import LARGEST, STD_FLOOR, Whitening


def member(critics: CriticEnsemble, index: int, inputs: torch.Tensor) -> torch.Tensor:
    """One critic's values, layer by layer."""
    hidden = inputs
    for layer, (weight, bias) in enumerate(zip(critics.weights, critics.biases, strict=True)):
        if layer > 0:
            hidden = torch.nn.functional.layer_norm(hidden, (critics.width,)).relu()
        hidden = hidden @ weight[index] + bias[index]
    return hidden.squeeze(-1)


def test_each_critic_is_an_mlp_of_its_own() -> None:
    torch.manual_seed(0)
    critics, inputs = CriticEnsemble(6, members=3, width=16), torch.randn(5, 6)
    values = critics(inputs)
    assert values.shape == (3, 5)
    for i in range(3):
        torch.testing.assert_close(values[i], member(critics, i, inputs))
    assert not torch.allclose(values[0], values[1])


def test_chosen_critics_are_those_of_the_ensemble() -> None:
    torch.manual_seed(0)
    critics, inputs = CriticEnsemble(6, members=4, width=16), torch.randn(5, 6)
    torch.testing.assert_close(critics(inputs, torch.tensor([3, 1])), critics(inputs)[[3, 1]])


def test_a_critics_loss_moves_no_other_critic() -> None:
    critics = CriticEnsemble(6, members=3, width=16)
    critics(torch.randn(5, 6))[1].sum().backward()
    for parameter in critics.parameters():
        assert parameter.grad is not None
        assert parameter.grad[1].abs().sum() > 0
        assert parameter.grad[[0, 2]].abs().sum() == 0


def test_whitened_data_has_unit_variance_in_every_direction() -> None:
    torch.manual_seed(0)
    together = torch.randn(5000, 1)
    data = torch.cat([together, together + 0.05 * torch.randn(5000, 1)], dim=1)  # what matters is their difference
    whitened = Whitening(2).fit(data)(data)
    torch.testing.assert_close(torch.cov(whitened.T), torch.eye(2), atol=0.02, rtol=0)


def test_what_hardly_varies_is_not_blown_up() -> None:
    data = torch.cat([torch.randn(1000, 1), torch.full((1000, 1), 0.3)], dim=1)  # a constant, as the obstacle's height
    whitening = Whitening(2).fit(data)
    moved = whitening(data[:1] + torch.tensor([[0.0, 0.01]])) - whitening(data[:1])
    assert torch.isclose(moved.norm(), torch.tensor(0.01 / STD_FLOOR), atol=1e-4)
    assert whitening(torch.full((1, 2), 100.0)).abs().max() == LARGEST


def test_the_residual_is_bounded() -> None:
    model = OffPolicyResidual(6, 2, width=16, critics=2, max_q=False)
    torch.nn.init.constant_(model.actor.last.bias, 100.0)
    assert model(torch.randn(5, 6)).abs().max() <= 1


def test_the_base_acts_alone_where_the_critics_say_so() -> None:
    model = OffPolicyResidual(6, 2, width=16, critics=2, max_q=True)
    residual = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    whitened = torch.tensor([[1.0], [-1.0]]).repeat(1, 6)
    # worth the more, the larger the residual, where the first input is positive; and the less where it is negative
    model.critics.forward = lambda inputs, chosen=None: (inputs[:, 0] * inputs[:, 6:].sum(-1)).expand(2, -1)
    assert torch.equal(model.chosen(whitened, residual), torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
    model.max_q = False
    assert torch.equal(model.chosen(whitened, residual), residual)
