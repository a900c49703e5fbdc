"""Batches of camera frames: from memory where a data set fits, and else from the store while training goes on.

An epoch goes through the steps in a random order that is made for reading: chunks of the store in random order are cut
into segments, and within a segment steps are in random order. One segment is in memory and the next one is read
meanwhile. What fits in memory is a single segment, which stays.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from resip.errors import ResipError
from torch import Tensor

from resip_training.data.mixture import Mixture
from resip_training.models.encoder import View
from resip_training.models.resized_view import ResizedView
from resip_training.sim.worlds import available_bytes

_CHUNKS_AT_ONCE: Final = 16  # 59 MB of frames
_READERS: Final = 4

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Frames:
    """Frames of some steps, as the views cut them.

    Attributes:
      rows: the steps, rising.
      cameras: by camera ``(len(rows), h, w, 3)`` uint8.
    """

    rows: Rows
    cameras: Mapping[str, NDArray[np.uint8]]

    def of(self, rows: Rows) -> dict[str, Tensor]:
        """Those of ``rows``, which are among them, in that order and by camera."""
        places = torch.from_numpy(np.searchsorted(self.rows, rows))
        return {camera: torch.from_numpy(frames)[places] for camera, frames in self.cameras.items()}


class FrameReader:
    """Reads the frames of a mixture's steps and keeps what the views need of them.

    Args:
      data: the mixture.
      views: of each camera, by name.
    """

    def __init__(self, data: Mixture, views: Mapping[str, View | ResizedView]) -> None:
        self._data, self._views, self._chunks = data, views, data.image_chunks
        probe = {camera: view.window(torch.zeros(1, 240, 320, 3, dtype=torch.uint8)) for camera, view in views.items()}
        self._shapes = {camera: tuple(window.shape[1:]) for camera, window in probe.items()}

    @property
    def bytes_per_step(self) -> int:
        """What the frames of a step take in memory."""
        return sum(int(np.prod(shape)) for shape in self._shapes.values())

    def chunks_of(self, rows: Rows) -> Rows:
        """The number of the chunk on disk that holds the frames of each of ``rows``."""
        return self._chunks[rows]

    def read(self, rows: Rows, on_progress: Callable[[int], None] = lambda _: None) -> Frames:
        """Read the frames of ``rows``, rising; ``on_progress`` counts them, of both cameras.

        Raises:
          ResipError: they are damaged.
        """
        return self.begin(rows, on_progress)()

    def begin(self, rows: Rows, on_progress: Callable[[int], None] = lambda _: None) -> Callable[[], Frames]:
        """Begin to read in other threads; what is returned waits for the end, and gives what `read` does."""
        frames = {camera: np.empty((len(rows), *shape), np.uint8) for camera, shape in self._shapes.items()}

        def read_piece(piece: slice) -> None:
            """Read steps that are near to each other, with what lies between them."""
            span = slice(int(rows[piece.start]), int(rows[piece.stop - 1]) + 1)
            for camera, view in self._views.items():
                images = torch.from_numpy(self._data.images(camera, span))
                frames[camera][piece] = view.window(images).numpy()[rows[piece] - span.start]
                on_progress(piece.stop - piece.start)

        wait = _in_threads(read_piece, self._pieces(rows))

        def result() -> Frames:
            """Wait."""
            wait()
            return Frames(rows, frames)

        return result

    def _pieces(self, rows: Rows) -> list[slice]:
        """Places in ``rows`` that are read at once: of chunks that follow each other, but not too many."""
        chunks = self._chunks[rows]
        ends = (np.diff(chunks) > 1) | (np.diff(chunks // _CHUNKS_AT_ONCE) > 0)
        cuts = [0, *(np.flatnonzero(ends) + 1).tolist(), len(rows)]
        return [slice(start, stop) for start, stop in pairwise(cuts) if start < stop]


@dataclass(frozen=True)
class Sampling:
    """How batches are made.

    Attributes:
      batch_size: steps in each.
      real_share: of the steps that are drawn, those of the real domain; None draws every step as often.
      memory_gb: that frames may take.
      seed: of the order.
    """

    batch_size: int
    real_share: float | None
    memory_gb: float
    seed: int


class FrameLoader:
    """Batches of training steps with their frames; which steps are in a batch follows from seed and number alone.

    Args:
      reader: of the frames.
      rows: the training steps, rising.
      is_real: of every step of the data, whether it is of the real domain.
      sampling: how batches are made.
      on_progress: counts the frames that are read before training begins, of both cameras.

    Raises:
      ResipError: a share that cannot be had, more memory than there is, or not enough of it for two batches.
    """

    def __init__(
        self,
        reader: FrameReader,
        rows: Rows,
        is_real: NDArray[np.bool_],
        sampling: Sampling,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._reader, self._rows, self._sampling = reader, rows, sampling
        real = torch.from_numpy(is_real[rows])
        self._real_places, self._sim_places = real.nonzero().flatten(), (~real).nonzero().flatten()
        self._check_share()
        self.steps_per_epoch = len(rows) // sampling.batch_size
        self._order: tuple[int, Rows] = (-1, rows)
        self.fits = self.needed_gb <= sampling.memory_gb
        _check_memory(min(self.needed_gb, sampling.memory_gb))
        self._segment_steps = self.steps_per_epoch if self.fits else self._steps_in_half_the_memory()
        self._resident: tuple[tuple[int, int], Frames] | None = None
        self._ahead: tuple[tuple[int, int], Callable[[], Frames]] | None = None
        self._all = reader.read(rows, on_progress) if self.fits else None

    @property
    def needed_gb(self) -> float:
        """Memory that would hold all frames."""
        return len(self._rows) * self._reader.bytes_per_step / 1e9

    def batch(self, step: int) -> tuple[Rows, dict[str, Tensor]]:
        """The steps of a training step's batch, and their frames by camera ``(B, h, w, 3)`` uint8.

        Raises:
          ResipError: the frames are damaged.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        size = self._sampling.batch_size
        rows = self._order_of(epoch)[position * size : (position + 1) * size]
        return rows, self._segment(epoch, position // self._segment_steps).of(rows)

    def pieces(self, size: int) -> Iterator[Frames]:
        """All training steps, in order and ``size`` at a time."""
        for start in range(0, len(self._rows), size):
            rows = self._rows[start : start + size]
            if self._all is None:
                yield self._reader.read(rows)
            else:
                yield Frames(rows, {name: frames[start : start + size] for name, frames in self._all.cameras.items()})

    def draw_places(self, count: int) -> Tensor:
        """Random places among the training steps, each domain with its share (torch's global generator)."""
        share = self._sampling.real_share
        if share is None:
            return torch.randint(len(self._rows), (count,))
        real = round(share * count)
        return torch.cat([_any_of(self._real_places, real), _any_of(self._sim_places, count - real)])

    def _check_share(self) -> None:
        share = self._sampling.real_share
        if share is None:
            return
        if not 0 <= share <= 1:
            raise ResipError(f"a real share of {share} is none: choose one from 0 to 1")
        missing = "real" if share > 0 and not len(self._real_places) else ""
        missing = "simulated" if share < 1 and not len(self._sim_places) else missing
        if missing:
            raise ResipError(f"a real share of {share} needs {missing} data sets, and there are none")

    def _steps_in_half_the_memory(self) -> int:
        """Training steps in a segment: there are two of these at a time."""
        batch_bytes = self._sampling.batch_size * self._reader.bytes_per_step
        steps = int(self._sampling.memory_gb * 1e9 / 2 // batch_bytes)
        if steps < 1:
            raise ResipError(
                f"{self._sampling.memory_gb:g} GB of memory do not hold two batches of {self._sampling.batch_size} "
                f"steps ({2 * batch_bytes / 1e9:.2f} GB): give more, or smaller batches"
            )
        return min(steps, self.steps_per_epoch)

    def _segment(self, epoch: int, index: int) -> Frames:
        """The frames of a segment; those of the next one are read while it is in use."""
        if self._all is not None:
            return self._all
        key = (epoch, index)
        if self._resident is None or self._resident[0] != key:
            wait = self._ahead[1] if self._ahead is not None and self._ahead[0] == key else self._begin(key)
            self._resident, self._ahead = None, None
            self._resident = (key, wait())
            last = (index + 1) * self._segment_steps >= self.steps_per_epoch
            following = (epoch + 1, 0) if last else (epoch, index + 1)
            self._ahead = (following, self._begin(following))
        return self._resident[1]

    @property
    def _segment_size(self) -> int:
        """Steps of the data in a segment."""
        return len(self._rows) if self.fits else self._segment_steps * self._sampling.batch_size

    def _begin(self, key: tuple[int, int]) -> Callable[[], Frames]:
        epoch, index = key
        size = self._segment_size
        return self._reader.begin(np.unique(self._order_of(epoch)[index * size : (index + 1) * size]))

    def _order_of(self, epoch: int) -> Rows:
        """The steps of an epoch as batches take them."""
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._sampling.seed, epoch])
            rows = self._drawn(rng)
            if not self.fits:
                chunks, places = np.unique(self._reader.chunks_of(rows), return_inverse=True)
                rows = rows[np.argsort(rng.permutation(len(chunks))[places], kind="stable")]
            size = self._segment_size
            pieces = [rng.permutation(rows[start : start + size]) for start in range(0, len(rows), size)]
            self._order = (epoch, np.concatenate(pieces))
        return self._order[1]

    def _drawn(self, rng: np.random.Generator) -> Rows:
        """The steps of an epoch: all of them, or as many in which each domain has its share."""
        share = self._sampling.real_share
        if share is None:
            return self._rows
        real = round(share * len(self._rows))
        of_real, of_sim = (self._rows[places.numpy()] for places in (self._real_places, self._sim_places))
        return np.concatenate([_repeated(of_real, real, rng), _repeated(of_sim, len(self._rows) - real, rng)])


