"""A camera node that shows given pictures through librealsense's software device, at the rate of a real camera.

All that follows the driver is a real camera's: librealsense's frames, the node, its topics and its stamps.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from resip.cameras.realsense import RealSenseCamera, StreamSettings
from resip.cameras.software import SERIAL, SoftwareCamera
from resip.errors import ResipError
from resip.nodes import runtime
from resip.nodes.camera_node import CameraNode

#: Pictures that follow one another: as many as differ by a sensor's noise, of this size (of 255).
_PICTURES: Final = 8
_NOISE: Final = 3.0


class SoftwareCameraNode(CameraNode):
    """Parameters here and in ``CameraNode``."""

    def __init__(self) -> None:
        settings = StreamSettings()
        self._source = SoftwareCamera(SERIAL, settings)
        self._period_s = 1.0 / settings.fps
        super().__init__(RealSenseCamera(SERIAL, settings, devices=lambda: [self._source.device]))
        path = self.parameter("pictures", "", "File of arrays (1, h, w, 3) uint8, named as the cameras")
        self._pictures = _pictures(Path(path), self._name, (settings.height, settings.width))
        self._unplugged = threading.Event()
        self._feeder = self.start_thread(self._feed)

    def close(self) -> None:
        """Let the camera go, then unplug it."""
        super().close()
        self._unplugged.set()
        self._feeder.join()

    def _feed(self) -> None:
        begun_s, count = time.monotonic(), 0
        while not self._unplugged.is_set():
            self._source.put(self._pictures[count % _PICTURES], time.time() * 1e3)
            count += 1
            self._unplugged.wait(max(0.0, begun_s + count * self._period_s - time.monotonic()))


def _pictures(path: Path, camera: str, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """What the camera sees, ``(h, w, 3)``, brought to its size, several times with other noise."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            seen = arrays[camera][0]
    except (OSError, KeyError, ValueError) as error:
        raise ResipError(f"{path} holds no picture of the {camera} camera ({error})") from error
    larger = np.asarray(seen, np.float64).repeat(size[0] // seen.shape[0], 0).repeat(size[1] // seen.shape[1], 1)
    noise = np.random.default_rng(0).normal(0.0, _NOISE, (_PICTURES, *larger.shape))
    return list((larger + noise).clip(0, 255).astype(np.uint8))


def main() -> None:
    """Run the node."""
    runtime.main(SoftwareCameraNode)


if __name__ == "__main__":
    main()
