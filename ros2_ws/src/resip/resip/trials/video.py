"""A camera's pictures as a small video that a web page can hold."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

_TIME_BASE: Final = Fraction(1, 1000)  # pictures are placed by their stamps, to the millisecond
_MAX_BIT_RATE: Final = 1_500_000
_CONTAINER_SHARE: Final = 0.9  # of the size limit is left to the pictures
_QUALITY: Final = "26"  # x264's constant rate factor: artefacts hardly show


def encode_mp4(frames: Iterable[tuple[float, NDArray[np.uint8]]], duration_s: float, max_bytes: int) -> bytes | None:
    """Encode pictures as H.264 in MP4, each shown from its own time on.

    Args:
      frames: rising times in s, and ``(h, w, 3)`` uint8 rgb of one even size.
      duration_s: of the whole, to choose the bit rate by.
      max_bytes: what the file may have at most, nearly.

    Returns:
      The file, or None where there is no picture.
    """
    rate = min(_MAX_BIT_RATE, int(_CONTAINER_SHARE * 8 * max_bytes / max(duration_s, 1.0)))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = None
        last_ms = -1
        for time_s, rgb in frames:
            if stream is None:
                stream = container.add_stream("libx264", options=_options(rate))
                stream.height, stream.width = rgb.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = _TIME_BASE
                stream.codec_context.thread_count = 1
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            last_ms = max(round(time_s * 1000), last_ms + 1)
            frame.pts, frame.time_base = last_ms, _TIME_BASE
            container.mux(stream.encode(frame))
        if stream is None:
            return None
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _options(bit_rate: int) -> dict[str, str]:
    return {"preset": "veryfast", "crf": _QUALITY, "maxrate": str(bit_rate), "bufsize": str(2 * bit_rate)}
