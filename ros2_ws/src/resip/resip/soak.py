"""`resip soak`: the graph of a real robot for an hour, on software cameras and a simulated arm.

Every node is the one that a robot has, on wall time. In the hardware's place stand two software devices of
librealsense (640x480 at 30 Hz) and a Polymetis server over a MuJoCo arm. Trials of a minute follow each other
without an operator, each is recorded; its bag is reduced to the figures that are wanted and deleted. A trial that the
supervisor stopped is repeated, and the stop counted: as the graph's, or as the machine's where its kernel or its host
had taken a core away in that second, which happens to virtual machines and takes no fault of the graph.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from resip import process, real_time, spaces, topics
from resip.cameras.realsense import StreamSettings
from resip.errors import ResipError
from resip.graph import TRIAL_NODE, GraphArguments, NodeSpec, graph
from resip.recording.reader import Bag, Record
from resip.trials import records
from resip.trials.run import LOG_FILE
from resip.trials.statistics import Timing

TASK: Final = "one_leg"
TRIAL_S: Final = 60.0
#: Resident memory and CPU time of every process, one JSON object a line.
USAGE_FILE: Final = "usage.jsonl"
#: It gives up at that many stops.
MOST_STOPS: Final = 5
#: Time for which a core was taken away around a stop at which the stop is the machine's: half of a camera's patience.
TAKEN_S: Final = 0.04
#: What is kept of a trial's bag.
SAMPLES_FILE: Final = "samples.json"

#: A golden example's arrays hold one picture of each camera.
_PICTURES: Final = Path("models") / TASK / "golden.npz"
#: Of the arm's physics: longer than usual, for a real robot's workstation is spared that work.
_TIMESTEP_S: Final = 0.005
#: Looked at before and after a stop: longer than any silence that is borne; usage is told once a second.
_AROUND_S: Final = 0.5
_NS_PER_MS: Final = 1e6
_NS_PER_S: Final = 1e9

Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Bound:
    """One thing that must hold, and what was measured."""

    name: str
    limit: float
    value: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether it holds; a figure that is not there does not."""
        return self.value <= self.limit

    @property
    def measured(self) -> str:
        """The figure in words."""
        return f"{self.value:.3g} {self.unit}".strip() if math.isfinite(self.value) else "not measured"

    def __str__(self) -> str:
        return f"{self.name}: {self.measured}, at most {self.limit:g}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for the file; null for a figure that is not there."""
        return {**asdict(self), "value": self.value if math.isfinite(self.value) else None, "met": self.met}


def soak(minutes: float, record: Path, json_file: Path | None = None) -> dict[str, Any]:
    """Run trials for so long, print the figures and write them.

    Args:
      minutes: of the policy's time; pauses between trials come on top.
      record: folder in which the run gets a folder of its own.
      json_file: where the figures go; the table goes beside it, as Markdown.

    Returns:
      The figures.

    Raises:
      GraphError: a node ended that the graph needs.
      ResipError: a bound does not hold; the message names each one. The figures are written all the same. Or it was
        interrupted: then they are not.
    """
    directory = record / f"soak_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    load = os.getloadavg()[0]
    process.run(nodes(minutes, directory), TRIAL_NODE, directory / LOG_FILE)
    reduce_bags(directory)
    figures = {"load_average_before": load, **summarise(directory)}
    Console(width=None if sys.stdout.isatty() else 120).print(_table(figures))
    if cut_short(figures):
        raise ResipError(f"interrupted with {figures['trials_left']} of the soak's trials to go (see {directory})")
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
        with json_file.with_suffix(".md").open("w") as stream:
            Console(file=stream, width=120).print(_table(figures))
    missed = [str(bound) for bound in bounds(figures) if not bound.met]
    if missed:
        raise ResipError(f"the soak misses its bounds: {'; '.join(missed)} (see {directory})")
    return figures


