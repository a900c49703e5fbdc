"""What a base and its residual want, drawn into a camera's picture: arrows from the fingertip, and their scale.

An arrow is a motion as the camera sees its direction, at so many pixels a millimetre whatever the distance: a
residual of millimetres shows in the overview, and a base action of centimetres stays within the wrist's picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from resip_training.render.replay import View

Array = NDArray[np.float64]
Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

PX_PER_MM: Final = 6.0


@dataclass(frozen=True)
class _Pen:
    """How a motion's arrow is drawn."""

    colour: Colour
    width_px: float


#: In the order of drawing: the base's is wide, so that a net action that hardly differs does not hide it.
_PENS: Final = {
    "base": _Pen((224, 49, 49), 6.0),
    "net": _Pen((47, 180, 64), 2.5),
    "residual": _Pen((28, 110, 255), 3.5),
}

_HALO_PX: Final = 1.0
_HEAD_PX: Final = 8.0
_HEAD_HALF_WIDTH: Final = 0.45  # of its length
_FINER: Final = 3  # drawn so many times larger, then reduced: smooth edges
_HALO: Final = (255, 255, 255)

_LEGEND_PX: Final = 34
_TEXT_PX: Final = 14
_GAP_PX: Final = 24
_BAR_MM: Final = 10.0
_PAPER: Final = (250, 250, 250)
_INK: Final[Colour] = (30, 34, 40)


@dataclass(frozen=True)
class Intent:
    """Where the fingertip is asked to be at the next control step; positions ``(3,)``, m, base frame.

    Attributes:
      fingertip: where it is.
      base: where the base alone asks it to be.
      net: where base and residual do; None for a base alone.
    """

    fingertip: Array
    base: Array
    net: Array | None = None

    def motions(self) -> dict[str, Array]:
        """By name, m: the base's motion, and with a residual that and what comes of both."""
        base = {"base": self.base - self.fingertip}
        if self.net is None:
            return base
        return {**base, "residual": self.net - self.base, "net": self.net - self.fingertip}


def draw(frame: Picture, intent: Intent, view: View) -> Picture:
    """Draw the arrows of an intent into a frame ``(h, w, 3)`` that shows ``view``; a new array."""
    picture = Image.fromarray(frame)
    overlay = Image.new("RGBA", (_FINER * picture.width, _FINER * picture.height), (*_HALO, 0))
    pen = ImageDraw.Draw(overlay)
    start_px = view.project(intent.fingertip)
    in_image = view.camera.matrix[:, :2] * np.array([1.0, -1.0])  # right and down
    motions = intent.motions()
    for name in (name for name in _PENS if name in motions):
        _arrow(pen, start_px, start_px + 1e3 * PX_PER_MM * motions[name] @ in_image, _PENS[name])
    smooth = overlay.resize(picture.size, Image.Resampling.LANCZOS)
    picture.paste(smooth, mask=smooth)
    return np.asarray(picture)


def with_legend(frame: Picture, intent: Intent | None) -> Picture:
    """The frame ``(h, w, 3)`` below a strip that names the arrows, their lengths and their scale."""
    strip = Image.new("RGB", (frame.shape[1], _LEGEND_PX), _PAPER)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(_TEXT_PX)
    middle, x = _LEGEND_PX / 2, _GAP_PX / 2
    pen.line((x, middle, x + _BAR_MM * PX_PER_MM, middle), fill=_INK, width=3)
    entries: list[tuple[str, Colour]] = [(f"{_BAR_MM:g} mm", _INK)]
    for name, motion in (intent.motions() if intent else {}).items():
        entries.append((f"{name} {1e3 * np.linalg.norm(motion):.1f} mm", _PENS[name].colour))
    x += _BAR_MM * PX_PER_MM + _GAP_PX / 3
    for text, colour in entries:
        pen.text((x, middle), text, fill=colour, font=font, anchor="lm")
        x += pen.textlength(text, font=font) + _GAP_PX
    return np.concatenate([np.asarray(strip), frame])


def _arrow(pen: ImageDraw.ImageDraw, start_px: Array, end_px: Array, style: _Pen) -> None:
    """An arrow with a light rim, in the finer pixels of ``pen``; a short one is all head."""
    length = float(np.linalg.norm(end_px - start_px))
    if length == 0.0:
        return
    along = (end_px - start_px) / length
    head_px = min(_HEAD_PX + style.width_px, length)
    neck = end_px - along * head_px
    side = _HEAD_HALF_WIDTH * head_px * np.array([-along[1], along[0]])
    head = [end_px, neck + side, neck - side]
    for grown, fill in ((_HALO_PX, _HALO), (0.0, style.colour)):
        width = round(_FINER * (style.width_px + 2 * grown))
        pen.line(_fine([start_px, neck]), fill=fill, width=width)
        pen.polygon(_fine(head), fill=fill, outline=fill, width=round(2 * _FINER * grown) or 1)


def _fine(points_px: list[Array]) -> list[tuple[float, float]]:
    return [(_FINER * float(x), _FINER * float(y)) for x, y in points_px]
