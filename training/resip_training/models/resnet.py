"""ResNet-18 (He et al. 2016) with torchvision's parameter names, so that weights for it load; and files of weights.

torchvision itself has no build that imports beside every torch that this runs on.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Final, Literal

import torch
from resip.errors import ResipError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

Norm = Literal["batch", "group"]

#: Of ImageNet's pixels in [0, 1]; R3M was trained on pixels scaled alike.
_MEAN: Final = (0.485, 0.456, 0.406)
_DEVIATION: Final = (0.229, 0.224, 0.225)

_CHANNELS: Final = (64, 128, 256, 512)
_GROUP_SIZE: Final = 16  # channels of a group, as in the reference
_FIRST: Final = "conv1.weight"
_COUNTER: Final = "num_batches_tracked"  # older files lack it, and nothing needs it


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = _norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = _norm(norm, channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), _norm(norm, channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels_in, h, w)`` to ``(B, channels, h / stride, w / stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        hidden = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(hidden)) + shortcut)


class ResNet18(nn.Module):
    """Images to 512 features; what torchvision's ``resnet18`` is without its classifier ``fc``.

    Args:
      norm: ``batch``, as published weights have, or ``group``, whose figures do not depend on the batch.
    """

    dim: Final = _CHANNELS[-1]

    def __init__(self, norm: Norm = "batch") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _CHANNELS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = _norm(norm, _CHANNELS[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _layer(_CHANNELS[0], _CHANNELS[0], 1, norm)
        self.layer2 = _layer(_CHANNELS[0], _CHANNELS[1], 2, norm)
        self.layer3 = _layer(_CHANNELS[1], _CHANNELS[2], 2, norm)
        self.layer4 = _layer(_CHANNELS[2], _CHANNELS[3], 2, norm)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Encode normalised images ``(B, 3, h, w)`` as ``(B, 512)``."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(image))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


class ResNetEncoder(nn.Module):
    """Encode one camera's view by a ResNet-18 and a projection.

    Args:
      feature_dim: length of the feature vector.
      norm: of the ResNet.
    """

    mean: Tensor
    deviation: Tensor
    low_precision: bool = False  # run the ResNet in bfloat16 (training); everything after it stays float32

    def __init__(self, feature_dim: int, norm: Norm = "batch") -> None:
        super().__init__()
        self.trunk = ResNet18(norm)
        self.projection = nn.Linear(ResNet18.dim, feature_dim)
        self.register_buffer("mean", 2 * torch.tensor(_MEAN).view(3, 1, 1) - 1, persistent=False)
        self.register_buffer("deviation", 2 * torch.tensor(_DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Encode views ``(B, 3, h, w)`` in [-1, 1] into ``(B, feature_dim)``."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.low_precision):
            features = self.trunk((image - self.mean) / self.deviation)
        return self.projection(features.float())


def load_weights(resnet: ResNet18, path: Path) -> None:
    """Begin with the weights in a file: torchvision's of ImageNet, R3M's, or any with these names.

    A common prefix of the names is left out (R3M's is ``module.convnet.``), and so is what a ResNet-18 has no place
    for: the classifier, R3M's language model. A ResNet with group norms takes the convolutions alone.

    Args:
      resnet: that takes them.
      path: ``.safetensors``, or a dictionary of tensors that ``torch.save`` wrote (also within ``r3m`` or
        ``state_dict``); nothing in it is executed.

    Raises:
      ResipError: no such file, none of these kinds, or weights of another network.
    """
    tensors = _read(path)
    firsts = [name for name in tensors if name == _FIRST or name.endswith("." + _FIRST)]
    if not firsts:
        raise ResipError(f"{path} holds no ResNet: no tensor in it is named {_FIRST}")
    prefix = min(firsts, key=len).removesuffix(_FIRST)
    given = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    own = {name: value for name, value in _published(resnet).items() if not name.endswith(_COUNTER)}
    for name, value in own.items():
        if name not in given:
            raise ResipError(f"{path} holds no ResNet-18: {name} is missing")
        if given[name].shape != value.shape:
            raise ResipError(
                f"{path} holds no ResNet-18: {name} has shape {tuple(given[name].shape)}, not {tuple(value.shape)}"
            )
        if not given[name].isfinite().all():
            raise ResipError(f"{path}: {name} has a value that is not finite")
    resnet.load_state_dict({name: given[name] for name in own}, strict=False)


def _published(resnet: ResNet18) -> dict[str, Tensor]:
    """What a file of weights has for it: not what belongs to a group norm."""
    groups = tuple(name + "." for name, module in resnet.named_modules() if isinstance(module, nn.GroupNorm))
    return {name: value for name, value in resnet.state_dict().items() if not name.startswith(groups)}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ResipError(
            f"{path} holds more than tensors, and is not loaded: save its tensors as safetensors"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise ResipError(f"{path} is no file of weights, or a damaged one ({error})") from error
    for name in ("r3m", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise ResipError(f"{path} holds {type(content).__name__}, not a dictionary of tensors")
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _norm(norm: Norm, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(channels // _GROUP_SIZE, channels)


def _layer(channels_in: int, channels: int, stride: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(BasicBlock(channels_in, channels, stride, norm), BasicBlock(channels, channels, 1, norm))
