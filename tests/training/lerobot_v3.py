"""Checks a folder against the LeRobotDataset v3.0 format, written from its specification and not from our writer.

Source: https://huggingface.co/docs/lerobot/lerobot-dataset-v3 and the readers of huggingface/lerobot 0.4 to 0.6
(``datasets/utils.py``, ``dataset_metadata.py``, ``dataset_reader.py``, ``compute_stats.py``).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from pyarrow import parquet

TOLERANCE_S = 1e-4  # of a picture's time, lerobot's default
DEFAULT_FEATURES = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
INFO_FIELDS = {
    "codebase_version": str,
    "fps": int,
    "features": dict,
    "total_episodes": int,
    "total_frames": int,
    "total_tasks": int,
    "chunks_size": int,
    "data_files_size_in_mb": int,
    "video_files_size_in_mb": int,
    "data_path": str,
    "video_path": str,
    "splits": dict,
}
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
STATS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")


def problems(root: Path) -> list[str]:
    """Everything in which the folder departs from the format; nothing where it is sound."""
    info = json.loads((root / "meta/info.json").read_text())
    found = list(_info(info))
    if found:
        return found
    data = _read_all(root / "data")
    episodes = _read_all(root / "meta/episodes")
    found += _data(info, data)
    found += _tasks(root, info, data)
    found += _episodes(root, info, data, episodes)
    stats = json.loads((root / "meta/stats.json").read_text())
    found += _stats(info, stats, "meta/stats.json")
    for row in episodes:
        own: dict[str, dict[str, Any]] = {}
        for column, value in row.items():
            if column.startswith("stats/"):
                _, name, key = column.split("/")
                own.setdefault(name, {})[key] = value
        found += _stats(info, own, f"stats of episode {row['episode_index']}")
        found += _videos(root, info, row)
    return found


def _read_all(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("chunk-???/file-???.parquet"))
    return [row for path in files for row in parquet.read_table(path).to_pylist()]


def _info(info: dict[str, Any]) -> Iterator[str]:
    for name, kind in INFO_FIELDS.items():
        if not isinstance(info.get(name), kind):
            yield f"info.json: {name} is {info.get(name)!r}, not a {kind.__name__}"
            return
    if info["codebase_version"] != "v3.0":
        yield f"info.json: version {info['codebase_version']}"
    for name, dtype in DEFAULT_FEATURES.items():
        if info["features"].get(name) != {"dtype": dtype, "shape": [1], "names": None}:
            yield f"info.json: feature {name} is {info['features'].get(name)}"
    for name, feature in info["features"].items():
        if "/" in name:
            yield f"info.json: feature {name} has a slash"
        names = feature["names"]
        wanted = 3 if feature["dtype"] == "video" else feature["shape"][0]
        if names is not None and (len(names) != wanted or len(set(names)) != wanted):
            yield f"info.json: {name} has names {names}"


def _data(info: dict[str, Any], data: list[dict[str, Any]]) -> Iterator[str]:
    if len(data) != info["total_frames"]:
        yield f"data has {len(data)} rows, info.json says {info['total_frames']}"
    columns = {name: f for name, f in info["features"].items() if f["dtype"] != "video"}
    for i, row in enumerate(data):
        if set(row) != set(columns):
            yield f"data: columns {sorted(row)}, features {sorted(columns)}"
            return
        if row["index"] != i:
            yield f"data: row {i} has index {row['index']}"
        if abs(row["timestamp"] - row["frame_index"] / info["fps"]) > TOLERANCE_S:
            yield f"data: frame {row['frame_index']} is at {row['timestamp']} s"
        for name, feature in columns.items():
            value = np.atleast_1d(row[name])
            if list(value.shape) != feature["shape"] or not np.isfinite(value).all():
                yield f"data: {name} of row {i} is {row[name]}"


def _tasks(root: Path, info: dict[str, Any], data: list[dict[str, Any]]) -> Iterator[str]:
    table = parquet.read_table(root / "meta/tasks.parquet")
    index = json.loads(table.schema.metadata[b"pandas"])["index_columns"]
    if index != ["task"]:
        yield f"tasks.parquet: pandas would take {index} for the index, not the tasks"
    numbers = table["task_index"].to_pylist()
    if numbers != list(range(info["total_tasks"])) or len(set(table["task"].to_pylist())) != len(numbers):
        yield f"tasks.parquet: {table.to_pylist()}"
    if {row["task_index"] for row in data} != set(numbers):
        yield "tasks.parquet: its tasks are not those of the data"


def _episodes(
    root: Path, info: dict[str, Any], data: list[dict[str, Any]], episodes: list[dict[str, Any]]
) -> Iterator[str]:
    tasks = parquet.read_table(root / "meta/tasks.parquet").to_pylist()
    names = {row["task_index"]: row["task"] for row in tasks}
    if [row["episode_index"] for row in episodes] != list(range(info["total_episodes"])):
        yield "meta/episodes: episodes are not numbered from 0 to the total"
    start = 0
    for row in episodes:
        stop = start + row["length"]
        rows = data[start:stop]
        if (row["dataset_from_index"], row["dataset_to_index"]) != (start, stop):
            yield f"meta/episodes: episode {row['episode_index']} is not at {start} to {stop}"
        if {r["episode_index"] for r in rows} != {row["episode_index"]}:
            yield f"meta/episodes: rows {start} to {stop} are not of episode {row['episode_index']}"
        if [r["frame_index"] for r in rows] != list(range(row["length"])):
            yield f"meta/episodes: frames of episode {row['episode_index']} are not numbered from 0"
        if set(row["tasks"]) != {names.get(r["task_index"]) for r in rows}:
            yield f"meta/episodes: episode {row['episode_index']} has tasks {row['tasks']}"
        for prefix, template in (("data", info["data_path"]), ("meta/episodes", EPISODES_PATH)):
            place = {name: row[f"{prefix}/{name}"] for name in ("chunk_index", "file_index")}
            if not (root / template.format(**place)).is_file():
                yield f"meta/episodes: {template.format(**place)} is not there"
        start = stop


def _stats(info: dict[str, Any], stats: dict[str, dict[str, Any]], where: str) -> Iterator[str]:
    if set(stats) != set(info["features"]):
        yield f"{where}: of {sorted(stats)}"
        return
    for name, feature in info["features"].items():
        shape = (3, 1, 1) if feature["dtype"] == "video" else tuple(feature["shape"])
        values = {key: np.array(value) for key, value in stats[name].items()}
        if set(values) != set(STATS):
            yield f"{where}: {name} has {sorted(values)}"
            continue
        for key, value in values.items():
            if value.shape != ((1,) if key == "count" else shape):
                yield f"{where}: {key} of {name} has shape {value.shape}"
        rising = ("min", "q01", "q10", "q50", "q90", "q99", "max")
        if not all((values[a] <= values[b] + 1e-9).all() for a, b in itertools.pairwise(rising)):
            yield f"{where}: quantiles of {name} do not rise"
        if feature["dtype"] == "video" and not ((values["min"] >= 0).all() and (values["max"] <= 1).all()):
            yield f"{where}: {name} is not in [0, 1]"


def _videos(root: Path, info: dict[str, Any], row: dict[str, Any]) -> Iterator[str]:
    """Each frame of the episode is found at its time, within lerobot's tolerance, and has the feature's size."""
    for key, feature in info["features"].items():
        if feature["dtype"] != "video":
            continue
        chunk, file = row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"]
        path = root / info["video_path"].format(video_key=key, chunk_index=chunk, file_index=file)
        if not path.is_file():
            yield f"{path.relative_to(root)} is not there"
            continue
        times, described = _times(path)
        start = row[f"videos/{key}/from_timestamp"]
        if abs(row[f"videos/{key}/to_timestamp"] - start - row["length"] / info["fps"]) > TOLERANCE_S:
            yield f"{key}: episode {row['episode_index']} does not last {row['length']} frames"
        for i in range(row["length"]):
            if np.abs(times - (start + i / info["fps"])).min() > TOLERANCE_S:
                yield f"{key}: no picture for frame {i} of episode {row['episode_index']}"
        if described != [*feature["shape"][:2], feature["info"]["video.codec"], feature["info"]["video.pix_fmt"]]:
            yield f"{key}: the video is {described}"


def _times(path: Path) -> tuple[np.ndarray, list[Any]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = np.array([frame.time for frame in container.decode(stream)])
        return times, [stream.height, stream.width, stream.codec.canonical_name, stream.pix_fmt]
