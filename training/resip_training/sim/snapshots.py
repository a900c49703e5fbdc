"""Snapshots of worlds as rows of numbers, so that data sets can hold them: ``Physics.snapshot`` and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from resip import arrays
from resip.errors import ResipError

Array = NDArray[np.float64]
Snapshot = Mapping[str, Any]
#: What a row holds: for each entry, in their order, its name and its shape in one world. Plain JSON values.
Layout = Mapping[str, Sequence[int]]


def layout(snapshot: Snapshot) -> dict[str, list[int]]:
    """What ``flatten`` makes of a snapshot of ``n`` worlds, whose entries are ``(n, ...)``."""
    return {name: list(values.shape[1:]) for name, values in snapshot.items()}


def width(recorded: Layout) -> int:
    """Numbers in a row."""
    return sum(math.prod(shape) for shape in recorded.values())


def flatten(snapshot: Snapshot) -> Array:
    """A snapshot of ``n`` worlds as rows ``(n, width)`` on the host."""
    columns = [arrays.to_host(values).reshape(len(values), -1) for values in snapshot.values()]
    return np.concatenate(columns, axis=1, dtype=np.float64)


def unflatten(rows: Array, like: Snapshot) -> dict[str, Any]:
    """Rows ``(n, width)`` as a snapshot of ``n`` worlds, with the shapes, types and device of the snapshot ``like``."""
    snapshot, first = {}, 0
    for name, values in like.items():
        shape = tuple(values.shape[1:])
        last = first + math.prod(shape)
        entry = np.ascontiguousarray(rows[:, first:last]).reshape(len(rows), *shape)
        snapshot[name] = arrays.like(entry, values, values.dtype)
        first = last
    return snapshot


def check(recorded: Layout, like: Snapshot, source: Any) -> None:
    """Refuse snapshots that the simulator here, whose own is ``like``, cannot go on from.

    Raises:
      ResipError: ``source`` holds another layout; its first difference is named.
    """
    here = layout(like)
    for name in (*here, *recorded):
        there = list(recorded[name]) if name in recorded else None
        if there != here.get(name):
            raise ResipError(
                f"{source} has snapshots of another simulation: {name} has shape {there}, here {here.get(name)}; "
                "record them again with this version"
            )
    if list(recorded) != list(here):
        raise ResipError(f"{source} has snapshots of another simulation: their entries are in another order")
