"""One formula for numpy and torch: which of the two an array belongs to, without importing torch.

Geometry and control are written once, over ``namespace(x)``: torch takes numpy's names and keywords (``axis``,
``keepdims``) for nearly everything, and the few exceptions are here. All numbers are float64. Nothing here makes
the host wait for a device, but ``to_host``.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def is_tensor(value: Any) -> bool:
    """Whether ``value`` is a torch tensor."""
    torch = sys.modules.get("torch")  # without torch there are no tensors
    return torch is not None and isinstance(value, torch.Tensor)


def namespace(value: Any) -> Any:
    """Return the module whose functions take ``value``: ``torch`` for a tensor, else ``numpy``."""
    return sys.modules["torch"] if is_tensor(value) else np


def floats(value: Any) -> Array:
    """Return ``value`` as float64: a tensor stays one, on its device; all else becomes a numpy array."""
    return value.double() if is_tensor(value) else np.asarray(value, dtype=np.float64)


def like(value: Any, other: Any, dtype: type = float) -> Any:
    """Return ``value`` as an array of the kind of ``other``, on its device."""
    if is_tensor(other):
        return namespace(other).as_tensor(value, dtype=dtype, device=other.device)
    return np.asarray(value, dtype=dtype)


def constant(value: Array, other: Any) -> Any:
    """Return a float64 constant as an array of the kind of ``other``; a device receives it once and keeps it."""
    if not is_tensor(other):
        return value
    return _on_device(np.asarray(value, dtype=np.float64).tobytes(), np.shape(value), other.device)


@functools.lru_cache(maxsize=256)
def _on_device(data: bytes, shape: tuple[int, ...], device: Any) -> Any:
    return sys.modules["torch"].as_tensor(np.frombuffer(data).reshape(shape).copy(), device=device)


def to_host(value: Any) -> Any:
    """Return ``value`` as a numpy array, when the device that has it is done with it."""
    return value.detach().cpu().numpy() if is_tensor(value) else np.asarray(value)


def copy(value: Any) -> Any:
    """Return a copy of ``value``."""
    return value.clone() if is_tensor(value) else value.copy()


def cross(a: Any, b: Any, axis: int = -1) -> Any:
    """Return the cross product of vectors along ``axis``."""
    return namespace(a).linalg.cross(a, b, dim=axis) if is_tensor(a) else np.cross(a, b, axis=axis)


def take_along_axis(value: Any, indices: Any, axis: int) -> Any:
    """Pick along ``axis`` by ``indices``, which broadcast."""
    if is_tensor(value):
        return namespace(value).take_along_dim(value, indices, dim=axis)
    return np.take_along_axis(value, indices, axis=axis)


def solve(matrix: Any, rhs: Any) -> Any:
    """Solve ``matrix @ x = rhs`` for regular matrices ``(..., n, n)`` and ``rhs`` ``(..., n, k)``."""
    if is_tensor(matrix):
        return namespace(matrix).linalg.solve_ex(matrix, rhs).result  # ``solve`` waits, to see whether it could
    return np.linalg.solve(matrix, rhs)
