"""`resip bag to-lerobot`: demonstrations as a LeRobotDataset v3.0.

The format's specification is https://huggingface.co/docs/lerobot/lerobot-dataset-v3 with what lerobot itself writes::

    meta/info.json                               features, fps, totals, path templates
    meta/stats.json                              min, max, mean, std, count and quantiles of every feature
    meta/tasks.parquet                           task_index of each task, whose name is the index
    meta/episodes/chunk-000/file-000.parquet     one row an episode: its rows, its place in the videos, its stats
    data/chunk-000/file-000.parquet              one row a step, one row group an episode
    videos/KEY/chunk-000/file-000.mp4            all episodes one after the other; a new file after 200 MB
    meta/resip.json                              ours: where each episode comes from

``data`` stays one file: at 10 Hz its 100 MB are a day. Videos are H.264 with a key frame every second picture, as
lerobot has them, so that any picture is found quickly; the pictures are only nearly the recorded ones.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from resip import spaces
from resip.errors import ResipError
from resip.recording.resampling import Matching

from resip_training.data.bags import choose, no_episode, read_episode, read_recordings
from resip_training.data.store import Episode, open_parts

try:
    import av
    import pyarrow as pa
    from pyarrow import parquet
except ImportError as error:
    raise ResipError(f"{error}: pip install -e 'training[lerobot]'") from error

Array = NDArray[Any]
Stats = dict[str, Array]

VERSION: Final = "v3.0"
_FPS: Final = round(spaces.CONTROL_HZ)
_ROBOT: Final = "franka_panda"
_CHUNK: Final = "chunk-{chunk_index:03d}/file-{file_index:03d}"
_DATA: Final = f"data/{_CHUNK}.parquet"
_VIDEO: Final = f"videos/{{video_key}}/{_CHUNK}.mp4"
_EPISODES: Final = f"meta/episodes/{_CHUNK}.parquet"
_CHUNK_FILES: Final = 1000
_DATA_MB: Final = 100
_VIDEO_MB: Final = 200
_QUALITY: Final = "18"  # x264's constant rate factor: hardly to be told from the original
_KEY_FRAME_EVERY: Final = 2
_QUANTILES: Final = (0.01, 0.10, 0.50, 0.90, 0.99)
_LEVELS: Final = 256

_STATE: Final = "observation.state"
_ACTION: Final = "action"
_IMAGE: Final = {camera: f"observation.images.{camera}" for camera in spaces.CAMERAS}
_ROTATION: Final = [f"rotation_{row}{column}" for row in "01" for column in "012"]
_STATE_NAMES: Final = [
    *("x_m", "y_m", "z_m"),
    *_ROTATION,
    *("vx_m_s", "vy_m_s", "vz_m_s", "wx_rad_s", "wy_rad_s", "wz_rad_s"),
    "gripper_width_m",
]
_ACTION_NAMES: Final = ["x_m", "y_m", "z_m", *_ROTATION, "gripper_close"]
#: Columns that every such set has, after its own.
_INDICES: Final = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class Sourced:
    """An episode, its task, and where it is from."""

    episode: Episode
    task: str
    source: dict[str, Any]


def to_lerobot(paths: Sequence[Path], out: Path, matching: Matching, keep_failures: bool = False) -> None:
    """Write the episodes of bags and data sets as a LeRobotDataset; it appears when it is complete.

    Args:
      paths: bags, folders of them, or demonstration sets with images.
      out: folder of the new set.
      matching: bounds of what belongs together in a bag.
      keep_failures: take what did not succeed as well.

    Raises:
      ResipError: nothing to write, ``out`` is there already, or it cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ResipError(f"{out} is there already: name a new folder")
    if not paths:
        raise ResipError("there is nothing to write: name bags or demonstration sets")
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    try:
        with LeRobotWriter(unfinished) as writer:
            for sourced in _episodes(paths, matching, keep_failures):
                writer.append(sourced)
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResipError(f"{out} cannot be written ({reason}): make room there and run it again") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(f"{writer.n_episodes} episodes, {writer.n_steps} steps in {out}")


def _episodes(paths: Sequence[Path], matching: Matching, keep_failures: bool) -> Iterator[Sourced]:
    """Every episode of every path, one at a time in memory."""
    for path in paths:
        if (path / "zarr.json").exists() or any(path.glob("shard-*")):
            yield from _of_dataset(path, keep_failures)
        else:
            yield from _of_bags(path, matching, keep_failures)


def _of_dataset(path: Path, keep_failures: bool) -> Iterator[Sourced]:
    n = 0
    for part in open_parts(path):
        if not part.provenance["images"]:
            raise ResipError(f"{path} has no images: render them with `resip render`")
        for index in range(len(part.ends)):
            episode = part.episode(index)
            if episode.success or keep_failures:
                yield Sourced(episode, part.provenance["task"], {"dataset": path.name, "seed": episode.seed})
                n += 1
    if not n:
        raise ResipError(f"{path} has no success: --keep-failures takes the others")


