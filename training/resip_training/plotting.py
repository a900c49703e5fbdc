"""What pictures of data sets and of studies have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from resip.errors import ResipError

#: The sides that the paper's Fig. 8 shows positions from: title, and the axes of the base frame that are drawn.
VIEWS: Final = (("top view", 0, 1), ("side view", 0, 2), ("front view", 1, 2))


def label_axes(axis: Axes, x: int, y: int) -> None:
    """Name two axes of the base frame, drawn at one scale."""
    axis.set_xlabel(f"{'xyz'[x]} (m)")
    axis.set_ylabel(f"{'xyz'[y]} (m)")
    axis.set_aspect("equal", adjustable="datalim")


def save_figure(figure: Figure, path: Path, dpi: int = 80) -> None:
    """Write a figure in the format that its name ends in.

    Raises:
      ResipError: it cannot be written, or no picture is called so.
    """
    try:
        figure.savefig(path, dpi=dpi)
    except (OSError, ValueError) as error:  # ValueError: a name that is no picture's
        raise ResipError(f"cannot write the plot {path}: {error}") from error
