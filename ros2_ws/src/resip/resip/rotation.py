"""Rotations as matrices, xyzw quaternions, 6D rows and rotation vectors: numpy or torch, batched.

Every function takes any number of leading batch dimensions, and gives tensors for tensors (see ``arrays``).
Matrices are active rotations ``v_base = R_base_x @ v_x``. Quaternions are **xyzw** everywhere in this
project. The 6D form is the first two *rows* of the matrix, flattened (the paper's representation; see
``spaces``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resip import arrays

Array = NDArray[np.float64]

_SMALL_ANGLE_RAD = 1e-8  # below it sin(x)/x is 1 to the last bit
_NO_LENGTH = 1e-12
_CONJUGATE = np.array([-1.0, -1.0, -1.0, 1.0])


def _as_array(value: ArrayLike, *trailing: int) -> Array:
    array = arrays.floats(value)
    if array.shape[-len(trailing) :] != trailing:
        raise ValueError(f"expected trailing shape {trailing}, got an array of shape {tuple(array.shape)}")
    return array


def normalize(vector: ArrayLike) -> Array:
    """Scale vectors to unit length.

    Args:
      vector: ``(..., n)``. A tensor's vector of no length gives NaN: to refuse it would be to wait for its device.

    Raises:
      ValueError: a vector has (nearly) no length, so its direction is undefined.
    """
    array = arrays.floats(vector)
    xp = arrays.namespace(array)
    length = xp.linalg.norm(array, axis=-1, keepdims=True)
    if xp is not np:
        return array / xp.where(length < _NO_LENGTH, np.nan, length)
    if np.any(length < _NO_LENGTH):
        raise ValueError("cannot normalise a vector of zero length")
    return array / length


def matrix_from_quat(quat: ArrayLike) -> Array:
    """Convert xyzw quaternions ``(..., 4)`` of any non-zero length to matrices ``(..., 3, 3)``."""
    unit = normalize(_as_array(quat, 4))
    xp = arrays.namespace(unit)
    x, y, z, w = xp.moveaxis(unit, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)


def quat_from_matrix(matrix: ArrayLike) -> Array:
    """Convert matrices ``(..., 3, 3)`` to unit xyzw quaternions ``(..., 4)`` with ``w >= 0``.

    The largest of the four components is found first, so no branch divides by a small number.
    """
    m = _as_array(matrix, 3, 3)
    xp = arrays.namespace(m)
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # 4 * component^2 for x, y, z, w
    squares = xp.stack([1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22, 1 + m00 + m11 + m22], axis=-1)
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    xw, yw, zw = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    # row k: 4 * component_k * (x, y, z, w)
    candidates = xp.stack(
        [
            xp.stack([squares[..., 0], xy, xz, xw], axis=-1),
            xp.stack([xy, squares[..., 1], yz, yw], axis=-1),
            xp.stack([xz, yz, squares[..., 2], zw], axis=-1),
            xp.stack([xw, yw, zw, squares[..., 3]], axis=-1),
        ],
        axis=-2,
    )
    best = xp.argmax(squares, axis=-1)[..., None, None]
    quat = normalize(arrays.take_along_axis(candidates, best, axis=-2)[..., 0, :])
    return xp.where(quat[..., 3:] < 0, -quat, quat)


def quat_multiply(a: ArrayLike, b: ArrayLike) -> Array:
    """Hamilton product of xyzw quaternions: the rotation ``a`` after ``b``."""
    a, b = _as_array(a, 4), _as_array(b, 4)
    av, aw, bv, bw = a[..., :3], a[..., 3:], b[..., :3], b[..., 3:]
    xp = arrays.namespace(a)
    vector = aw * bv + bw * av + arrays.cross(av, bv)
    scalar = aw * bw - xp.sum(av * bv, axis=-1, keepdims=True)
    return xp.concatenate([vector, scalar], axis=-1)


def quat_inverse(quat: ArrayLike) -> Array:
    """Invert unit xyzw quaternions ``(..., 4)``."""
    quat = _as_array(quat, 4)
    return quat * arrays.constant(_CONJUGATE, quat)


def quat_in_hemisphere(quat: ArrayLike, reference: ArrayLike) -> Array:
    """Choose the sign of each quaternion that lies in the half-space of ``reference``.

    ``q`` and ``-q`` are one rotation. A fixed reference makes the number unique and, away from its
    edge, continuous; forcing ``w >= 0`` would put a nominal pose with ``w = 0`` exactly on the seam.
    """
    quat = _as_array(quat, 4)
    xp = arrays.namespace(quat)
    side = xp.sum(quat * _as_array(reference, 4), axis=-1, keepdims=True)
    return xp.where(side < 0, -quat, quat)


def matrix_from_rot6d(rot6d: ArrayLike) -> Array:
    """Decode 6D rows ``(..., 6)`` by Gram-Schmidt into matrices ``(..., 3, 3)``.

    Raises:
      ValueError: the two rows are (nearly) parallel or zero, so no rotation is meant.
    """
    rot6d = _as_array(rot6d, 6)
    xp = arrays.namespace(rot6d)
    first = normalize(rot6d[..., :3])
    second = rot6d[..., 3:]
    second = normalize(second - xp.sum(first * second, axis=-1, keepdims=True) * first)
    return xp.stack([first, second, arrays.cross(first, second)], axis=-2)


def rot6d_from_matrix(matrix: ArrayLike) -> Array:
    """Take the first two rows of matrices ``(..., 3, 3)`` as ``(..., 6)``."""
    matrix = _as_array(matrix, 3, 3)
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def matrix_from_rotvec(rotvec: ArrayLike) -> Array:
    """Exponential map: rotation vectors ``(..., 3)`` (rad, along the axis) to matrices."""
    rotvec = _as_array(rotvec, 3)
    xp = arrays.namespace(rotvec)
    angle = xp.linalg.norm(rotvec, axis=-1, keepdims=True)
    half_sinc = xp.where(angle < _SMALL_ANGLE_RAD, 0.5, xp.sin(angle / 2) / xp.clip(angle, _SMALL_ANGLE_RAD, None))
    return matrix_from_quat(xp.concatenate([rotvec * half_sinc, xp.cos(angle / 2)], axis=-1))


def rotvec_from_matrix(matrix: ArrayLike) -> Array:
    """Logarithm: matrices ``(..., 3, 3)`` to rotation vectors ``(..., 3)`` of length at most pi."""
    quat = quat_from_matrix(matrix)
    xp = arrays.namespace(quat)
    vector, w = quat[..., :3], quat[..., 3:]
    sine = xp.linalg.norm(vector, axis=-1, keepdims=True)
    angle = 2 * xp.arctan2(sine, w)
    scale = xp.where(sine < _SMALL_ANGLE_RAD, 2.0, angle / xp.clip(sine, _SMALL_ANGLE_RAD, None))
    return vector * scale


def matrix_from_axis_angle(axis: ArrayLike, angle_rad: ArrayLike) -> Array:
    """Rotate by ``angle_rad`` ``(...)`` about ``axis`` ``(..., 3)`` (any length)."""
    return matrix_from_rotvec(normalize(axis) * arrays.floats(angle_rad)[..., None])


def angle_between(a: ArrayLike, b: ArrayLike) -> Array:
    """Angle in radians, 0 to pi, of the rotation that takes matrix ``a`` to matrix ``b``."""
    a, b = _as_array(a, 3, 3), _as_array(b, 3, 3)
    xp = arrays.namespace(a)
    return xp.linalg.norm(rotvec_from_matrix(xp.swapaxes(a, -1, -2) @ b), axis=-1)


def interpolate(a: ArrayLike, b: ArrayLike, fraction: ArrayLike) -> Array:
    """Turn matrix ``a`` towards ``b`` by ``fraction`` (0 gives a, 1 gives b) along the shortest arc."""
    a, b = _as_array(a, 3, 3), _as_array(b, 3, 3)
    rotvec = rotvec_from_matrix(arrays.namespace(a).swapaxes(a, -1, -2) @ b)
    return a @ matrix_from_rotvec(rotvec * arrays.floats(fraction)[..., None])
