"""Camera frames to policy input, and JPEG: the one preprocessing of training, export and the nodes."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from resip import spaces
from resip.errors import ResipError

Rgb = NDArray[np.uint8]

POLICY_SHAPE: Final = (spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3)
CAMERA_SHAPE: Final = (2 * spaces.IMAGE_HEIGHT, 2 * spaces.IMAGE_WIDTH, 3)
#: Artefacts stay below the sensor's noise at a tenth of the raw size.
JPEG_QUALITY: Final = 90


class ImageError(ResipError):
    """An image that is not what the contract asks for, or not an image at all."""


def preprocess(frame: NDArray, source: str = "the camera") -> Rgb:
    """Turn a camera frame into the policy's image, ``(240, 320, 3)`` uint8 rgb.

    A 640x480 frame is averaged over exact 2x2 blocks, halves rounded up, so that no resampling library
    can disagree with another; a 320x240 frame passes through.

    Args:
      frame: ``(480, 640, 3)`` or ``(240, 320, 3)``, uint8 rgb.
      source: who sent it, for the error message.

    Raises:
      ImageError: another shape or dtype.
    """
    if frame.dtype == np.uint8 and frame.shape == POLICY_SHAPE:
        return frame
    if frame.dtype == np.uint8 and frame.shape == CAMERA_SHAPE:
        wide = frame.astype(np.uint16)
        rows = wide[0::2] + wide[1::2]
        return ((rows[:, 0::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)
    raise ImageError(
        f"image from {source}: expected uint8 rgb of shape {CAMERA_SHAPE} or {POLICY_SHAPE}, "
        f"got {frame.dtype} of shape {frame.shape}"
    )


def from_raw(data: Any, encoding: str, height: int, width: int, source: str = "the camera") -> Rgb:
    """Turn the fields of an uncompressed image message into the policy's image; see ``preprocess``.

    Args:
      data: its bytes, as anything with a buffer.
      encoding: only ``rgb8`` is taken.
      height: in pixels.
      width: in pixels.
      source: who sent it, for the error message.

    Raises:
      ImageError: another encoding or size.
    """
    if encoding != "rgb8":
        raise ImageError(f"image from {source}: the encoding is {encoding!r}, the policy takes rgb8")
    pixels = np.frombuffer(data, dtype=np.uint8)
    if pixels.size != 3 * height * width:
        raise ImageError(f"image from {source}: {pixels.size} bytes do not make {width}x{height} rgb8")
    return preprocess(pixels.reshape(height, width, 3), source)


def encode_jpeg(rgb: Rgb, quality: int = JPEG_QUALITY) -> bytes:
    """Compress an image ``(h, w, 3)`` uint8 rgb."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="jpeg", quality=quality)
    return buffer.getvalue()


def decode_jpeg(data: bytes, source: str = "the camera") -> Rgb:
    """Decompress a JPEG into ``(h, w, 3)`` uint8 rgb.

    Raises:
      ImageError: the bytes are no complete JPEG.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["jpeg"]) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ImageError(f"image from {source}: {len(data)} bytes that are no complete JPEG ({error})") from error
