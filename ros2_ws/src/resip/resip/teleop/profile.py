"""Named profiles: how far, in one control step, the robot goes for a deflection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from resip.errors import ResipError
from resip.teleop.source import Array, Motion

RotationFrame = Literal["base", "tool"]


@dataclass(frozen=True)
class Profile:
    """How a deflection becomes a step of the target."""

    full_scale: float
    """Deflection that counts as 1, in the device's units."""
    dead_zone: float
    """Share of the full deflection, on each axis, that is no motion."""
    translation_step_m: float
    """Step along an axis at full deflection."""
    rotation_step_rad: float
    """Turn about an axis at full deflection."""
    max_translation_m: float
    """Longest step in any direction."""
    max_rotation_rad: float
    """Largest turn about any axis."""
    rotation_frame: RotationFrame
    """Whose axes turns are about: the base's, or the fingertip's own."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.dead_zone < 1.0:
            raise ResipError(f"dead_zone is {self.dead_zone}: give a share of the full deflection, 0 to below 1")
        for name in ("full_scale", "translation_step_m", "rotation_step_rad", "max_translation_m", "max_rotation_rad"):
            if not getattr(self, name) > 0:
                raise ResipError(f"{name} is {getattr(self, name)}: it must be positive")

    def deflection(self, raw: ArrayLike) -> Array:
        """Deflections -1 to 1 of raw ones: 0 in the dead zone, from there on without a jump, odd."""
        share = np.asarray(raw, dtype=np.float64) / self.full_scale
        beyond = np.maximum(np.abs(share) - self.dead_zone, 0.0) / (1.0 - self.dead_zone)
        return np.sign(share) * np.minimum(beyond, 1.0)

    def step(self, motion: Motion) -> tuple[Array, Array]:
        """Step of one control period: translation ``(3,)`` (m) and rotation vector ``(3,)`` (rad), both bounded."""
        translation_m = _bounded(motion.translation * self.translation_step_m, self.max_translation_m)
        return translation_m, _bounded(motion.rotation * self.rotation_step_rad, self.max_rotation_rad)


def _bounded(vector: Array, longest: float) -> Array:
    length = float(np.linalg.norm(vector))
    return vector if length <= longest else vector * (longest / length)


_REFERENCE: Final = {
    "dead_zone": 0.05,
    "translation_step_m": 0.3 / 10 * 1.8,
    "rotation_step_rad": 0.7 / 10 * 4,
    # what the reference bounds its simulated robot to; its real one is not bounded
    "max_translation_m": 0.025,
    "max_rotation_rad": float(np.deg2rad(20)),
}

#: Speeds of the paper's code for wired and wireless SpaceMice (counts; a cap gives about 350 at most), a slow one for
#: insertions, and the keyboard's steps a key.
PROFILES: Final[Mapping[str, Profile]] = {
    "wired": Profile(full_scale=300.0, rotation_frame="base", **_REFERENCE),
    "wireless": Profile(full_scale=500.0, rotation_frame="base", **_REFERENCE),
    "fine": Profile(
        full_scale=350.0,
        dead_zone=0.1,
        translation_step_m=0.008,
        rotation_step_rad=0.08,
        max_translation_m=0.008,
        max_rotation_rad=0.08,
        rotation_frame="base",
    ),
    "keyboard": Profile(
        full_scale=1.0,
        dead_zone=0.0,
        translation_step_m=0.01,
        rotation_step_rad=0.13,
        max_translation_m=0.025,
        max_rotation_rad=0.26,
        rotation_frame="tool",
    ),
}

#: Profiles of each source; its first is its default.
PROFILES_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "spacemouse": ("wired", "wireless", "fine"),
    "keyboard": ("keyboard",),
}
