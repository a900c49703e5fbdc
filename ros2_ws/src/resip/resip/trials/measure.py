"""The figures of one trial, from its timeline: ticks, latencies, stages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from resip import spaces, topics
from resip.trials import stages, timeline
from resip.trials.statistics import Timing

Array = NDArray[np.float64]

_MS_PER_S: Final = 1e3

#: What each latency is, for tables.
LATENCIES: Final = {
    **{f"image_{camera}": f"{camera} image: taken to recorded" for camera in spaces.CAMERAS},
    "robot_state": "robot state: sampled to recorded",
    "policy_observation_age": "age of the observation at the tick",
    "policy_execution_age": "age of the observation that an executed action was predicted from",
    "policy_preprocess": "images and state into the policy's input (wall time)",
    "policy_inference": "inference of a chunk (wall time)",
    "policy_latency": "work of a policy tick (wall time)",
    "tick": "tick to published target",
    "command": "published target to next joint command",
}


@dataclass(frozen=True)
class Measurements:
    """What a trial measured; latencies in ms of ROS time where ``LATENCIES`` says nothing else."""

    ticks: int
    """Targets published."""
    missed_ticks: int
    """Ticks of the policy's clock that it did not serve."""
    held_ticks: int
    """Ticks, between the first and the last target, that it served without one: the arm held."""
    tick_rate_hz: float
    latency: dict[str, Timing]
    stages: list[stages.Stage]
    reached: dict[str, float]
    """When the marks of ``stages.MARKS`` were reached, as far as the part poses tell."""
    model: dict[str, str]
    """What the policy's status says of its model: the keys that begin with ``model``."""


def measure(task: str, trial: timeline.Timeline) -> Measurements:
    """Compute the figures of one trial."""
    ticks_s = trial.target.times_s
    span_s = float(ticks_s[-1] - ticks_s[0]) if len(ticks_s) > 1 else 0.0
    last_status = trial.policy_values[-1] if trial.policy_values else {}
    status = trial.arrivals.get(topics.POLICY_STATUS)  # one a tick, with the tick's stamp
    missed = timeline.tick_gaps(status.stamped_s) if status else 0
    return Measurements(
        ticks=len(ticks_s),
        missed_ticks=missed,
        held_ticks=max(0, timeline.tick_gaps(ticks_s) - missed),
        tick_rate_hz=(len(ticks_s) - 1) / span_s if span_s > 0 else 0.0,
        latency=timings(latency_samples(trial)),
        stages=stages.stages(task, trial.part_poses.times_s, trial.part_poses.values),
        reached=stages.reached(task, trial.part_poses.times_s, trial.part_poses.values),
        model={key: value for key, value in last_status.items() if key.startswith("model")},
    )


def latency_samples(trial: timeline.Timeline) -> dict[str, Array]:
    """Samples (ms) of each of ``LATENCIES`` that the trial knows."""
    arrivals = trial.arrivals
    samples: dict[str, Array] = {}
    for camera in spaces.CAMERAS:
        if images := arrivals.get(topics.compressed(camera)):
            samples[f"image_{camera}"] = images.recorded_s - images.stamped_s
    if states := arrivals.get(topics.JOINT_STATES):
        samples["robot_state"] = states.recorded_s - states.stamped_s
    if targets := arrivals.get(topics.TARGET_POSE):
        samples["tick"] = targets.published_s - targets.stamped_s
        if commands := arrivals.get(topics.JOINT_COMMAND):
            samples["command"] = _time_to_next(targets.published_s, commands.published_s)
    # in simulation ROS time moves in steps, so that what comes within one may seem to come before its stamp
    samples = {name: np.maximum(values, 0.0) * _MS_PER_S for name, values in samples.items()}
    policy = {f"policy_{name}": np.array(values) for name, values in _policy_samples(trial.policy_values).items()}
    return samples | policy


def timings(samples: Mapping[str, Array]) -> dict[str, Timing]:
    """Summarise samples (ms); those without any are left out."""
    summaries = {name: Timing.of(values, "ms") for name, values in samples.items()}
    return {name: timing for name, timing in summaries.items() if timing is not None}


def _time_to_next(moments_s: Array, events_s: Array) -> Array:
    """Time from each moment to the first event at or after it; moments after the last event are left out."""
    events_s = np.sort(events_s)
    index = np.searchsorted(events_s, moments_s, side="left")
    known = index < len(events_s)
    return events_s[index[known]] - moments_s[known]


def _policy_samples(status: list[dict[str, str]]) -> dict[str, list[float]]:
    """Values of the policy's status whose key ends with ``_ms``, by the key without it."""
    samples: dict[str, list[float]] = defaultdict(list)
    for values in status:
        for key, text in values.items():
            if key.endswith("_ms") and text:
                samples[key.removesuffix("_ms")].append(float(text))
    return samples
