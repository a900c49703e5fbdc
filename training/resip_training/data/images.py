"""Random changes of training images, from the frames that a loader gives to the network's input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from resip.errors import ResipError
from torch import Tensor, nn

from resip_training.models.encoder import View, to_input
from resip_training.models.resized_view import ResizedView


@dataclass(frozen=True)
class AugmentConfig:
    """Cheap changes, for two cores.

    Attributes:
      shift_px: largest shift, in pixels of the network's input; at most the view's margin.
      brightness: largest offset, as a fraction of the whole range.
      contrast: largest relative change of contrast.
    """

    shift_px: int = 1
    brightness: float = 0.1
    contrast: float = 0.1


@dataclass(frozen=True)
class PaperAugmentConfig:
    """The paper's changes; the defaults are Table 11's, for the front camera.

    Attributes:
      jitter: of brightness, contrast, saturation and hue: the largest relative change (of the hue, in turns).
      blur_size_px: of the Gaussian kernel.
      blur_sigma_px: smallest and largest deviation of it.
      erased: probability that a rectangle is filled with noise.
      erased_share: smallest and largest share of the image that it covers.
      erased_ratio: smallest and largest ratio of its sides.
    """

    jitter: float = 0.3
    blur_size_px: int = 5
    blur_sigma_px: tuple[float, float] = (0.01, 1.2)
    erased: float = 0.2
    erased_share: tuple[float, float] = (0.02, 0.33)
    erased_ratio: tuple[float, float] = (0.3, 3.3)


class ShiftAndLight(nn.Module):
    """Shift the view within its margin and change its light.

    Args:
      view: that the frames were cut for.
      config: how far.

    Raises:
      ResipError: a shift that is negative or beyond the view's margin.
    """

    def __init__(self, view: View, config: AugmentConfig) -> None:
        super().__init__()
        self._view, self._config = view, config
        if not 0 <= config.shift_px <= view.margin:
            raise ResipError(f"images cannot be shifted by {config.shift_px} px: 0 to {view.margin} are to spare")

    def forward(self, frames: Tensor) -> Tensor:
        """Turn frames ``(B, h, w, 3)`` uint8 into the network's input ``(B, 3, h', w')`` float around [-1, 1]."""
        n, config = len(frames), self._config
        image = to_input(self._shifted(frames))
        gain = 1 + config.contrast * (2 * torch.rand(n, 1, 1, 1) - 1)
        offset = 2 * config.brightness * (2 * torch.rand(n, 1, 1, 1) - 1)
        return torch.addcmul(offset.to(image.device), image, gain.to(image.device), out=image)

    def _shifted(self, frames: Tensor) -> Tensor:
        margin, shift = self._view.margin, self._config.shift_px
        height, width = (length - 2 * margin for length in frames.shape[1:3])
        offsets = torch.randint(margin - shift, margin + shift + 1, (len(frames), 2)).tolist()
        out = frames.new_empty(len(frames), height, width, 3)
        for i, (top, left) in enumerate(offsets):
            out[i] = frames[i, top : top + height, left : left + width]
        return out


class PaperAugmentation(nn.Module):
    """Colour jitter, blur, the view's resizing, a random crop, and an erased rectangle, in this order.

    The random numbers are torch's, of its global generator.

    Args:
      view: that resizes; where it leaves no room around the square, nothing is cropped.
      config: how much.
    """

    def __init__(self, view: ResizedView, config: PaperAugmentConfig) -> None:
        super().__init__()
        from kornia import augmentation as random_change  # a second to import, which acting need not wait for

        self._view = view
        size = config.blur_size_px
        self.jitter = random_change.ColorJitter(config.jitter, config.jitter, config.jitter, config.jitter, p=1.0)
        self.blur = random_change.RandomGaussianBlur((size, size), config.blur_sigma_px, p=1.0)
        self.crop = random_change.RandomCrop((view.crop, view.crop), p=1.0)
        self.erasing = random_change.RandomErasing(config.erased_share, config.erased_ratio, value=1.0, p=config.erased)

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Turn frames ``(B, 240, 320, 3)`` uint8 into the network's input ``(B, 3, crop, crop)`` float in [-1, 1]."""
        image = frames.permute(0, 3, 1, 2).to(torch.float32).contiguous() / 255
        image = self._view.resize(self.blur(self.jitter(image)))
        if image.shape[-2:] != (self._view.crop, self._view.crop):
            image = self.crop(image)
        return 2 * self._erased(image) - 1

    def _erased(self, image: Tensor) -> Tensor:
        """Fill the rectangle of each image that has one with random colours; kornia itself fills it with one grey."""
        inside = self.erasing(torch.zeros_like(image[:, :1])) > 0
        return torch.where(inside, torch.rand_like(image), image)


def augmentation(view: View | ResizedView, config: AugmentConfig | PaperAugmentConfig) -> nn.Module:
    """What turns frames ``(B, h, w, 3)`` uint8 of a view into randomly changed inputs ``(B, 3, h', w')``.

    Raises:
      ResipError: changes that are not for such a view, or a shift beyond its margin.
    """
    if isinstance(view, View) and isinstance(config, AugmentConfig):
        return ShiftAndLight(view, config)
    if isinstance(view, ResizedView) and isinstance(config, PaperAugmentConfig):
        return PaperAugmentation(view, config)
    raise ResipError(f"{type(config).__name__} does not go with a {type(view).__name__}")