def nodes(minutes: float, directory: Path) -> list[NodeSpec]:
    """The graph of a real robot for so many minutes of trials, with software in the hardware's place."""
    trials = max(1, math.ceil(minutes * 60.0 / TRIAL_S))
    arm_port, gripper_port = _free_ports(2)
    arguments = GraphArguments(
        task=TASK,
        robot="polymetis",
        robot_ip="127.0.0.1",
        front_serial="software",
        wrist_serial="software",
        trials=trials,
        record=str(directory),
        time_limit_s=minutes * 60.0 / trials,
        page_port=-1,
        arm_port=arm_port,
        gripper_port=gripper_port,
    )
    robot = {"task": TASK, "timestep_s": _TIMESTEP_S, "arm_port": arm_port, "gripper_port": gripper_port}
    return [
        NodeSpec("soak_robot", "resip.nodes.soak_robot", robot),
        *(_for_soak(spec) for spec in graph(arguments)),
        NodeSpec("soak_node", "resip.nodes.soak_node", {"directory": str(directory)}),
    ]


def _for_soak(spec: NodeSpec) -> NodeSpec:
    if spec.name == TRIAL_NODE:
        return replace(spec, parameters={**spec.parameters, "repeats": MOST_STOPS - 1})
    if spec.executable != "camera_node":
        return spec
    parameters = {**spec.parameters, "pictures": str(_PICTURES)}
    return replace(spec, module="resip.nodes.software_camera_node", parameters=parameters)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on: another simulated robot may run on this machine."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


# ---- a trial's bag ----


def reduce_bags(directory: Path) -> None:
    """Put `SAMPLES_FILE` in the place of the bag of every trial that has ended.

    Raises:
      BagError: a bag is damaged.
    """
    for outcome in directory.glob(f"trial_*/{records.OUTCOME_FILE}"):
        bag = outcome.parent / records.BAG_DIRECTORY
        if bag.is_dir():
            (outcome.parent / SAMPLES_FILE).write_text(json.dumps(samples(Bag(bag).records())))
            shutil.rmtree(bag)


def samples(messages: Iterable[Record]) -> Samples:
    """What one trial's messages tell, in ms and numbers of frames.

    ``capture_to_command``: for every tick with a target, from the capture of the newest front frame that the policy
    had to the first joint command of a control tick after that target. ``capture_to_plan``: from the capture of the
    observation that a chunk was predicted from to the chunk. ``frames_CAMERA``, ``missing_CAMERA``: one number each.
    """
    by_topic: dict[str, list[Record]] = defaultdict(list)
    wanted = {topics.POLICY_STATUS, topics.TARGET_POSE, topics.JOINT_COMMAND, topics.POLICY_PLAN}
    frames_ns: dict[str, list[int]] = {camera: [] for camera in spaces.CAMERAS}
    for record in messages:
        if record.topic in wanted:
            by_topic[record.topic].append(record)
        for camera in spaces.CAMERAS:
            if record.topic == topics.compressed(camera):
                frames_ns[camera].append(_stamp_ns(record))
    found: Samples = {
        "capture_to_command": _capture_to_command_ms(by_topic),
        "capture_to_plan": [(r.publish_time_ns - _stamp_ns(r)) / _NS_PER_MS for r in by_topic[topics.POLICY_PLAN]],
    }
    for camera, stamps_ns in frames_ns.items():
        found[f"frames_{camera}"] = [len(stamps_ns)]
        found[f"missing_{camera}"] = [_missing(stamps_ns)]
    return found


def _stamp_ns(record: Record) -> int:
    return record.stamp_ns or 0


def _capture_to_command_ms(by_topic: Mapping[str, list[Record]]) -> list[float]:
    captures_ns = {}
    for record in by_topic[topics.POLICY_STATUS]:
        values = {item.key: item.value for item in record.decode().status[0].values}
        if values.get("observation_age_ms"):
            captures_ns[record.stamp_ns] = _stamp_ns(record) - float(values["observation_age_ms"]) * _NS_PER_MS
    commands = sorted((_stamp_ns(record), record.publish_time_ns) for record in by_topic[topics.JOINT_COMMAND])
    stamps_ns = np.array([stamp for stamp, _ in commands])
    latencies_ms = []
    for target in by_topic[topics.TARGET_POSE]:
        following = int(np.searchsorted(stamps_ns, target.publish_time_ns))
        if target.stamp_ns in captures_ns and following < len(commands):
            latencies_ms.append((commands[following][1] - captures_ns[target.stamp_ns]) / _NS_PER_MS)
    return latencies_ms


