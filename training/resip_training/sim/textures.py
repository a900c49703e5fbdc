"""Procedural patterns, as how dark each pixel is: ``(size, size)`` in [0, 1]. All of them tile without a seam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NOISE_SLOPE: Final = 1.5  # amplitude falls with this power of the frequency: large blotches, fine grain
_WOOD_WARP: Final = 0.6  # how far the noise bends the grain, in widths of a stripe


def noise(size: int, rng: np.random.Generator) -> Array:
    """Blotches of every size."""
    return noises(1, size, rng)[0]


def noises(count: int, size: int, rng: np.random.Generator) -> Array:
    """Several such patterns, ``(count, size, size)``."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) * size
    filtered = np.fft.rfft2(rng.standard_normal((count, size, size))) / np.maximum(frequency, 1.0) ** _NOISE_SLOPE
    pattern = np.fft.irfft2(filtered, s=(size, size))
    lowest, highest = pattern.min(axis=(1, 2), keepdims=True), pattern.max(axis=(1, 2), keepdims=True)
    return (pattern - lowest) / (highest - lowest)


def checker(size: int, rng: np.random.Generator) -> Array:
    """Squares, 2 to 8 along a side."""
    squares = 2 * int(rng.integers(1, 5))
    index = np.arange(size) * squares // size
    return ((index[:, None] + index) % 2).astype(np.float64)


def wood(size: int, rng: np.random.Generator) -> Array:
    """Bent stripes, 4 to 12 of them, along one side."""
    across = np.arange(size) / size * rng.integers(4, 13)
    stripes = 0.5 + 0.5 * np.sin(2 * np.pi * (across + _WOOD_WARP * noise(size, rng)))
    return stripes if rng.random() < 0.5 else stripes.T


PATTERNS: Final[tuple[Callable[[int, np.random.Generator], Array], ...]] = (noise, checker, wood)