def _of_bags(path: Path, matching: Matching, keep_failures: bool) -> Iterator[Sourced]:
    recordings = choose(read_recordings([path]), keep_failures)
    refusals: list[str] = []
    for recording in recordings:
        try:
            episode = read_episode(recording, matching, keep_failures)
        except ResipError as error:
            refusals.append(str(error))
            print(f"left out: {error}", flush=True)
        else:
            yield Sourced(episode, recording.story.task, recording.described())
    if len(refusals) == len(recordings):
        raise ResipError(no_episode(refusals))


class LeRobotWriter(contextlib.AbstractContextManager["LeRobotWriter"]):
    """Writes one set, episode by episode; ``meta`` is written when the context ends without an error.

    Args:
      root: folder of the set, which is created.
    """

    def __init__(self, root: Path) -> None:
        self.n_episodes = self.n_steps = 0
        self._root = root
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._sources: list[dict[str, Any]] = []
        self._columns: list[dict[str, Array]] = []
        self._counts = {camera: np.zeros((3, _LEVELS), np.int64) for camera in spaces.CAMERAS}
        self._videos = {camera: _Videos(root, _IMAGE[camera]) for camera in spaces.CAMERAS}
        path = root / _DATA.format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True)
        self._data = parquet.ParquetWriter(path, _data_schema())

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Close the files, and describe what they hold."""
        self._data.close()
        for videos in self._videos.values():
            videos.close()
        if kind is None:
            self._write_meta()

    def append(self, sourced: Sourced) -> None:
        """Write one episode."""
        episode, n = sourced.episode, len(sourced.episode)
        task_index = self._tasks.setdefault(sourced.task, len(self._tasks))
        frames = np.arange(n)
        columns = {
            _STATE: episode.robot_state.astype(np.float32),
            _ACTION: episode.action.astype(np.float32),
            "timestamp": (frames / _FPS).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(n, self.n_episodes),
            "index": self.n_steps + frames,
            "task_index": np.full(n, task_index),
        }
        self._data.write_table(_table(columns))
        stats = {name: vector_stats(values) for name, values in columns.items()}
        placed: dict[str, Any] = {}
        for camera in spaces.CAMERAS:
            pictures = getattr(episode, camera)
            placed |= self._videos[camera].append(pictures)
            counts = level_counts(pictures)
            self._counts[camera] += counts
            stats[_IMAGE[camera]] = image_stats(counts, n)
        self._rows.append(self._episode_row(n, sourced.task, placed, stats))
        self._columns.append(columns)
        self._sources.append(sourced.source)
        self.n_episodes += 1
        self.n_steps += n

    def _episode_row(self, n: int, task: str, placed: Mapping[str, Any], stats: Mapping[str, Stats]) -> dict[str, Any]:
        values = {f"stats/{name}/{key}": value.tolist() for name, s in stats.items() for key, value in s.items()}
        return {
            "episode_index": self.n_episodes,
            "tasks": [task],
            "length": n,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": self.n_steps,
            "dataset_to_index": self.n_steps + n,
            **placed,
            **values,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }

    def _write_meta(self) -> None:
        meta = self._root / "meta"
        episodes = self._root / _EPISODES.format(chunk_index=0, file_index=0)
        episodes.parent.mkdir(parents=True)
        parquet.write_table(pa.Table.from_pylist(self._rows), episodes)
        parquet.write_table(_tasks_table(list(self._tasks)), meta / "tasks.parquet")
        all_columns = {name: np.concatenate([c[name] for c in self._columns]) for name in self._columns[0]}
        stats = {name: vector_stats(values) for name, values in all_columns.items()}
        stats |= {_IMAGE[camera]: image_stats(self._counts[camera], self.n_steps) for camera in spaces.CAMERAS}
        plain = {name: {key: value.tolist() for key, value in one.items()} for name, one in stats.items()}
        _write_json(meta / "stats.json", plain)
        _write_json(meta / "resip.json", {"contract": spaces.contract("image"), "episodes": self._sources})
        _write_json(meta / "info.json", self._info())

    def _info(self) -> dict[str, Any]:
        return {
            "codebase_version": VERSION,
            "robot_type": _ROBOT,
            "total_episodes": self.n_episodes,
            "total_frames": self.n_steps,
            "total_tasks": len(self._tasks),
            "chunks_size": _CHUNK_FILES,
            "data_files_size_in_mb": _DATA_MB,
            "video_files_size_in_mb": _VIDEO_MB,
            "fps": _FPS,
            "splits": {"train": f"0:{self.n_episodes}"},
            "data_path": _DATA,
            "video_path": _VIDEO,
            "features": _features(),
        }


class _Videos:
    """The video files of one camera: a new one begins when the last has grown too large.

    Args:
      root: folder of the set.
      key: name of the feature.
    """

    def __init__(self, root: Path, key: str) -> None:
        self._root, self._key = root, key
        self._number = -1
        self._container: Any = None

    def append(self, pictures: NDArray[np.uint8]) -> dict[str, Any]:
        """Encode the pictures ``(T, h, w, 3)`` of an episode; say in which file they are, and from when to when (s)."""
        if self._container is None or self._bytes >= _VIDEO_MB * 2**20:
            self._open(pictures.shape[1:3])
        first = self._n
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = self._n, Fraction(1, _FPS)
            self._mux(self._stream.encode(frame))
            self._n += 1
        chunk, file = divmod(self._number, _CHUNK_FILES)
        place = {"chunk_index": chunk, "file_index": file}
        place |= {"from_timestamp": first / _FPS, "to_timestamp": self._n / _FPS}
        return {f"videos/{self._key}/{name}": value for name, value in place.items()}

    def close(self) -> None:
        """Finish the present file."""
        if self._container is not None:
            self._mux(self._stream.encode(None))
            self._container.close()
            self._container = None

    def _open(self, shape: tuple[int, ...]) -> None:
        self.close()
        self._number += 1
        chunk, file = divmod(self._number, _CHUNK_FILES)
        path = self._root / _VIDEO.format(video_key=self._key, chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(path), "w", format="mp4")
        options = {"preset": "veryfast", "crf": _QUALITY, "g": str(_KEY_FRAME_EVERY), "bf": "0"}
        self._stream = self._container.add_stream("libx264", rate=_FPS, options=options)
        self._stream.height, self._stream.width = shape
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 1
        self._n = self._bytes = 0

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            self._bytes += packet.size
            self._container.mux(packet)


def vector_stats(values: Array) -> Stats:
    """Statistics over the steps of ``(T,)`` or ``(T, d)``: arrays ``(1,)`` or ``(d,)``."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    quantiles = np.quantile(rows, _QUANTILES, axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([len(rows)]),
        **{_quantile_name(q): value for q, value in zip(_QUANTILES, quantiles, strict=True)},
    }


