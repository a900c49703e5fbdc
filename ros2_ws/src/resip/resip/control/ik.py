"""Damped differential inverse kinematics with joint limits and a null-space posture: numpy or torch, batched.

The reference solves an undamped least-squares step with no limits; here the step is damped near
singularities, redundancy is spent on a comfortable posture, and the result never leaves the limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resip import arrays, rotation, spaces
from resip.control import panda

Array = NDArray[np.float64]


@dataclass(frozen=True)
class IkSettings:
    """How a pose becomes joints."""

    iterations: int = 3
    """Newton steps a solve; the target moves a few centimetres, so three reach micrometres."""
    damping: float = 0.03
    """Of the least squares on the target (dimensionless, m and rad alike); it grows with the distance in metres,
    so that an arm stretched towards a target out of reach comes to rest instead of swinging about it."""
    max_error_m: float = 0.1
    """Farthest that one Newton step looks ahead; a farther target is approached along the straight line to it."""
    max_error_rad: float = 0.5
    """The same for the rotation."""
    posture_gain: float = 0.05
    """Share of the distance to the posture that one step closes in the null space."""
    max_step_rad: float = 0.25
    """Largest change of one joint in one Newton step."""
    limit_margin_rad: float = panda.SOFT_MARGIN_RAD
    """Distance kept from the joints' hard limits."""


_PROJECTION_DAMPING = 0.003

#: Rest posture that the redundant joint is drawn to: the reference's reset pose.
POSTURE_RAD = panda.RESET_RAD


def pose_error(pose: spaces.Pose, target: spaces.Pose) -> Array:
    """Twist ``(..., 6)`` (m, rad, base axes) that takes ``pose`` to ``target`` in unit time."""
    linear = target.position - pose.position
    xp = arrays.namespace(linear)
    angular = rotation.rotvec_from_matrix(target.matrix @ xp.swapaxes(pose.matrix, -1, -2))
    return xp.concatenate([linear, angular], axis=-1)


def _shorten(vector: Array, longest: float) -> Array:
    """Scale vectors ``(..., n)`` longer than ``longest`` down to it."""
    xp = arrays.namespace(vector)
    length = xp.linalg.norm(vector, axis=-1, keepdims=True)
    return vector * (longest / xp.clip(length, longest, None))


def _least_squares(transposed: Array, gram: Array, twist: Array, damping_squared: Array) -> Array:
    """Joint step ``(..., 7)`` that gives ``twist`` ``(..., 6)``: ``J' (J J' + damping) ^-1 twist``."""
    damped = gram + damping_squared[..., None, None] * arrays.constant(np.eye(6), gram)
    return (transposed @ arrays.solve(damped, twist[..., None]))[..., 0]


def step(q_rad: ArrayLike, target: spaces.Pose, settings: IkSettings) -> Array:
    """One damped Newton step from joints ``(..., 7)`` towards the fingertip pose ``target``."""
    q = arrays.floats(q_rad)
    xp = arrays.namespace(q)
    pose, jacobian = panda.ee_pose_and_jacobian(q)
    transposed = xp.swapaxes(jacobian, -1, -2)
    error = pose_error(pose, target)
    linear = _shorten(error[..., :3], settings.max_error_m)
    task = xp.concatenate([linear, _shorten(error[..., 3:], settings.max_error_rad)], axis=-1)
    distance_squared = xp.sum(linear**2, axis=-1)
    gram = jacobian @ transposed
    posture = settings.posture_gain * (arrays.constant(POSTURE_RAD, q) - q)
    task_part = _least_squares(transposed, gram, task, settings.damping**2 + distance_squared)
    # near the target, what the task sees of the posture is taken out almost undamped: it would hold the tip off
    twist = xp.einsum("...ij,...j->...i", jacobian, posture)
    seen = _least_squares(transposed, gram, twist, _PROJECTION_DAMPING**2 + distance_squared)
    change = task_part + posture - seen
    largest = xp.amax(xp.abs(change), axis=-1, keepdims=True)
    change *= settings.max_step_rad / xp.clip(largest, settings.max_step_rad, None)
    lower = arrays.constant(panda.HARD_LOWER_RAD + settings.limit_margin_rad, q)
    upper = arrays.constant(panda.HARD_UPPER_RAD - settings.limit_margin_rad, q)
    return xp.clip(q + change, lower, upper)


def solve(q_seed_rad: ArrayLike, target: spaces.Pose, settings: IkSettings | None = None) -> Array:
    """Joints ``(..., 7)`` near ``q_seed_rad`` whose fingertip is at ``target``, within the limits.

    An unreachable target gives the nearest posture that the limits allow, never an exception.
    """
    settings = settings or IkSettings()
    q = arrays.floats(q_seed_rad)
    for _ in range(settings.iterations):
        q = step(q, target, settings)
    return q
