"""The paper's view of a camera: the whole image resized, and the centre of that (Tables 11 and 12)."""

from __future__ import annotations

from dataclasses import dataclass

from resip import spaces
from torch import Tensor, nn

from resip_training.models.encoder import to_input


@dataclass(frozen=True)
class ResizedViewConfig:
    """A camera image resized, and the square that the network sees of it.

    Attributes:
      height: of the resized image, px.
      width: of the resized image, px.
      crop: edge of the square, px: the centre at run time, anywhere in training.
    """

    height: int
    width: int
    crop: int = 224

    @property
    def cached_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of what training keeps of a frame: all of it, for it is changed before it is resized."""
        return (spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return (self.crop, self.crop)


class ResizedView(nn.Module):
    """Resize camera images and cut out the centre: the one function behind training, validation and the export."""

    def __init__(self, config: ResizedViewConfig) -> None:
        super().__init__()
        self.height, self.width, self.crop = config.height, config.width, config.crop

    def window(self, images: Tensor) -> Tensor:
        """What training keeps of rgb8 images ``(B, 240, 320, 3)`` uint8: all."""
        return images

    def resize(self, image: Tensor) -> Tensor:
        """Resize ``(B, 3, 240, 320)`` to ``(B, 3, height, width)``: bilinear between pixel centres, not antialiased."""
        return nn.functional.interpolate(image, (self.height, self.width), mode="bilinear", align_corners=False)

    def centre(self, window: Tensor) -> Tensor:
        """Turn what `window` gives into the network's input ``(B, 3, crop, crop)`` float in [-1, 1]."""
        top, left = (self.height - self.crop) // 2, (self.width - self.crop) // 2
        return self.resize(to_input(window))[:, :, top : top + self.crop, left : left + self.crop]

    def forward(self, images: Tensor) -> Tensor:
        """Turn rgb8 images ``(B, 240, 320, 3)`` into the network's input ``(B, 3, crop, crop)`` float in [-1, 1]."""
        return self.centre(self.window(images))
