"""Visual randomisation: how a scene looks, drawn from a seed, in the compiled model; physics never depends on it.

Lights, colours, textures, cameras. What the reference's re-rendering randomises has its ranges (reference:
``isaac_lab_rerender.py``); textures, shadows, the arm's shade, background and focal length it leaves alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip import rotation
from resip.errors import ResipError

from resip_training.sim import textures, visuals

Array = NDArray[np.float64]
Range = tuple[float, float]
Color = tuple[float, float, float]

#: Camera offsets are normal, cut off at this many standard deviations.
CUT_OFF: Final = 3.0

#: Fields of MjModel that make up an appearance, besides the headlight.
_MODEL_FIELDS: Final = (
    "mat_rgba",
    "mat_texrepeat",
    "light_active",
    "light_pos",
    "light_dir",
    "light_diffuse",
    "cam_pos",
    "cam_quat",
    "cam_fovy",
    "tex_data",
)
_HEADLIGHT_FIELDS: Final = ("ambient", "diffuse")
_RGB: Final = slice(0, 3)


@dataclass(frozen=True)
class CameraNoise:
    """Standard deviations on each axis of a camera's own frame."""

    position_m: float
    angle_rad: float


@dataclass(frozen=True)
class VisualRandomness:
    """Ranges of everything that is drawn; a pair is the lower and upper end of a uniform distribution.

    Colours are RGB, each channel drawn alone, 1 the brightest.
    """

    lights_switched: float = 0.75
    """Chance that lights are switched at all; else all are on."""
    light_off: float = 0.5
    """Then the chance of each to be off."""
    light_color_from: Color = (0.789, 0.715, 0.622)
    """Warmest colour of a light; the coldest is white."""
    light_power: Range = (3000.0, 8000.0)
    """Of each light against the others: a camera's exposure adapts to their sum."""
    light_tilt_rad: float = np.deg2rad(45.0)
    """Largest angle between a light and the vertical."""
    exposure: Range = (0.8, 1.05)
    """How bright a white surface that faced all lights would appear; nominally 0.96."""
    ambient_share: Range = (0.2, 0.5)
    """Of the exposure, from everywhere."""
    headlight_share: Range = (0.1, 0.4)
    """Of the exposure, from the camera's side; the lights have the rest."""
    shadows: float = 0.5
    """Chance that the first light casts shadows."""

    black_parts: float = 0.5
    """Chance that parts and obstacle are black instead of white."""
    white_part: Range = (0.5, 1.0)
    black_part: Range = (0.0, 0.5)
    different_parts: float = 0.5
    """Chance that each has a colour of its own."""
    arm_shade: Range = (0.85, 1.1)
    """Factor of the arm's colours."""

    table_recolored: float = 0.5
    """Chance that the table has any colour in ``table_color``; else it is nominal up to ``table_noise``."""
    table_color: Range = (0.5, 1.0)
    table_noise: float = 0.01
    """Standard deviation of each channel."""
    textured: float = 0.5
    """Chance that the table has a pattern."""
    texture_contrast: Range = (0.1, 0.5)
    """How much the pattern darkens at most."""
    texture_repeats: Range = (1.0, 6.0)
    """Of the pattern, along a metre."""
    background_grey: Range = (0.0, 0.9)
    """Brightness of its upper and its lower end."""
    background_saturation: float = 0.4
    """How much less of it a channel has at most."""
    background_contrast: Range = (0.0, 0.5)
    """How much blotches darken it at most."""

    cameras: Mapping[str, CameraNoise] = field(
        default_factory=lambda: {
            "front": CameraNoise(position_m=0.0025, angle_rad=np.deg2rad(0.5)),
            "wrist": CameraNoise(position_m=0.00075, angle_rad=np.deg2rad(0.25)),
        }
    )
    focal_noise: float = 0.01
    """Standard deviation of each camera's focal length, relative. Its principal point is moved by its angle."""


