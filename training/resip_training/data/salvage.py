"""`resip data salvage`: what is whole of a damaged demonstration set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from resip.errors import ResipError
from resip.progress import track

from resip_training.data.store import DemoWriter, Episode, Part, open_parts, provenance_of


def salvage(dataset: Path, out: Path) -> None:
    """Copy the whole episodes of a damaged set into the set ``out``, and print which are lost.

    Args:
      dataset: the damaged set; it is left as it is.
      out: folder of the new set; one that has some of it is completed.

    Raises:
      ResipError: ``dataset`` is no data set, what describes its episodes is damaged, or ``out`` holds something else.
    """
    parts = open_parts(dataset)
    writer = DemoWriter(out, provenance_of(parts[0].provenance))
    seeds = [(part, seed) for part in parts for seed in np.unique(part.seeds()).tolist() if seed not in writer.seeds]
    for part, seed in track(seeds, "salvage"):
        writer.append_from(_whole_episodes(part, seed))
    for seed, steps in (failure for part in parts for failure in _whole_failures(part)):
        if seed not in writer.outcomes:
            writer.record_failure(seed, steps)
    print(f"{len(writer.seeds)} demonstrations, {writer.n_steps} steps in {out}")


def _whole_episodes(part: Part, seed: int) -> Iterator[Episode]:
    """The episodes of a demonstration and its displaced copies, one at a time, less those that are damaged."""
    for index in np.flatnonzero(part.seeds() == seed).tolist():
        try:
            yield part.episode(index)
        except ResipError as error:
            print(f"lost: episode {index} (seed {seed}): {error}")


def _whole_failures(part: Part) -> list[tuple[int, int]]:
    """Seed and steps of the failures of rollouts, none if those are damaged: the same rollout tries them again."""
    try:
        return [(int(seed), int(steps)) for seed, steps in part.failures()]
    except ResipError as error:
        print(f"lost: which rollouts failed: {error}")
        return []