def _repeated(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """``count`` of ``rows``, each as often as every other or once more."""
    if count == 0:
        return rows[:0]
    whole, rest = divmod(count, len(rows))
    return np.concatenate([np.tile(rows, whole), rng.permutation(rows)[:rest]])


def _any_of(places: Tensor, count: int) -> Tensor:
    return places[torch.randint(len(places), (count,))] if count else places[:0]


def _check_memory(needed_gb: float) -> None:
    free_gb = available_bytes() / 1e9
    if needed_gb > free_gb:
        raise ResipError(
            f"{needed_gb:.1f} GB of camera frames do not fit in the {free_gb:.1f} GB of memory that are free: "
            "give a smaller --memory-gb, and they are read while training goes on"
        )


def _in_threads(work: Callable[[Any], None], things: list[Any]) -> Callable[[], None]:
    """Begin ``work`` on each of ``things`` in some threads; what is returned waits for the end and raises its error.

    They are daemons: what is read ahead is of no use to a program that ends.
    """
    left, lock, errors = iter(things), threading.Lock(), []

    def run() -> None:
        """Take one thing after the other, until one fails."""
        while not errors:
            with lock:
                thing = next(left, None)
            if thing is None:
                return
            try:
                work(thing)
            except Exception as error:  # noqa: BLE001 (raised again where the result is waited for)
                errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(_READERS, os.cpu_count() or 1))]
    for thread in threads:
        thread.start()

    def wait() -> None:
        """Wait for all of them."""
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    return wait
