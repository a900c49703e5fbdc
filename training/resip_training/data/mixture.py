"""Data sets of simulation and of the real cell as one: what co-training learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from resip.errors import ResipError

from resip_training.data.store import DemoSet
from resip_training.data.windows import split_episodes, steps_of

Domain = Literal["sim", "real"]
DOMAINS: Final[tuple[Domain, ...]] = ("sim", "real")


class Mixture:
    """The steps of several data sets with images, one set after the other.

    Args:
      sim: folders of rendered sets.
      real: folders of recorded ones.

    Raises:
      ResipError: no set, one twice, a set that is damaged or lacks images, or sets that do not belong together.
    """

    def __init__(self, sim: Sequence[Path] = (), real: Sequence[Path] = ()) -> None:
        paths: list[tuple[Domain, Path]] = [*(("sim", path) for path in sim), *(("real", path) for path in real)]
        if not paths:
            raise ResipError("there is nothing to learn from: name data sets after --sim, --real or both")
        _check_different([path for _, path in paths])
        self._domains = [domain for domain, _ in paths]
        self._sets = [DemoSet(path, images=True) for _, path in paths]
        _check_alike(self._sets)
        self._first_rows = np.cumsum([0, *(demos.n_steps for demos in self._sets)])
        self.robot_state = np.concatenate([demos.robot_state for demos in self._sets])
        self.action = np.concatenate([demos.action for demos in self._sets])
        self.is_real = self._per_step([domain == "real" for domain in self._domains])
        self.knows_parts = self._per_step([demos.knows_parts for demos in self._sets])
        self.success = np.concatenate([demos.success for demos in self._sets])

    @property
    def n_steps(self) -> int:
        """Steps of all sets."""
        return int(self._first_rows[-1])

    @property
    def n_failures(self) -> int:
        """Episodes that failed, of all sets; nothing is cloned from them."""
        return int((~self.success).sum())

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Those that there are sets of."""
        return tuple(domain for domain in DOMAINS if domain in self._domains)

    @property
    def part_poses(self) -> NDArray[np.float32]:
        """Poses of parts and obstacle ``(N, 7 * (parts + 1))``, zeros in sets that lack them; ``(N, 0)`` if all do."""
        width = max(demos.part_poses.shape[1] for demos in self._sets)
        poses = np.zeros((self.n_steps, width), np.float32)
        for demos, first in zip(self._sets, self._first_rows[:-1], strict=True):
            if demos.knows_parts:
                poses[first : first + demos.n_steps] = demos.part_poses
        return poses

    @property
    def episodes(self) -> list[slice]:
        """The rows of each episode, of all sets."""
        firsts = zip(self._sets, self._first_rows[:-1].tolist(), strict=True)
        return [slice(first + rows.start, first + rows.stop) for demos, first in firsts for rows in demos.episodes]

    @property
    def image_chunks(self) -> NDArray[np.int64]:
        """For each step, the number of the chunk on disk that holds its images, see `DemoSet.image_chunks`."""
        pieces, first = [], 0
        for demos in self._sets:
            pieces.append(first + demos.image_chunks)
            first = pieces[-1][-1] + 1
        return np.concatenate(pieces)

    def images(self, camera: str, rows: slice) -> NDArray[np.uint8]:
        """Read frames ``(n, 240, 320, 3)`` of one camera.

        Raises:
          ResipError: they are damaged.
        """
        pieces = []
        for demos, first in zip(self._sets, self._first_rows[:-1], strict=True):
            start, stop = max(rows.start - first, 0), min(rows.stop - first, demos.n_steps)
            if start < stop:
                pieces.append(demos.images(camera, slice(start, stop)))
        return np.concatenate(pieces)

    def split(self, held_out: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows to train on and rows to validate on: whole demonstrations, the same share of each domain, no failures.

        Sets of a domain that share a seed hold the same demonstration, rendered differently: it is on one side. Of a
        set that was rendered in strides these are the steps that have images.

        Raises:
          ResipError: a domain has too few successful demonstrations to hold any out.
        """
        seeds = np.concatenate([demos.seeds for demos in self._sets])
        domains = np.repeat(self._domains, [demos.n_episodes for demos in self._sets])
        train, validation = [], []
        for domain in self.domains:
            episodes = np.flatnonzero(domains == domain)
            kept, aside = split_episodes(seeds[episodes], self.success[episodes], held_out, seed)
            train += episodes[kept].tolist()
            validation += episodes[aside].tolist()
        shown = np.concatenate([demos.shown for demos in self._sets])
        train_rows, validation_rows = (steps_of(self.episodes, sorted(side)) for side in (train, validation))
        return train_rows[shown[train_rows]], validation_rows[shown[validation_rows]]

    def described(self) -> dict[str, Any]:
        """What a run's configuration says of its data, plain JSON values: the sum of the sets, and each by itself.

        Task and provenance are those of the first set.
        """
        each = [
            {"name": demos.path.resolve().name, "domain": domain, **demos.described()}
            for domain, demos in zip(self._domains, self._sets, strict=True)
        ]
        hashes = "".join(one["sha256"] for one in each)
        return {
            "provenance": each[0]["provenance"],
            "sha256": hashes if len(each) == 1 else hashlib.sha256(hashes.encode()).hexdigest(),
            **{name: sum(one[name] for one in each) for name in ("n_demonstrations", "n_episodes", "n_steps")},
            "seeds": sorted({seed for one in each for seed in one["seeds"]}),
            "sets": each,
        }

    def _per_step(self, values: Sequence[bool]) -> NDArray[np.bool_]:
        """One value of each set, at each of its steps."""
        return np.repeat(np.array(values), [demos.n_steps for demos in self._sets])


def _check_different(paths: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise ResipError(f"{path} is named twice: weigh domains with --real-share or --real-weight instead")
        seen.add(path.resolve())


def _check_alike(sets: Sequence[DemoSet]) -> None:
    """Refuse sets of several tasks, or whose part poses mean different parts."""
    first = sets[0]
    knowing = [demos for demos in sets if demos.knows_parts]
    for demos in sets:
        if demos.provenance["task"] != first.provenance["task"]:
            raise ResipError(
                f"{demos.path} holds demonstrations of {demos.provenance['task']!r}, {first.path} of "
                f"{first.provenance['task']!r}: a policy learns one task"
            )
    for demos in knowing:
        if demos.provenance["part_names"] != knowing[0].provenance["part_names"]:
            raise ResipError(
                f"{demos.path} has the parts {', '.join(demos.provenance['part_names'])}, {knowing[0].path} has "
                f"{', '.join(knowing[0].provenance['part_names'])}: make them with the same simulation"
            )
