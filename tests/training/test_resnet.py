"""ResNet-18 by torchvision's names: published weights load, and others are refused by the name of the tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from resip.errors import ResipError
from resip_training.models.resnet import Norm, ResNet18, ResNetEncoder, load_weights
from safetensors.torch import save_file
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def torchvisions_names() -> list[str]:
    """What torchvision's resnet18 calls its tensors, but for those of its classifier ``fc``."""
    of_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["conv1.weight", *(f"bn1.{name}" for name in of_norm)]
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            for i in (1, 2):
                prefix = f"layer{layer}.{block}"
                names += [f"{prefix}.conv{i}.weight", *(f"{prefix}.bn{i}.{name}" for name in of_norm)]
            if layer > 1 and block == 0:
                names += [f"{prefix}.downsample.0.weight", *(f"{prefix}.downsample.1.{name}" for name in of_norm)]
    return names


def published(**others: Tensor) -> dict[str, Tensor]:
    """Tensors as ImageNet's file has them."""
    tensors = {name: torch.randn_like(v) if v.dim() else v for name, v in ResNet18().state_dict().items()}
    return {**tensors, "fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000), **others}


def test_tensors_have_torchvisions_names() -> None:
    assert sorted(ResNet18().state_dict()) == sorted(torchvisions_names())
    assert ResNet18().state_dict()["layer3.0.downsample.0.weight"].shape == (256, 128, 1, 1)


def test_it_has_the_papers_11_million_parameters() -> None:
    """Table 10 says 2 x 11 million; with the classifier that is left out, torchvision's has 11 689 512."""
    count = sum(parameter.numel() for parameter in ResNet18().parameters())
    assert count == 11_689_512 - (512 * 1000 + 1000)
    assert count == pytest.approx(11e6, rel=0.02)
    projected = sum(parameter.numel() for parameter in ResNetEncoder(128).parameters())
    assert projected - count == 513 * 128


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_an_image_of_any_size_becomes_128_features(norm: Norm) -> None:
    encoder = ResNetEncoder(128, norm)
    for size in (32, 224):
        assert encoder(torch.rand(2, 3, size, size) * 2 - 1).shape == (2, 128)


def test_pixels_are_scaled_as_for_imagenet() -> None:
    encoder, seen = ResNetEncoder(8), []
    encoder.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(torch.full((2, 3, 32, 32), 2 * 0.5 - 1))
    wanted = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], wanted)


def test_group_norm_makes_features_independent_of_the_rest_of_the_batch() -> None:
    images = torch.rand(3, 3, 32, 32)
    for resnet, alone in ((ResNet18("group"), True), (ResNet18("batch"), False)):
        assert torch.allclose(resnet(images)[:1], resnet(images[:2])[:1], atol=1e-5) == alone
    groups = [module for module in ResNet18("group").modules() if isinstance(module, nn.GroupNorm)]
    assert len(groups) == 20
    assert all(group.num_channels // group.num_groups == 16 for group in groups)


@pytest.mark.parametrize("name", ["imagenet.safetensors", "imagenet.pth", "r3m.pt"])
def test_imagenets_and_r3ms_files_load(name: str, tmp_path: Path) -> None:
    tensors, path = published(), tmp_path / name
    if name.endswith(".safetensors"):
        save_file(tensors, path)
    elif name == "r3m.pt":
        inside = {f"module.convnet.{key}": value for key, value in tensors.items() if not key.startswith("fc.")}
        torch.save({"r3m": {**inside, "module.lang_enc.model.weight": torch.randn(3)}, "global_step": 7}, path)
    else:
        torch.save({key: value for key, value in tensors.items() if "num_batches" not in key}, path)
    resnet = ResNet18()
    load_weights(resnet, path)
    assert all(torch.equal(value, tensors[key]) for key, value in resnet.state_dict().items())


def test_a_resnet_with_group_norms_takes_the_convolutions_alone(tmp_path: Path) -> None:
    tensors = published()
    save_file(tensors, tmp_path / "imagenet.safetensors")
    resnet = ResNet18("group")
    load_weights(resnet, tmp_path / "imagenet.safetensors")
    state = resnet.state_dict()
    assert torch.equal(state["layer2.0.downsample.0.weight"], tensors["layer2.0.downsample.0.weight"])
    assert torch.equal(state["layer2.0.downsample.1.weight"], torch.ones(128))


def test_weights_of_another_network_are_refused_by_the_name_of_the_tensor(tmp_path: Path) -> None:
    def refused(tensors: dict[str, Tensor], message: str) -> None:
        save_file(tensors, tmp_path / "weights.safetensors")
        with pytest.raises(ResipError, match=message):
            load_weights(ResNet18(), tmp_path / "weights.safetensors")

    refused(
        published(**{"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}), r"layer1.0.conv1.weight has shape \(64, 64"
    )
    refused({k: v for k, v in published().items() if k != "bn1.bias"}, "bn1.bias is missing")
    refused(published(**{"bn1.weight": torch.full((64,), torch.nan)}), "bn1.weight has a value that is not finite")
    refused({"weight": torch.zeros(3)}, "no tensor in it is named conv1.weight")


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    for name in ("broken.safetensors", "broken.pt"):
        (tmp_path / name).write_bytes(b"not tensors")
        with pytest.raises(ResipError, match=r"is no file of weights|more than tensors"):
            load_weights(ResNet18(), tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ResipError, match="holds list, not a dictionary"):
        load_weights(ResNet18(), tmp_path / "list.pt")
    torch.save(Path("code"), tmp_path / "object.pt")
    with pytest.raises(ResipError, match="more than tensors"):
        load_weights(ResNet18(), tmp_path / "object.pt")


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_it_learns_on_which_side_it_is_bright(norm: Norm) -> None:
    encoder = ResNetEncoder(1, norm)
    images = torch.rand(16, 3, 32, 32) - 0.5
    images[:8, :, :, :16] += 0.5
    images[8:, :, :, 16:] += 0.5
    side = torch.tensor([1.0] * 8 + [-1.0] * 8)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    for _ in range(15):
        loss = (encoder(images)[:, 0] - side).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    idle = [name for name, parameter in encoder.named_parameters() if not parameter.grad.any()]  # pyright: ignore
    assert idle == []
    assert (encoder(images)[:, 0].sign() == side).float().mean() > 0.9
