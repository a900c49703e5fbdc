"""Demonstration data sets: one zarr v3 group of flat arrays over time, appendable and crash-safe.

Layout, with N time steps at 10 Hz in all episodes together and E episodes::

    robot_state      (N, 16) float32      spaces: robot state, base frame
    part_poses       (N, 7 * P) float32   every part, then the obstacle; of width 0 where nobody knows them
    action           (N, 10) float32      the action sent at the same step
    reward           (N,) float32
    joint_positions  (N, 7) float32       rad; for replay and re-rendering
    front, wrist     (N, 240, 320, 3) uint8, rgb8; only in a set with images
    world            (N, W) float64       the simulator's whole state (see sim.snapshots); only where it was recorded
    episode_ends     (E,) int64           exclusive, cumulative
    seed             (E,) int64
    success          (E,) bool
    digest           (E, 32) uint8        SHA-256 of the episode's numbers
    failed           (F, 2) int64         seed and steps of attempts that were not kept; only in sets of rollouts

An episode counts once its entry of ``episode_ends`` is there, and that entry is written last. What an
interrupted write left behind is ignored by readers and cut off by the next writer. Chunks carry a checksum, which
finds damage in what is read; digests are compared when a set is opened.

A set may also be a folder of shards, ``shard-I-of-N``, each a set that one process wrote: ``DemoSet`` reads them
as one.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray
from resip import spaces
from resip.errors import ResipError
from resip.trials.statistics import Success
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from resip_training.sim import snapshots

FORMAT: Final = "resip-demonstrations"
FORMAT_VERSION: Final = 2
#: The simulator's whole state, and where the provenance's ``simulator`` has its layout.
WORLD: Final = "world"

_LOW_DIM: Final = ("robot_state", "part_poses", "action", "reward", "joint_positions")
_PER_EPISODE: Final = ("seed", "success", "digest")
_FAILED: Final = "failed"
_NEVER_WRITTEN: Final = -1  # in `failed`, where no seed is negative
_IMAGE_SHAPE: Final = (spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3)
_IMAGE_CHUNK: Final = 16  # frames: 3.7 MB before compression, so a partial chunk is cheap to rewrite
_STEP_CHUNK: Final = 4096
_WORLD_CHUNK: Final = 512
_EPISODE_CHUNK: Final = 1024
#: Type and chunk of the arrays over time that are not float32.
_KINDS: Final[dict[str, tuple[str, int]]] = {
    WORLD: ("float64", _WORLD_CHUNK),
    **dict.fromkeys(spaces.CAMERAS, ("uint8", _IMAGE_CHUNK)),
}
_LOCK_FILE: Final = (
    "seed/.writer"  # within an array: of a file in the group's own folder zarr warns whenever it lists it
)
_SHARD_NAME: Final = re.compile(r"shard-(\d+)-of-(\d+)")
_RECORDED_PACKAGES: Final = ("resip", "resip_training", "mujoco", "numpy", "zarr", "furniture-bench")


@dataclass(frozen=True)
class Episode:
    """One demonstration of T steps; row t holds what was observed at step t and the action then sent.

    Attributes:
      robot_state: ``(T, 16)``, see `resip.spaces`.
      part_poses: ``(T, 7 * (n_parts + 1))``, base frame, m and xyzw; the obstacle is last. ``(T, 0)`` in a set that
        does not know them, such as a recording of a real cell.
      action: ``(T, 10)``, absolute desired fingertip pose and gripper.
      reward: ``(T,)``.
      joint_positions: ``(T, 7)`` rad.
      seed: seed of the reset that the episode started from.
      success: whether the assembly was done at its end.
      front: ``(T, 240, 320, 3)`` uint8 rgb8; None in a set without images.
      wrist: ``(T, 240, 320, 3)`` uint8 rgb8; None in a set without images.
      world: ``(T, W)``, the simulator's state before each step; None in a set without it.
    """

    robot_state: NDArray[Any]
    part_poses: NDArray[Any]
    action: NDArray[Any]
    reward: NDArray[Any]
    joint_positions: NDArray[Any]
    seed: int
    success: bool
    front: NDArray[np.uint8] | None = None
    wrist: NDArray[np.uint8] | None = None
    world: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True)
class Provenance:
    """Where a data set comes from; a writer refuses to append to a set that says otherwise.

    Attributes:
      task: name of the assembly task, for instance ``one_leg``.
      randomness: level of the resets: ``low``, ``med`` or ``high``.
      source: who acted: ``expert``, ``spacemouse``, ``teacher``, or ``published`` for the authors' sets.
      part_names: parts in the order of ``part_poses``, without the obstacle; empty where nobody knows their poses.
      simulator: settings of the simulator and the drive, plain JSON values; its ``world``, if there, is the layout
        of the simulator's states that the set holds.
      images: whether the set holds images.
      rendered: for a set whose images were rendered again: from which set, and what was randomised.
      rollout: for episodes of a policy: which one acted.
    """

    task: str
    randomness: str
    source: str
    part_names: tuple[str, ...]
    simulator: Mapping[str, Any]
    images: bool = True
    rendered: Mapping[str, Any] | None = None
    rollout: Mapping[str, Any] | None = None


class DemoWriter:
    """Append demonstrations to a data set, creating it at first use. One process at a time writes a set.

    Usage::

        writer = DemoWriter(path, provenance)
        if seed not in writer.seeds:
            writer.append(episode)

    Args:
      path: folder of the data set.
      provenance: what is recorded with a new set, and compared with an existing one.

    Raises:
      ResipError: the folder is something else, was recorded under other settings, cannot be written, or another
        process writes it.
    """

    def __init__(self, path: Path | str, provenance: Provenance) -> None:
        self._path = Path(path)
        with self._writing("nothing is lost"):
            if self._path.exists() and any(self._path.iterdir()):
                self._group = _open_group(self._path, "a")
                self._check_provenance(provenance)
            else:
                self._group = self._create(provenance)
            self._lock = _lock(self._path)
        ends = _committed_ends(self._group)
        self._n_steps = int(ends[-1]) if len(ends) else 0
        self._seeds = {int(seed) for seed in _read(self._group, "seed", slice(len(ends)))}
        self._outcomes = _outcomes(self._group)

    def _create(self, provenance: Provenance) -> zarr.Group:
        """A new set, made beside its place: half a set would be in the way of the next try."""
        place = self._path.resolve()
        made = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            _create(made, provenance)
            made.replace(place)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return _open_group(self._path, "a")

    @property
    def seeds(self) -> frozenset[int]:
        """Seeds of the demonstrations already in the set: skip them to resume an interrupted collection."""
        return frozenset(self._seeds)

    @property
    def outcomes(self) -> Mapping[int, bool]:
        """Whether it succeeded, for each of those seeds, and for those whose failure was recorded."""
        return MappingProxyType(self._outcomes)

    @property
    def n_steps(self) -> int:
        """Time steps in the set."""
        return self._n_steps

    def record_failure(self, seed: int, steps: int) -> None:
        """Keep of a rollout that failed after ``steps`` steps only that there was one.

        Raises:
          ResipError: the seed is there already, or the disk is full; the set then has what it had.
        """
        if seed in self._outcomes:
            raise ResipError(f"seed {seed} is already in {self._path}: skip the seeds in DemoWriter.outcomes")
        with self._writing(f"its {len(self._seeds)} demonstrations are whole"):
            _array(self._group, _FAILED).append(np.array([[seed, steps]]))
        self._outcomes[seed] = False

    def append(self, *episodes: Episode) -> None:
        """Write one demonstration: an episode, and displaced copies of it, which have the same seed.

        All of it is in the set when this returns, and nothing of it if interrupted before.

        Raises:
          ResipError: an array has the wrong shape or a value that is not finite, the seed is there already, or the
            disk is full; the set then has what it had.
        """
        self.append_from(episodes)

    def append_from(self, episodes: Iterable[Episode]) -> None:
        """Do what ``append`` does with episodes that are made as they are written: one at a time is in memory.

        Raises:
          ResipError: as ``append``.
        """
        with self._writing(f"its {len(self._seeds)} demonstrations are whole"):
            self._truncate()
            ends, outcomes = [self._n_steps], {}
            for episode in episodes:
                self._write(episode)
                ends.append(ends[-1] + len(episode))
                outcomes[episode.seed] = episode.success
            _array(self._group, "episode_ends").append(np.array(ends[1:], dtype=np.int64))
        self._n_steps = ends[-1]
        self._seeds |= outcomes.keys()
        self._outcomes |= outcomes

    @contextlib.contextmanager
    def _writing(self, still: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise ResipError(
                f"{self._path} cannot be written ({reason}): {still}; make room there and run the same command again"
            ) from error

    def _write(self, episode: Episode) -> None:
        if episode.seed in self._seeds:
            raise ResipError(f"seed {episode.seed} is already in {self._path}: skip the seeds in DemoWriter.seeds")
        arrays = {name: _array(self._group, name) for name in _per_step(self._group)}
        _check_episode(episode, {name: array.shape[1:] for name, array in arrays.items()})
        rows = {name: np.asarray(getattr(episode, name)).astype(array.dtype) for name, array in arrays.items()}
        for name, array in arrays.items():
            array.append(rows[name])
        per_episode = {"seed": episode.seed, "success": episode.success, "digest": _digest(rows)}
        for name, value in per_episode.items():
            _array(self._group, name).append(np.asarray([value]))

    def _check_provenance(self, provenance: Provenance) -> None:
        recorded = _flat(_provenance(self._group))
        wanted = _flat(_provenance_json(provenance))
        for name in (*wanted, *recorded):
            if recorded.get(name) != wanted.get(name):
                difference = _difference(name, recorded.get(name), wanted.get(name))
                raise ResipError(
                    f"{self._path} was recorded with {difference}: choose another folder or the same settings"
                )

    def _truncate(self) -> None:
        """Cut every array back to the committed episodes: what an interrupted write left behind goes."""
        ends = _committed_ends(self._group)
        n_steps = int(ends[-1]) if len(ends) else 0
        lengths = dict.fromkeys(_per_step(self._group), n_steps)
        for name, length in (lengths | dict.fromkeys((*_PER_EPISODE, "episode_ends"), len(ends))).items():
            array = _array(self._group, name)
            if array.shape[0] != length:
                array.resize((length, *array.shape[1:]))


def _difference(name: str, recorded: Any, wanted: Any) -> str:
    """In words that fit a line."""
    if isinstance(recorded, list) and isinstance(wanted, list):
        return f"other {name}: {len(recorded)}, not these {len(wanted)}"
    return f"{name} = {recorded!r}, not {wanted!r}"


class DemoSet:
    """Read a data set. Numbers are loaded at once (they are small), images on request.

    Args:
      path: folder of the data set, or of its shards.
      task: refuse a set of another task; None takes any.
      images: refuse a set without images.

    Raises:
      ResipError: not a data set, another contract or task, a missing or damaged array, no images where they are
        needed, no episode, or shards that do not belong together.
    """

    def __init__(self, path: Path | str, task: str | None = None, images: bool = False) -> None:
        self.path = Path(path)
        self._parts = open_parts(self.path)
        self.provenance = self._parts[0].provenance
        if any(part.provenance != self.provenance for part in self._parts):
            raise ResipError(f"the shards of {self.path} were made from different sets or with different settings")
        if task is not None and self.provenance["task"] != task:
            raise ResipError(f"{self.path} holds demonstrations of {self.provenance['task']!r}, not of {task!r}")
        if images:
            self._require("images", self.has_images)
        self._first_rows = np.cumsum([0, *(part.n_steps for part in self._parts)])
        firsts = zip(self._parts, self._first_rows[:-1], strict=True)
        self.episode_ends = np.concatenate([first + part.ends for part, first in firsts])
        if len(self.episode_ends) == 0:
            raise ResipError(f"{self.path} holds no complete episode: collect demonstrations into it first")
        self.seeds = self._per_episode("seed")
        self.success = self._per_episode("success")
        self.robot_state = self._finite("robot_state")
        self.part_poses = self._finite("part_poses")
        self.action = self._finite("action")
        self.reward = self._finite("reward")
        self.joint_positions = self._finite("joint_positions")
        self._check_digests()

    @property
    def has_images(self) -> bool:
        """Whether the set holds images."""
        return bool(self.provenance["images"])

    @property
    def knows_parts(self) -> bool:
        """Whether the set holds the poses of parts and obstacle; a recording of a real cell does not."""
        return bool(self.provenance["part_names"])

    @property
    def has_worlds(self) -> bool:
        """Whether the set holds the simulator's states."""
        return WORLD in self.provenance["simulator"]

    @functools.cached_property
    def world(self) -> NDArray[np.float64]:
        """The simulator's state before each step, ``(N, W)``: rows for ``sim.snapshots``, read when first asked for.

        Raises:
          ResipError: the set does not hold it, or it is damaged.
        """
        self._require("simulator states", self.has_worlds)
        return self._finite(WORLD)

    @property
    def n_episodes(self) -> int:
        """Complete episodes, displaced copies included."""
        return len(self.episode_ends)

    @property
    def n_demonstrations(self) -> int:
        """Different seeds among the episodes: a demonstration and its displaced copies count once."""
        return len(np.unique(self.seeds))

    @property
    def n_failures(self) -> int:
        """Episodes that failed and were kept all the same; nothing is cloned from them."""
        return int((~self.success).sum())

    @property
    def n_steps(self) -> int:
        """Time steps of all complete episodes."""
        return int(self.episode_ends[-1])

    @property
    def episodes(self) -> list[slice]:
        """The rows of each episode."""
        starts = [0, *self.episode_ends[:-1].tolist()]
        return [slice(start, end) for start, end in zip(starts, self.episode_ends.tolist(), strict=True)]

    @property
    def successes(self) -> list[slice]:
        """The rows of each episode that succeeded."""
        return [rows for rows, success in zip(self.episodes, self.success, strict=True) if success]

    @property
    def shown(self) -> NDArray[np.bool_]:
        """For each step, whether there are images of it: ``(N,)``. Of some sets only every few steps were rendered."""
        if not self.has_images:
            return np.zeros(self.n_steps, np.bool_)
        stride = (self.provenance["rendered"] or {}).get("stride", 1)
        return np.concatenate([np.arange(rows.stop - rows.start) % stride == 0 for rows in self.episodes])

    @property
    def image_chunks(self) -> NDArray[np.int64]:
        """For each step, the number of the chunk that holds its images: ``(N,)``. A chunk is read as a whole."""
        pieces, first = [], 0
        for part in self._parts:
            pieces.append(first + np.arange(part.n_steps) // _IMAGE_CHUNK)
            first += -(-part.n_steps // _IMAGE_CHUNK)
        return np.concatenate(pieces)

    def images(self, camera: str, rows: slice) -> NDArray[np.uint8]:
        """Read frames ``(n, 240, 320, 3)`` of one camera; whole chunks of 16 are the fastest.

        Raises:
          ResipError: the set has no images, or they are damaged.
        """
        self._require("images", self.has_images)
        pieces = []
        for part, first in zip(self._parts, self._first_rows[:-1], strict=True):
            start, stop = max(rows.start - first, 0), min(rows.stop - first, part.n_steps)
            if start < stop:
                pieces.append(_read(part.group, camera, slice(start, stop)))
        return np.concatenate(pieces) if pieces else np.empty((0, *_IMAGE_SHAPE), np.uint8)

    def described(self) -> dict[str, Any]:
        """What a run's configuration says of its data, plain JSON values: counts and seeds are of the successes."""
        seeds = np.unique(self.seeds[self.success]).tolist()
        lengths = np.diff(self.episode_ends, prepend=0)
        return {
            "provenance": self.provenance,
            "sha256": self.sha256(),
            "n_demonstrations": len(seeds),
            "n_episodes": int(self.success.sum()),
            "n_steps": int(lengths[self.success].sum()),
            "seeds": seeds,
        }

    def sha256(self) -> str:
        """Hash of every number in the set but the images (these follow from seeds, joints and part poses)."""
        digest = hashlib.sha256()
        for array in (self.episode_ends, self.seeds, self.success, *(getattr(self, name) for name in _LOW_DIM)):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _require(self, what: str, present: bool) -> None:
        if not present:
            raise ResipError(f"{self.path} has no {what}: choose a set that `resip collect` recorded with them")

    def _per_episode(self, name: str) -> NDArray[Any]:
        return np.concatenate([_read(part.group, name, slice(len(part.ends))) for part in self._parts])

    def _check_digests(self) -> None:
        recorded = self._per_episode("digest")
        for episode, rows in enumerate(self.episodes):
            digest = _digest({name: getattr(self, name)[rows] for name in _LOW_DIM})
            if not np.array_equal(digest, recorded[episode]):
                seed = int(self.seeds[episode])
                raise ResipError(
                    f"{self.path} is damaged, the numbers of episode {episode} (seed {seed}) have changed: "
                    "`resip data salvage` keeps whole episodes"
                )

    def _finite(self, name: str) -> NDArray[Any]:
        values = np.concatenate([_read(part.group, name, slice(part.n_steps)) for part in self._parts])
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            episode = int(np.searchsorted(self.episode_ends, row, side="right"))
            raise ResipError(
                f"{self.path} is damaged, {name} has a value that is not finite in episode {episode} (row {row}): "
                "`resip data salvage` keeps whole episodes"
            )
        return values


class Part:
    """A set in one piece on disk, of which a ``DemoSet`` has one or more.

    Raises:
      ResipError: not a data set, another contract, or a missing or damaged array.
    """

    def __init__(self, path: Path) -> None:
        self.group = _open_group(path, "r")
        self.provenance: dict[str, Any] = _provenance(self.group)
        self.ends = _committed_ends(self.group)
        self.n_steps = int(self.ends[-1]) if len(self.ends) else 0

    def seeds(self) -> NDArray[np.int64]:
        """Seed of each complete episode."""
        return _read(self.group, "seed", slice(len(self.ends)))

    def failures(self) -> NDArray[np.int64]:
        """Seed and steps of the attempts that were not kept, ``(F, 2)``."""
        return _failures(self.group)

    def outcomes(self) -> dict[int, bool]:
        """Whether it succeeded, for every seed that was attempted."""
        return _outcomes(self.group)

    def episode(self, index: int) -> Episode:
        """Read one episode, images and all.

        Raises:
          ResipError: it is damaged.
        """
        rows = slice(int(self.ends[index - 1]) if index else 0, int(self.ends[index]))
        arrays = {name: _read(self.group, name, rows) for name in _per_step(self.group)}
        seed, success, digest = (_read(self.group, name, slice(index, index + 1))[0] for name in _PER_EPISODE)
        episode = Episode(**arrays, seed=int(seed), success=bool(success))
        _check_episode(episode, _trailing(self.provenance))
        if not np.array_equal(_digest(arrays), digest):
            raise ResipError(f"episode of seed {seed}: its numbers have changed")
        return episode


def open_parts(path: Path) -> list[Part]:
    """The pieces of the set ``path``: its shards in order, or itself.

    Raises:
      ResipError: as ``Part``, or a shard is missing.
    """
    return [Part(part) for part in _part_paths(path)]


def success_of_rollouts(path: Path) -> Success:
    """How often the rollouts that are recorded in the set ``path`` succeeded, kept or not, over their seeds.

    Raises:
      ResipError: as ``open_parts``.
    """
    outcomes = {seed: success for part in open_parts(path) for seed, success in part.outcomes().items()}
    seeds = sorted(outcomes)
    return Success.of([outcomes[seed] for seed in seeds], seeds)


def knows_failures(provenance: Mapping[str, Any]) -> bool:
    """Whether a set of this provenance has every seed that was attempted: it holds rollouts, as they were recorded."""
    return provenance.get("rollout") is not None and provenance.get("rendered") is None


def provenance_of(recorded: Mapping[str, Any]) -> Provenance:
    """The provenance that a set's attributes hold."""
    return Provenance(**{**recorded, "part_names": tuple(recorded["part_names"])})


def shard_path(path: Path, index: int, count: int) -> Path:
    """Folder of shard ``index``, from 1 to ``count``, of the set ``path``.

    Raises:
      ResipError: ``path`` has something else: a set in one piece, or shards of another count.
    """
    others = [name for name in _shard_names(path) if not name.endswith(f"-of-{count}")]
    if others or (path / "zarr.json").exists():
        raise ResipError(f"{path} holds {others[0] if others else 'a set in one piece'}: choose another folder")
    return path / f"shard-{index}-of-{count}"


def _shard_names(path: Path) -> list[str]:
    return sorted(child.name for child in path.glob("shard-*") if _SHARD_NAME.fullmatch(child.name))


def _part_paths(path: Path) -> list[Path]:
    """Folders that make up the set ``path``: all its shards in order, or itself."""
    names = _shard_names(path)
    if not names:
        return [path]
    count = int(names[0].rpartition("-")[2])
    parts = [shard_path(path, index, count) for index in range(1, count + 1)]
    for part in parts:
        if part.name not in names:
            raise ResipError(f"{path} lacks {part.name}: make it with the command that made the others")
    return parts


def _provenance_json(provenance: Provenance) -> dict[str, Any]:
    """Plain JSON values, as they come back from the attributes."""
    return json.loads(json.dumps({field.name: getattr(provenance, field.name) for field in fields(provenance)}))


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """The entries of nested mappings, by names such as ``simulator.timestep_s``."""
    if not isinstance(value, Mapping):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}".lstrip(".")).items()}


def _software() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return versions


def _lock(path: Path) -> IO[str]:
    """Keep other processes from writing the set at ``path`` for as long as what is returned is open.

    Raises:
      ResipError: one is writing it.
    """
    file = (path / _LOCK_FILE).open("w")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.close()
        raise ResipError(f"another process is writing {path}: wait until it has ended, or end it") from error
    return file


def _create(path: Path, provenance: Provenance) -> None:
    group = zarr.open_group(
        path,
        mode="w",
        attributes={
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "contract": spaces.contract("image"),
            "provenance": _provenance_json(provenance),
            "software": _software(),
        },
    )
    for name, trailing in _trailing(_provenance_json(provenance)).items():
        dtype, chunk = _KINDS.get(name, ("float32", _STEP_CHUNK))
        _create_array(group, name, dtype, trailing, chunk)
    _create_array(group, "seed", "int64", (), _EPISODE_CHUNK)
    _create_array(group, "success", "bool", (), _EPISODE_CHUNK)
    _create_array(group, "digest", "uint8", (hashlib.sha256().digest_size,), _EPISODE_CHUNK)
    _create_array(group, "episode_ends", "int64", (), _EPISODE_CHUNK)
    if knows_failures(_provenance_json(provenance)):
        _create_array(group, _FAILED, "int64", (2,), _EPISODE_CHUNK, _NEVER_WRITTEN)


def _trailing(provenance: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape at one step of each array over time that a set of this provenance has."""
    n_bodies = len(provenance["part_names"]) + 1 if provenance["part_names"] else 0  # the obstacle is one
    shapes: dict[str, tuple[int, ...]] = {
        "robot_state": (spaces.STATE_DIM,),
        "part_poses": (spaces.PART_POSE_DIM * n_bodies,),
        "action": (spaces.ACTION_DIM,),
        "reward": (),
        "joint_positions": (7,),
    }
    if WORLD in provenance["simulator"]:
        shapes[WORLD] = (snapshots.width(provenance["simulator"][WORLD]),)
    return shapes | (dict.fromkeys(spaces.CAMERAS, _IMAGE_SHAPE) if provenance["images"] else {})


def _create_array(
    group: zarr.Group, name: str, dtype: str, trailing: tuple[int, ...], chunk: int, unwritten: int = 0
) -> None:
    """An empty array ``(0, *trailing)``; what was never written reads as NaN, or else as ``unwritten``."""
    is_image = name in spaces.CAMERAS
    group.create_array(
        name,
        shape=(0, *trailing),
        chunks=(chunk, *(max(1, length) for length in trailing)),
        dtype=dtype,
        fill_value=np.nan if dtype.startswith("float") else unwritten,
        compressors=(
            BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle") if is_image else ZstdCodec(),
            Crc32cCodec(),
        ),
    )


def _open_group(path: Path, mode: Any) -> zarr.Group:
    """Open an existing set and check that it is one, complete in its arrays and of this contract."""
    try:
        group = zarr.open_group(path, mode="r" if mode == "r" else "r+")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        if _shard_names(path):
            raise ResipError(f"{path} holds shards: go on with the --shard or the launcher that began them") from error
        raise ResipError(f"{path} is not a demonstration data set: make one with `resip collect`") from error
    if group.attrs.get("format") != FORMAT:
        raise ResipError(f"{path} is not a demonstration data set: make one with `resip collect`")
    if group.attrs.get("format_version") != FORMAT_VERSION:
        found = group.attrs.get("format_version")
        raise ResipError(f"{path} has format {found}, this program reads {FORMAT_VERSION}: collect it again")
    recorded = group.attrs.get("contract")
    for name, wanted in spaces.contract("image").items():
        if not isinstance(recorded, Mapping) or recorded.get(name) != wanted:
            raise ResipError(f"{path} was recorded under another contract: its {name} differs from {wanted!r}")
    _check_arrays(path, group)
    return group


def _check_arrays(path: Path, group: zarr.Group) -> None:
    """See that every array is there, shaped as the provenance wants and as long as the committed episodes."""
    try:
        shapes = {name: array.shape for name, array in group.arrays()}
    except (ValueError, KeyError) as error:
        raise ResipError(f"{path} is damaged, the description of an array cannot be read: collect it again") from error
    failures = (_FAILED,) if knows_failures(_provenance(group)) else ()
    for name in ("episode_ends", *_PER_EPISODE, *failures, *_per_step(group)):
        if name not in shapes:
            raise ResipError(f"{path} lacks the array {name!r}: it is damaged, collect it again")
    ends = _committed_ends(group)
    n_steps = int(ends[-1]) if len(ends) else 0
    wanted = {name: (n_steps, *trailing) for name, trailing in _trailing(_provenance(group)).items()}
    wanted |= {name: (len(ends), *shapes[name][1:]) for name in _PER_EPISODE}
    for name, shape in wanted.items():
        if name in spaces.CAMERAS and shapes[name][1:] != shape[1:]:
            raise ResipError(
                f"{path}: {name} has frames of (height, width, channels) {shapes[name][1:]}, not {shape[1:]}"
            )
        if shapes[name][0] < shape[0] or shapes[name][1:] != shape[1:]:
            raise ResipError(f"{path} is damaged: {name} has shape {shapes[name]}, its episodes need {shape}")


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _per_step(group: zarr.Group) -> tuple[str, ...]:
    """Names of the arrays that this set has over time."""
    return tuple(_trailing(_provenance(group)))


def _provenance(group: zarr.Group) -> dict[str, Any]:
    provenance = group.attrs["provenance"]
    assert isinstance(provenance, Mapping)
    return dict(provenance)


def _read(group: zarr.Group, name: str, rows: slice = slice(None)) -> NDArray[Any]:
    try:
        return np.asarray(_array(group, name)[rows])
    except (ValueError, RuntimeError, OSError) as error:  # a checksum, a compressor, the disk
        raise ResipError(
            f"{_folder(group)} is damaged, {name} cannot be read ({error}): `resip data salvage` keeps whole episodes"
        ) from error


def _folder(group: zarr.Group) -> Path:
    return Path(str(group.store_path).removeprefix("file://"))


def _digest(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Hash of an episode's numbers, as they are stored."""
    digest = hashlib.sha256()
    for name in _LOW_DIM:
        digest.update(np.ascontiguousarray(rows[name]).tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _committed_ends(group: zarr.Group) -> NDArray[np.int64]:
    """Ends of the complete episodes: the longest strictly rising prefix (an unfinished entry reads 0)."""
    ends = _read(group, "episode_ends")
    rising = np.diff(ends, prepend=0) > 0
    return ends if rising.all() else ends[: int(np.argmin(rising))]


def _failures(group: zarr.Group) -> NDArray[np.int64]:
    """Seed and steps ``(F, 2)`` of the failures that were recorded, without entries that were never written."""
    if not knows_failures(_provenance(group)):
        return np.empty((0, 2), np.int64)
    rows = _read(group, _FAILED)
    return rows[rows[:, 0] != _NEVER_WRITTEN]


def _outcomes(group: zarr.Group) -> dict[int, bool]:
    """Whether it succeeded, for every seed that was attempted."""
    complete = slice(len(_committed_ends(group)))
    seeds, success = _read(group, "seed", complete).tolist(), _read(group, "success", complete).tolist()
    return dict.fromkeys(_failures(group)[:, 0].tolist(), False) | dict(zip(seeds, success, strict=True))


def _check_episode(episode: Episode, trailing: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse an episode whose arrays are not those of the set, by name and their shape at one step."""
    of = f"episode of seed {episode.seed}"
    if len(episode) == 0:
        raise ResipError(f"{of} has no step")
    for name in (*spaces.CAMERAS, WORLD):
        if name not in trailing and getattr(episode, name) is not None:
            raise ResipError(f"{of} has {name}, which the set was not made for")
    for name, shape in trailing.items():
        value = np.asarray(getattr(episode, name))
        if value.shape != (len(episode), *shape):
            raise ResipError(f"{of}: {name} has shape {value.shape}, expected {(len(episode), *shape)}")
        if name in spaces.CAMERAS:
            if value.dtype != np.uint8:
                raise ResipError(f"{of}: {name} has type {value.dtype}, expected uint8")
        elif not np.isfinite(value).all():
            raise ResipError(f"{of}: {name} has a value that is not finite")
