"""Demonstration data sets: one zarr v3 group of flat arrays over time, appendable and crash-safe.

Layout, with N time steps at 10 Hz in all episodes together and E episodes::

    robot_state      (N, 16) float32      spaces: robot state, base frame
    part_poses       (N, 7 * P) float32   every part, then the obstacle
    action           (N, 10) float32      the action sent at the same step
    reward           (N,) float32
    joint_positions  (N, 7) float32       rad; for replay and re-rendering
    front, wrist     (N, 240, 320, 3) uint8, rgb8
    episode_ends     (E,) int64           exclusive, cumulative
    seed             (E,) int64
    success          (E,) bool

An episode counts once its entry of ``episode_ends`` is there, and that entry is written last. What an
interrupted write left behind is ignored by readers and cut off by the next writer.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray
from resip import spaces
from resip.errors import ResipError
from zarr.codecs import BloscCodec

FORMAT: Final = "resip-demonstrations"
FORMAT_VERSION: Final = 1

_LOW_DIM: Final = ("robot_state", "part_poses", "action", "reward", "joint_positions")
_PER_STEP: Final = (*_LOW_DIM, *spaces.CAMERAS)
_PER_EPISODE: Final = ("seed", "success")
_IMAGE_SHAPE: Final = (spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3)
_IMAGE_CHUNK: Final = 16  # frames: 3.7 MB before compression, so a partial chunk is cheap to rewrite
_STEP_CHUNK: Final = 4096
_EPISODE_CHUNK: Final = 1024
_RECORDED_PACKAGES: Final = ("resip", "resip_training", "mujoco", "numpy", "zarr", "furniture-bench")


@dataclass(frozen=True)
class Episode:
    """One demonstration of T steps; row t holds what was observed at step t and the action then sent.

    Attributes:
      robot_state: ``(T, 16)``, see `resip.spaces`.
      part_poses: ``(T, 7 * (n_parts + 1))``, base frame, m and xyzw; the obstacle is last.
      action: ``(T, 10)``, absolute desired fingertip pose and gripper.
      reward: ``(T,)``.
      joint_positions: ``(T, 7)`` rad.
      front: ``(T, 240, 320, 3)`` uint8 rgb8.
      wrist: ``(T, 240, 320, 3)`` uint8 rgb8.
      seed: seed of the reset that the episode started from.
      success: whether the assembly was done at its end.
    """

    robot_state: NDArray[Any]
    part_poses: NDArray[Any]
    action: NDArray[Any]
    reward: NDArray[Any]
    joint_positions: NDArray[Any]
    front: NDArray[np.uint8]
    wrist: NDArray[np.uint8]
    seed: int
    success: bool

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True)
class Provenance:
    """Where a data set comes from; a writer refuses to append to a set that says otherwise.

    Attributes:
      task: name of the assembly task, for instance ``one_leg``.
      randomness: level of the resets: ``low``, ``med`` or ``high``.
      source: who acted: ``expert`` or ``spacemouse``.
      part_names: parts in the order of ``part_poses``, without the obstacle.
      simulator: settings of the simulator and the drive, plain JSON values.
    """

    task: str
    randomness: str
    source: str
    part_names: tuple[str, ...]
    simulator: Mapping[str, Any]


class DemoWriter:
    """Append demonstrations to a data set, creating it at first use.

    Usage::

        writer = DemoWriter(path, provenance)
        if seed not in writer.seeds:
            writer.append(episode)

    Args:
      path: folder of the data set.
      provenance: what is recorded with a new set, and compared with an existing one.

    Raises:
      ResipError: the folder is something else, or was recorded under other settings.
    """

    def __init__(self, path: Path | str, provenance: Provenance) -> None:
        self._path = Path(path)
        if self._path.exists() and any(self._path.iterdir()):
            self._group = _open_group(self._path, "a")
            self._check_provenance(provenance)
        else:
            self._group = _create(self._path, provenance)
        ends = _committed_ends(self._group)
        self._truncate(ends)
        self._n_steps = int(ends[-1]) if len(ends) else 0
        self._seeds = {int(seed) for seed in _read(self._group, "seed")}

    @property
    def seeds(self) -> frozenset[int]:
        """Seeds of the demonstrations already in the set: skip them to resume an interrupted collection."""
        return frozenset(self._seeds)

    @property
    def n_steps(self) -> int:
        """Time steps in the set."""
        return self._n_steps

    def append(self, *episodes: Episode) -> None:
        """Write one demonstration: an episode, and displaced copies of it, which have the same seed.

        All of it is in the set when this returns, and nothing of it if interrupted before.

        Raises:
          ResipError: an array has the wrong shape or a value that is not finite, or the seed is there already.
        """
        for episode in episodes:
            if episode.seed in self._seeds:
                raise ResipError(f"seed {episode.seed} is already in {self._path}: skip the seeds in DemoWriter.seeds")
            _check_episode(episode, _array(self._group, "part_poses").shape[1])
        ends = self._n_steps + np.cumsum([len(episode) for episode in episodes])
        for episode in episodes:
            for name in _PER_STEP:
                array = _array(self._group, name)
                array.append(np.asarray(getattr(episode, name)).astype(array.dtype))
            for name in _PER_EPISODE:
                _array(self._group, name).append(np.asarray([getattr(episode, name)]))
        _array(self._group, "episode_ends").append(ends.astype(np.int64))
        self._n_steps = int(ends[-1])
        self._seeds |= {episode.seed for episode in episodes}

    def _check_provenance(self, provenance: Provenance) -> None:
        recorded = self._group.attrs["provenance"]
        assert isinstance(recorded, Mapping)
        for name, wanted in _provenance_json(provenance).items():
            if recorded.get(name) != wanted:
                raise ResipError(
                    f"{self._path} was recorded with {name} = {recorded.get(name)!r}, not {wanted!r}: "
                    "choose another folder or the same settings"
                )

    def _truncate(self, ends: NDArray[np.int64]) -> None:
        """Cut every array back to the committed episodes."""
        n_steps = int(ends[-1]) if len(ends) else 0
        lengths = dict.fromkeys(_PER_STEP, n_steps) | dict.fromkeys((*_PER_EPISODE, "episode_ends"), len(ends))
        for name, length in lengths.items():
            array = _array(self._group, name)
            if array.shape[0] != length:
                array.resize((length, *array.shape[1:]))


class DemoSet:
    """Read a data set. Numbers are loaded at once (they are small), images on request.

    Args:
      path: folder of the data set.
      task: refuse a set of another task; None takes any.

    Raises:
      ResipError: not a data set, another contract or task, a missing or damaged array, no episode.
    """

    def __init__(self, path: Path | str, task: str | None = None) -> None:
        self.path = Path(path)
        self._group = _open_group(self.path, "r")
        provenance = self._group.attrs["provenance"]
        assert isinstance(provenance, Mapping)
        self.provenance: dict[str, Any] = dict(provenance)
        if task is not None and self.provenance["task"] != task:
            raise ResipError(f"{self.path} holds demonstrations of {self.provenance['task']!r}, not of {task!r}")
        self.episode_ends = _committed_ends(self._group)
        if len(self.episode_ends) == 0:
            raise ResipError(f"{self.path} holds no complete episode: collect demonstrations into it first")
        self.seeds = _read(self._group, "seed")[: self.n_episodes]
        self.success = _read(self._group, "success")[: self.n_episodes]
        self.robot_state = self._finite("robot_state")
        self.part_poses = self._finite("part_poses")
        self.action = self._finite("action")
        self.reward = self._finite("reward")
        self.joint_positions = self._finite("joint_positions")

    @property
    def n_episodes(self) -> int:
        """Complete episodes, displaced copies included."""
        return len(self.episode_ends)

    @property
    def n_demonstrations(self) -> int:
        """Different seeds among the episodes: a demonstration and its displaced copies count once."""
        return len(np.unique(self.seeds))

    @property
    def n_steps(self) -> int:
        """Time steps of all complete episodes."""
        return int(self.episode_ends[-1])

    @property
    def episodes(self) -> list[slice]:
        """The rows of each episode."""
        starts = [0, *self.episode_ends[:-1].tolist()]
        return [slice(start, end) for start, end in zip(starts, self.episode_ends.tolist(), strict=True)]

    def images(self, camera: str, rows: slice) -> NDArray[np.uint8]:
        """Read frames ``(n, 240, 320, 3)`` of one camera; whole chunks of 16 are the fastest."""
        return np.asarray(_array(self._group, camera)[rows.start : min(rows.stop, self.n_steps)])

    def sha256(self) -> str:
        """Hash of every number in the set but the images (these follow from seeds, joints and part poses)."""
        digest = hashlib.sha256()
        for array in (self.episode_ends, self.seeds, self.success, *(getattr(self, name) for name in _LOW_DIM)):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _finite(self, name: str) -> NDArray[np.float32]:
        values = _read(self._group, name)[: self.n_steps]
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            episode = int(np.searchsorted(self.episode_ends, row, side="right"))
            raise ResipError(f"{self.path}: {name} has a value that is not finite in episode {episode} (row {row})")
        return values


def _provenance_json(provenance: Provenance) -> dict[str, Any]:
    """Plain JSON values, as they come back from the attributes."""
    return json.loads(json.dumps({field.name: getattr(provenance, field.name) for field in fields(provenance)}))


def _software() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return versions


def _create(path: Path, provenance: Provenance) -> zarr.Group:
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
    widths = {
        "robot_state": (spaces.STATE_DIM,),
        "part_poses": (spaces.PART_POSE_DIM * (len(provenance.part_names) + 1),),
        "action": (spaces.ACTION_DIM,),
        "reward": (),
        "joint_positions": (7,),
    }
    for name, trailing in widths.items():
        group.create_array(
            name, shape=(0, *trailing), chunks=(_STEP_CHUNK, *trailing), dtype="float32", fill_value=np.nan
        )
    for name in spaces.CAMERAS:
        group.create_array(
            name,
            shape=(0, *_IMAGE_SHAPE),
            chunks=(_IMAGE_CHUNK, *_IMAGE_SHAPE),
            dtype="uint8",
            compressors=BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle"),
        )
    group.create_array("seed", shape=(0,), chunks=(_EPISODE_CHUNK,), dtype="int64")
    group.create_array("success", shape=(0,), chunks=(_EPISODE_CHUNK,), dtype="bool")
    group.create_array("episode_ends", shape=(0,), chunks=(_EPISODE_CHUNK,), dtype="int64", fill_value=0)
    return group


def _open_group(path: Path, mode: Any) -> zarr.Group:
    """Open an existing set and check that it is one, complete in its arrays and of this contract."""
    try:
        group = zarr.open_group(path, mode="r" if mode == "r" else "r+")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise ResipError(f"{path} is not a demonstration data set: make one with `resip collect`") from error
    if group.attrs.get("format") != FORMAT:
        raise ResipError(f"{path} is not a demonstration data set: make one with `resip collect`")
    if group.attrs.get("format_version") != FORMAT_VERSION:
        raise ResipError(f"{path} has format {group.attrs.get('format_version')}, this program reads {FORMAT_VERSION}")
    recorded = group.attrs.get("contract")
    for name, wanted in spaces.contract("image").items():
        if not isinstance(recorded, Mapping) or recorded.get(name) != wanted:
            raise ResipError(f"{path} was recorded under another contract: its {name} differs from {wanted!r}")
    for name in (*_PER_STEP, *_PER_EPISODE, "episode_ends"):
        if name not in group:
            raise ResipError(f"{path} lacks the array {name!r}: it is damaged, collect it again")
    return group


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _read(group: zarr.Group, name: str) -> NDArray[Any]:
    return np.asarray(_array(group, name)[:])


def _committed_ends(group: zarr.Group) -> NDArray[np.int64]:
    """Ends of the complete episodes: the longest strictly rising prefix (an unfinished entry reads 0)."""
    ends = _read(group, "episode_ends")
    rising = np.diff(ends, prepend=0) > 0
    return ends if rising.all() else ends[: int(np.argmin(rising))]


def _check_episode(episode: Episode, part_poses_width: int) -> None:
    n = len(episode)
    if n == 0:
        raise ResipError(f"episode of seed {episode.seed} has no step")
    shapes = {
        "robot_state": (n, spaces.STATE_DIM),
        "part_poses": (n, part_poses_width),
        "action": (n, spaces.ACTION_DIM),
        "reward": (n,),
        "joint_positions": (n, 7),
        "front": (n, *_IMAGE_SHAPE),
        "wrist": (n, *_IMAGE_SHAPE),
    }
    for name, shape in shapes.items():
        value = np.asarray(getattr(episode, name))
        if value.shape != shape:
            raise ResipError(f"episode of seed {episode.seed}: {name} has shape {value.shape}, expected {shape}")
        if name in spaces.CAMERAS:
            if value.dtype != np.uint8:
                raise ResipError(f"episode of seed {episode.seed}: {name} has type {value.dtype}, expected uint8")
        elif not np.isfinite(value).all():
            raise ResipError(f"episode of seed {episode.seed}: {name} has a value that is not finite")