@dataclass(frozen=True)
class Appearance:
    """How a scene looks: values of the visual fields of its model, and whether shadows are drawn."""

    fields: Mapping[str, NDArray[Any]]
    """By name of the field in MjModel, and ``headlight_ambient``, ``headlight_diffuse`` ``(3,)``."""
    shadows: bool

    @staticmethod
    def of(model: mujoco.MjModel) -> Appearance:
        """The present one of a model, without shadows."""
        fields = {name: np.array(getattr(model, name)) for name in _MODEL_FIELDS}
        fields |= {f"headlight_{name}": np.array(getattr(model.vis.headlight, name)) for name in _HEADLIGHT_FIELDS}
        return Appearance(MappingProxyType(fields), shadows=False)

    def apply(self, model: mujoco.MjModel) -> None:
        """Make ``model`` look like this; textures that a renderer has loaded must be uploaded again."""
        for name in _MODEL_FIELDS:
            getattr(model, name)[:] = self.fields[name]
        for name in _HEADLIGHT_FIELDS:
            getattr(model.vis.headlight, name)[:] = self.fields[f"headlight_{name}"]


class Appearances:
    """Draws appearances of one scene; the same seed gives the same one."""

    def __init__(self, model: mujoco.MjModel, ranges: VisualRandomness | None = None) -> None:
        """Remember the nominal appearance of ``model``, a scene built with its visuals."""
        self.nominal: Final = Appearance.of(model)
        self._ranges = ranges or VisualRandomness()
        self._light_ids = [model.light(name).id for name in (visuals.KEY_LIGHT, *visuals.FILL_LIGHTS)]
        materials = {model.mat(i).name: i for i in range(model.nmat)}
        self._table = materials.pop(visuals.TABLE_MATERIAL)
        self._arm = [i for name, i in materials.items() if name.startswith(visuals.ARM_MATERIAL_PREFIX)]
        self._parts = [i for i in materials.values() if i not in self._arm]
        self._cameras = {name: model.camera(name).id for name in self._ranges.cameras}
        self._table_texels = _texels(model, visuals.TABLE_TEXTURE)
        self._background_texels = _texels(model, visuals.BACKGROUND_TEXTURE)
        self._background_px = int(model.tex_width[model.tex(visuals.BACKGROUND_TEXTURE).id])
        grey = model.tex_data[self._background_texels].reshape(-1, 3).mean(axis=1)
        self._background_height = ((grey - grey.min()) / np.ptp(grey))[:, None]
        self._table_px = int(model.tex_width[model.tex(visuals.TABLE_TEXTURE).id])

    def draw(self, *seed: int) -> Appearance:
        """Draw the appearance of a seed: any number of integers of at least 0, such as a run's and an episode's.

        Raises:
          ResipError: one of them is negative.
        """
        if min(seed) < 0:
            raise ResipError(f"seed {min(seed)} of an appearance: at least 0")
        rng = np.random.default_rng(seed)
        fields = {name: values.copy() for name, values in self.nominal.fields.items()}
        self._draw_lights(fields, rng)
        self._draw_parts(fields, rng)
        self._draw_arm(fields, rng)
        self._draw_table(fields, rng)
        self._draw_background(fields, rng)
        self._draw_cameras(fields, rng)
        return Appearance(MappingProxyType(fields), shadows=bool(rng.random() < self._ranges.shadows))

    def _draw_lights(self, fields: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
        ranges, count = self._ranges, len(self._light_ids)
        on = np.ones(count, dtype=bool)
        if rng.random() < ranges.lights_switched:
            on = rng.random(count) >= ranges.light_off
        share = on * rng.uniform(*ranges.light_power, count)
        soft = np.array([rng.uniform(*ranges.ambient_share), rng.uniform(*ranges.headlight_share)])
        if on.any():
            share *= (1.0 - soft.sum()) / share.sum()
        else:
            soft /= soft.sum()
        brightness = rng.uniform(*ranges.exposure) * np.concatenate([soft, share])
        colors = brightness[:, None] * rng.uniform(ranges.light_color_from, 1.0, (count + 2, 3))
        fields["headlight_ambient"][:], fields["headlight_diffuse"][:] = colors[:2]
        directions = _downwards(ranges.light_tilt_rad, count, rng)
        for light, active, color, direction in zip(self._light_ids, on, colors[2:], directions, strict=True):
            fields["light_active"][light] = active
            fields["light_diffuse"][light] = color
            fields["light_dir"][light] = direction
            fields["light_pos"][light] = visuals.light_position_m(direction)

    def _draw_parts(self, fields: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
        ranges = self._ranges
        limits = ranges.black_part if rng.random() < ranges.black_parts else ranges.white_part
        colors = rng.uniform(*limits, (len(self._parts), 3))
        if rng.random() >= ranges.different_parts:
            colors[:] = colors[0]
        fields["mat_rgba"][self._parts, _RGB] = colors

    def _draw_arm(self, fields: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
        shaded = fields["mat_rgba"][self._arm, _RGB] * rng.uniform(*self._ranges.arm_shade)
        fields["mat_rgba"][self._arm, _RGB] = np.minimum(shaded, 1.0)

    def _draw_table(self, fields: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
        ranges = self._ranges
        color = fields["mat_rgba"][self._table, _RGB] + ranges.table_noise * rng.standard_normal(3)
        if rng.random() < ranges.table_recolored:
            color = rng.uniform(*ranges.table_color, 3)
        fields["mat_rgba"][self._table, _RGB] = np.clip(color, 0.0, 1.0)
        if rng.random() < ranges.textured:
            pattern = textures.PATTERNS[rng.integers(len(textures.PATTERNS))](self._table_px, rng)
            darkness = rng.uniform(*ranges.texture_contrast) * rng.uniform(0.5, 1.0, 3)
            fields["tex_data"][self._table_texels] = _bytes(1.0 - pattern[..., None] * darkness)
            fields["mat_texrepeat"][self._table] = rng.uniform(*ranges.texture_repeats)

    def _draw_background(self, fields: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
        """A gradient like the nominal one, between other colours, behind blotches."""
        ranges, size = self._ranges, self._background_px
        height = self._background_height
        channels = rng.uniform(1.0 - ranges.background_saturation, 1.0, (2, 3))
        lower, upper = rng.uniform(*ranges.background_grey, (2, 1)) * channels
        blotches = textures.noises(len(height) // size**2, size, rng).reshape(-1, 1)
        darkness = rng.uniform(*ranges.background_contrast) * blotches
        fields["tex_data"][self._background_texels] = _bytes((lower + height * (upper - lower)) * (1.0 - darkness))

    def _draw_cameras(self, fields: dict[str, NDArray[Any]], rng: np.random.Generator) -> None:
        for name, camera in self._cameras.items():
            noise = self._ranges.cameras[name]
            position, angles = _normal(noise.position_m, rng), _normal(noise.angle_rad, rng)
            matrix = rotation.matrix_from_quat(np.roll(fields["cam_quat"][camera], -1))
            turned = matrix @ rotation.matrix_from_rotvec(angles)
            fields["cam_pos"][camera] += matrix @ position
            fields["cam_quat"][camera] = np.roll(rotation.quat_from_matrix(turned), 1)
            focal = 1.0 + _normal(self._ranges.focal_noise, rng, ())
            half_rad = np.deg2rad(fields["cam_fovy"][camera]) / 2
            fields["cam_fovy"][camera] = 2 * np.rad2deg(np.arctan(np.tan(half_rad) / focal))


def _normal(deviation: float, rng: np.random.Generator, shape: tuple[int, ...] = (3,)) -> Array:
    return deviation * np.clip(rng.standard_normal(shape), -CUT_OFF, CUT_OFF)


def _downwards(tilt_rad: float, count: int, rng: np.random.Generator) -> Array:
    """Unit vectors ``(count, 3)``, uniform over the directions within ``tilt_rad`` of straight down."""
    cosine = rng.uniform(np.cos(tilt_rad), 1.0, count)
    azimuth = rng.uniform(-np.pi, np.pi, count)
    sine = np.sqrt(1.0 - cosine**2)
    return np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), -cosine], axis=-1)


def _texels(model: mujoco.MjModel, name: str) -> slice:
    """Where a texture's bytes are in ``tex_data``."""
    texture = model.tex(name).id
    start = int(model.tex_adr[texture])
    count = int(model.tex_height[texture] * model.tex_width[texture] * model.tex_nchannel[texture])
    return slice(start, start + count)


def _bytes(colors: Array) -> NDArray[np.uint8]:
    return np.round(255.0 * np.clip(colors, 0.0, 1.0)).astype(np.uint8).ravel()
