"""The starts of an evaluation as pictures, so that a person can lay the parts out alike for every policy.

The first trial of a start leaves the first picture of each camera; those that follow show it. The starts of an earlier
evaluation can be laid out again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from resip.errors import ResipError

_FOLDER: Final = "starts"


class Starts:
    """Pictures of a set's starts, JPEG.

    Args:
      directory: of the set.
      earlier: of the set whose starts are wanted again; None: new ones.

    Raises:
      ResipError: the earlier one has no starts.
    """

    def __init__(self, directory: Path, earlier: Path | None = None) -> None:
        self._folders = [directory / _FOLDER]
        if earlier is not None:
            if not any((earlier / _FOLDER).glob("*.jpg")):
                raise ResipError(f"no starts in {earlier}: expected the folder of a set of trials, with {_FOLDER}/")
            self._folders.insert(0, earlier / _FOLDER)

    def wanted(self, start: int, camera: str) -> bytes | None:
        """What a camera shall see; None where the start is still to be made."""
        paths = [folder / _name(start, camera) for folder in self._folders]
        return next((path.read_bytes() for path in paths if path.is_file()), None)

    def keep(self, start: int, camera: str, jpeg: bytes) -> None:
        """Keep what a camera saw when the first trial of a start began; later ones change nothing."""
        path = self._folders[-1] / _name(start, camera)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".tmp")
            fresh.write_bytes(jpeg)
            fresh.replace(path)


def _name(start: int, camera: str) -> str:
    return f"{start:03d}_{camera}.jpg"