def level_counts(pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each channel of ``(T, h, w, 3)`` has each level: ``(3, 256)``."""
    channels = np.moveaxis(pictures, -1, 0).reshape(3, -1)
    return np.stack([np.bincount(channel, minlength=_LEVELS) for channel in channels])


def image_stats(counts: NDArray[np.int64], n_pictures: int) -> Stats:
    """Statistics of each channel from its ``level_counts``, for values in [0, 1]: arrays ``(3, 1, 1)``."""
    levels = np.arange(_LEVELS) / (_LEVELS - 1)
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    below = np.cumsum(share, axis=1)
    present = counts > 0
    stats = {
        "min": levels[present.argmax(axis=1)],
        "max": levels[_LEVELS - 1 - present[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(share @ levels**2 - mean**2, 0)),
        **{_quantile_name(q): levels[(below < q).sum(axis=1)] for q in _QUANTILES},
    }
    return {name: value.reshape(3, 1, 1) for name, value in stats.items()} | {"count": np.array([n_pictures])}


def _quantile_name(quantile: float) -> str:
    return f"q{round(quantile * 100):02d}"


def _features() -> dict[str, Any]:
    picture = {
        "dtype": "video",
        "shape": [spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": spaces.IMAGE_HEIGHT,
            "video.width": spaces.IMAGE_WIDTH,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": _FPS,
            "video.channels": 3,
            "has_audio": False,
        },
    }
    return {
        _STATE: {"dtype": "float32", "shape": [spaces.STATE_DIM], "names": _STATE_NAMES},
        _ACTION: {"dtype": "float32", "shape": [spaces.ACTION_DIM], "names": _ACTION_NAMES},
        **dict.fromkeys(_IMAGE.values(), picture),
        **{
            name: {"dtype": "float32" if name == "timestamp" else "int64", "shape": [1], "names": None}
            for name in _INDICES
        },
    }


def _data_schema() -> Any:
    types = {"float32": pa.float32(), "int64": pa.int64()}
    columns = []
    for name, feature in _features().items():
        if feature["dtype"] in types:
            (length,), kind = feature["shape"], types[feature["dtype"]]
            columns.append((name, kind if name in _INDICES else pa.list_(kind, length)))
    return pa.schema(columns)


def _table(columns: Mapping[str, Array]) -> Any:
    schema = _data_schema()
    arrays = []
    for name, values in columns.items():
        kind = schema.field(name).type
        if values.ndim == 1:
            arrays.append(pa.array(values, kind))
        else:
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=kind))
    return pa.Table.from_arrays(arrays, schema=schema)


def _tasks_table(tasks: Sequence[str]) -> Any:
    """The tasks as pandas writes a frame whose index has their names: lerobot looks tasks up by that index."""
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_type, "metadata": None}
        for name, kind, numpy_type in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
