"""What the network sees of a camera, and the convolutional encoder that turns it into features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

_INT16_MAX: Final = 32_767


@dataclass(frozen=True)
class ViewConfig:
    """The part of a camera image that the network uses.

    Attributes:
      top: first row of the window in the 320x240 image, px.
      left: first column, px.
      height: rows of the window, px.
      width: columns of the window, px.
      reduction: edge of the square of pixels that is averaged into one (1 keeps the full resolution).
      margin: border, in reduced pixels, that random shifts use in training and that is cut off otherwise.
    """

    top: int
    left: int
    height: int
    width: int
    reduction: int = 1
    margin: int = 4

    @property
    def cached_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of a window before its margin is cut off."""
        return (self.height // self.reduction, self.width // self.reduction, 3)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        height, width, _ = self.cached_shape
        return (height - 2 * self.margin, width - 2 * self.margin)


class View(nn.Module):
    """Cut a view out of camera images: the one function behind training, validation and the exported module."""

    def __init__(self, config: ViewConfig) -> None:
        super().__init__()
        self.top, self.left = config.top, config.left
        self.height, self.width = config.height, config.width
        self.reduction = config.reduction
        self.margin = config.margin

    def window(self, images: Tensor) -> Tensor:
        """Crop and reduce rgb8 images ``(B, 240, 320, 3)`` uint8 to ``(B, h, w, 3)`` uint8, margin included."""
        crop = images[:, self.top : self.top + self.height, self.left : self.left + self.width]
        r = self.reduction
        if r == 1:
            return crop
        wide = torch.int16 if 255 * r * r + r * r // 2 <= _INT16_MAX else torch.int32  # the narrower is the faster
        rows = crop[:, ::r].to(wide)
        for row in range(1, r):
            rows = rows + crop[:, row::r]
        total = rows[:, :, ::r]
        for column in range(1, r):
            total = total + rows[:, :, column::r]
        total = total + r * r // 2  # half, to round
        mean = total >> 2 if r == 2 else total.div(r * r, rounding_mode="floor")
        return mean.to(torch.uint8)

    def centre(self, window: Tensor) -> Tensor:
        """Turn what `window` gives into the network's input ``(B, 3, h, w)`` float in [-1, 1]."""
        m = self.margin
        return to_input(window[:, m : window.shape[1] - m, m : window.shape[2] - m])

    def forward(self, images: Tensor) -> Tensor:
        """Turn rgb8 images ``(B, 240, 320, 3)`` into the network's input ``(B, 3, h, w)`` float in [-1, 1]."""
        return self.centre(self.window(images))


def to_input(pixels: Tensor) -> Tensor:
    """Scale uint8 pixels ``(B, h, w, 3)`` to [-1, 1] and put channels first (in channels-last memory)."""
    return pixels.to(torch.float32).mul_(1 / 127.5).sub_(1.0).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group normalisation around a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape ``(B, C, h, w)``."""
        return torch.relu(x + self.layers(x))


def _downsample(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1), nn.GroupNorm(8, channels_out), nn.ReLU()
    )


class ImageEncoder(nn.Module):
    """Encode one camera's view; features keep where things are to a fraction of a pixel.

    A 4x4 patch stem reads every pixel once at full resolution, then two residual stages work at 1/8 and
    1/16. Positions leave by two ways: the expected coordinates of learned keypoints (spatial softmax at
    1/8) and the flattened coarse map.

    Args:
      input_size: (height, width) of the view.
      feature_dim: length of the feature vector.
      keypoints: number of keypoint maps.
    """

    grid_x: Tensor
    grid_y: Tensor
    low_precision: bool = False  # run the convolutions in bfloat16 (training); everything after them stays float32

    def __init__(self, input_size: tuple[int, int], feature_dim: int, keypoints: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 48, 4, stride=4), nn.ReLU())
        self.fine = nn.Sequential(_downsample(48, 64), ResidualBlock(64))
        self.coarse = nn.Sequential(_downsample(64, 128), ResidualBlock(128))
        self.keypoint_maps = nn.Conv2d(64, keypoints, 1)
        self.squeeze = nn.Conv2d(128, 16, 1)
        with torch.no_grad():
            fine = self.fine(self.stem(torch.zeros(1, 3, *input_size)))
            coarse = self.coarse(fine)
        height, width = fine.shape[-2:]
        self.register_buffer("grid_x", torch.linspace(-1, 1, width).repeat(height), persistent=False)
        self.register_buffer("grid_y", torch.linspace(-1, 1, height).repeat_interleave(width), persistent=False)
        flat = 16 * coarse.shape[-2] * coarse.shape[-1]
        self.head = nn.Sequential(
            nn.Linear(flat + 2 * keypoints, 256), nn.ReLU(), nn.Linear(256, feature_dim), nn.LayerNorm(feature_dim)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Encode views ``(B, 3, h, w)`` in [-1, 1] into ``(B, feature_dim)``."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.low_precision):
            fine = self.fine(self.stem(image))
            heat = self.keypoint_maps(fine).flatten(2)
            flat = torch.relu(self.squeeze(self.coarse(fine))).flatten(1)
        where = torch.softmax(heat.float(), dim=-1)
        x, y = (where * self.grid_x).sum(-1), (where * self.grid_y).sum(-1)
        return self.head(torch.cat([flat.float(), x, y], dim=-1))