def _missing(stamps_ns: list[int]) -> int:
    """Frames that a stream of constant rate lacks."""
    periods = np.diff(stamps_ns) / _NS_PER_S * StreamSettings().fps
    return int(np.maximum(np.rint(periods) - 1, 0).sum())


# ---- all trials together ----


def summarise(directory: Path) -> dict[str, Any]:
    """The figures of a run whose bags are reduced.

    Raises:
      RecordError: nothing was recorded in the directory.
    """
    trials = records.read_set(directory)
    outcomes = [records.read_outcome(path) for path in sorted(directory.glob(f"trial_*/{records.OUTCOME_FILE}"))]
    rows = [json.loads(line) for line in _lines(directory / USAGE_FILE)]
    found: dict[str, list[float]] = defaultdict(list)
    for path in sorted(directory.glob(f"trial_*/{SAMPLES_FILE}")):
        for name, values in json.loads(path.read_text()).items():
            found[name] += values
    timings = {name: Timing.of(found[name], "ms") for name in ("capture_to_command", "capture_to_plan")}
    missed = sum(outcome.missed_ticks + outcome.held_ticks for outcome in outcomes)
    ticks = sum(outcome.ticks for outcome in outcomes)
    figures = {
        "minutes": sum(outcome.duration_s for outcome in outcomes) / 60.0,
        "cores": os.cpu_count(),
        "real_time_share": real_time.share(),
        "trials": sum(outcome.judged for outcome in outcomes),
        "trials_left": len(trials.left),
        "stops": [
            {"reason": outcome.reason, "after_s": outcome.duration_s, "taken_s": taken_s(rows, outcome.run_s[1])}
            for outcome in outcomes
            if not outcome.judged
        ],
        "ticks": ticks,
        "ticks_without_target": missed,
        "lost_messages": sum(outcome.lost_messages for outcome in outcomes),
        "frames": {
            camera: {"recorded": sum(found[f"frames_{camera}"]), "missing": sum(found[f"missing_{camera}"])}
            for camera in spaces.CAMERAS
        },
        "latency": {name: timing.as_json() for name, timing in timings.items() if timing is not None},
        "stolen_s": _stolen_s(rows),
        "late_s": _late_s(rows),
        "processes": _processes(rows),
    }
    figures["bounds"] = [bound.as_json() for bound in bounds(figures)]
    return figures


def cut_short(figures: Mapping[str, Any]) -> bool:
    """Whether trials are left although the graph was not given up."""
    return figures["trials_left"] > 0 and len(figures["stops"]) < MOST_STOPS


def bounds(figures: Mapping[str, Any]) -> list[Bound]:
    """What must hold of the figures of `summarise`."""
    missed = figures["ticks_without_target"]
    missed_share = missed / (figures["ticks"] + missed) if figures["ticks"] else 1.0
    latency = figures["latency"].get("capture_to_command", {"p95": math.inf})
    growth = [usage["growth_mb"] for usage in figures["processes"].values()]
    return [
        Bound("trials left out", 0, figures["trials_left"], ""),
        Bound("stops of the graph's own", 0, sum(stop["taken_s"] < TAKEN_S for stop in figures["stops"]), ""),
        Bound("ticks missed or without a target", 0.1, 100.0 * missed_share, "%"),
        Bound("messages lost", 0, figures["lost_messages"], ""),
        Bound("camera frame to joint command, p95", 60.0, latency["p95"], "ms"),
        Bound("growth of the largest grower", 20.0, max(growth, default=math.inf), "MB"),
    ]


