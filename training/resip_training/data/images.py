"""Camera views of a whole data set in memory, and random shifts and light while batches are cut from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resip_training.data.store import DemoSet
from resip_training.models.encoder import View, ViewConfig, to_input

_READ_ROWS = 256  # whole chunks of the store


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training images.

    Attributes:
      shift_px: largest shift, in pixels of the network's input; at most the view's margin.
      brightness: largest offset, as a fraction of the whole range.
      contrast: largest relative change of contrast.
    """

    shift_px: int = 1
    brightness: float = 0.1
    contrast: float = 0.1


def load_views(
    demos: DemoSet, camera: str, config: ViewConfig, on_progress: Callable[[int], None] = lambda _: None
) -> NDArray[np.uint8]:
    """Read one camera of a data set as the network will see it, margins included.

    Args:
      demos: the data set.
      camera: ``front`` or ``wrist``.
      config: the view of that camera.
      on_progress: called with the number of frames of each piece read.

    Returns:
      ``(N, h, w, 3)`` uint8.
    """
    view = View(config)
    out = np.empty((demos.n_steps, *config.cached_shape), dtype=np.uint8)
    for start in range(0, demos.n_steps, _READ_ROWS):
        rows = slice(start, min(start + _READ_ROWS, demos.n_steps))
        out[rows] = view.window(torch.from_numpy(demos.images(camera, rows))).numpy()
        on_progress(rows.stop - rows.start)
    return out


def centre_batch(frames: NDArray[np.uint8], rows: NDArray[np.int64], config: ViewConfig) -> Tensor:
    """Cut network inputs ``(B, 3, h, w)`` as deployment does: the centre of each view."""
    offsets = np.full((len(rows), 2), config.margin)
    return to_input(_cut(frames, rows, offsets, config))


def augmented_batch(
    frames: NDArray[np.uint8], rows: NDArray[np.int64], config: ViewConfig, augment: AugmentConfig
) -> Tensor:
    """Cut network inputs ``(B, 3, h, w)`` with random shift, contrast and brightness (torch's global generator)."""
    shift = min(augment.shift_px, config.margin)
    offsets = torch.randint(config.margin - shift, config.margin + shift + 1, (len(rows), 2)).numpy()
    image = to_input(_cut(frames, rows, offsets, config))
    gain = 1 + augment.contrast * (2 * torch.rand(len(rows), 1, 1, 1) - 1)
    offset = 2 * augment.brightness * (2 * torch.rand(len(rows), 1, 1, 1) - 1)
    return torch.addcmul(offset, image, gain, out=image)


def _cut(frames: NDArray[np.uint8], rows: NDArray[np.int64], offsets: NDArray[np.int64], config: ViewConfig) -> Tensor:
    height, width = config.input_size
    out = np.empty((len(rows), height, width, 3), dtype=np.uint8)
    for i, (row, (top, left)) in enumerate(zip(rows, offsets, strict=True)):
        out[i] = frames[row, top : top + height, left : left + width]
    return torch.from_numpy(out)