def taken_s(rows: Sequence[Mapping[str, Any]], around_s: float) -> float:
    """For how long a core was away, at worst, in the second around a time: by the host's account or the watch's."""
    after = [i for i, row in enumerate(rows) if row["time_s"] >= around_s + _AROUND_S]
    before = [i for i, row in enumerate(rows) if row["time_s"] <= around_s - _AROUND_S]
    around = rows[before[-1] if before else 0 : after[0] + 1 if after else len(rows)]
    return max(_stolen_s(around), _late_s(around[1:]))  # a row's watch tells of the time before it


def _stolen_s(rows: Sequence[Mapping[str, Any]]) -> float:
    """Time that a host took from the core that lost most."""
    if not rows:
        return 0.0
    return max(late - early for early, late in zip(rows[0]["stolen_s"], rows[-1]["stolen_s"], strict=True))


def _late_s(rows: Sequence[Mapping[str, Any]]) -> float:
    """Longest time that the thread before all others waited for its core."""
    return max((late for row in rows for late in row["late_s"]), default=0.0)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _processes(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """What each process used; see `_usage`."""
    by_name: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for row in rows:
        for name, usage in row["processes"].items():
            by_name[name].append((row["time_s"], usage["resident_mb"], usage["cpu_s"]))
    return {name: _usage(np.array(samples)) for name, samples in sorted(by_name.items())}


def _usage(samples: np.ndarray) -> dict[str, float]:
    """From rows of s, MB and CPU s: memory in the second and the last quarter (medians), share of one core."""
    times_s, sizes_mb, cpu_s = samples.T
    second = len(sizes_mb) // 4
    quarter = max(1, second)
    early, late = (float(np.median(part)) for part in (sizes_mb[second:][:quarter], sizes_mb[-quarter:]))
    span_s = max(times_s[-1] - times_s[0], 1e-9)
    cores = float(cpu_s[-1] - cpu_s[0]) / span_s
    return {
        "early_mb": round(early, 1),
        "late_mb": round(late, 1),
        "growth_mb": round(late - early, 1),
        "cores": round(cores, 3),
    }


def _table(figures: Mapping[str, Any]) -> Table:
    table = Table(box=MARKDOWN)
    for heading in ("what", "measured", "bound"):
        table.add_column(heading)
    for bound in bounds(figures):
        table.add_row(bound.name, bound.measured, f"{bound.limit:g} {bound.unit}".strip())
    for name, text in _details(figures).items():
        table.add_row(name, text, "")
    return table


def _details(figures: Mapping[str, Any]) -> dict[str, str]:
    """The figures that no bound is on."""
    found = {
        "policy's time": f"{figures['minutes']:.1f} min in {figures['trials']} trials, {figures['cores']} cores",
        "real-time threads may use": f"{100 * figures['real_time_share']:g} % of a core",
        "ticks with a target": str(figures["ticks"]),
        "taken from a core by the machine's host": f"{figures['stolen_s']:.2f} s",
        "longest wait of the thread before all others": f"{1000 * figures['late_s']:.1f} ms",
    }
    for number, stop in enumerate(figures["stops"], 1):
        whose = "the graph's" if stop["taken_s"] < TAKEN_S else "the machine's"
        text = f"{stop['reason']}, after {stop['after_s']:.1f} s; a core was away for {stop['taken_s']:.2f} s"
        found[f"stop {number}, {whose}"] = text
    for camera, counts in figures["frames"].items():
        found[f"{camera} frames recorded, missing"] = f"{counts['recorded']:.0f}, {counts['missing']:.0f}"
    for name, timing in figures["latency"].items():
        text = " / ".join(f"{timing[key]:.0f}" for key in ("median", "p95", "p99", "max"))
        found[f"{name.replace('_', ' ')}: median / p95 / p99 / worst"] = f"{text} ms"
    for name, usage in figures["processes"].items():
        memory = f"{usage['late_mb']:.0f} MB, {usage['growth_mb']:+.1f}"
        found[f"{name}: resident memory, cores"] = f"{memory}, {usage['cores']:.2f}"
    return found
