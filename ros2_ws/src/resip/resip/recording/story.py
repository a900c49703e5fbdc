"""What a recording is, beside its messages: the task, who acted, how it ended.

A recording says it of itself: its recorder puts the story into the bag's ``metadata.yaml``, as JSON under
``resip_demonstration`` (teleoperated) or ``resip_trial`` (a policy's). Where that is missing, because the recorder was
killed, ``outcome.json`` beside the bag and the set's ``trials.json`` tell.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, get_args

from resip import spaces, topics
from resip.errors import ResipError
from resip.recording.reader import Bag, BagError, find_mcap
from resip.recording.writer import DEMONSTRATION_KEY, TRIAL_KEY
from resip.trials import records
from resip.trials.protocol import Result

_ASIDE: Final = "_aborted_"  # what the trial node puts aside, to run the trial again
_UNKNOWN: Final = "unknown"


class StoryError(ResipError):
    """A bag that does not say what it is a recording of."""


@dataclass(frozen=True)
class Story:
    """What is known of one recording.

    Attributes:
      task: such as ``one_leg``.
      source: who acted: ``policy``, ``spacemouse``, ``keyboard``.
      result: ``success``, ``failure`` or ``aborted``.
      reason: for the result, in words.
      randomness: of the start: ``low``, ``med``, ``high`` or ``unknown``.
      robot: ``sim`` or ``polymetis``.
      operator: who teleoperated or judged, or ``""``.
      seed: of the start, in simulation.
      run_s: ROS times at which it began and was decided; None where all of the bag counts.
      marks_s: ROS times of the stage marks that the operator set.
      stages: what was judged of the stages, see ``resip.trials.stages``.
      versions: of the software that recorded it.
      policy: what is known of the policy that acted.
    """

    task: str
    source: str
    result: Result
    reason: str = ""
    randomness: str = _UNKNOWN
    robot: str = _UNKNOWN
    operator: str = ""
    seed: int | None = None
    run_s: tuple[float, float] | None = None
    marks_s: list[float] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    policy: dict[str, str] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.result == "success"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return json.loads(json.dumps(asdict(self)))


def read_story(bag: Bag) -> Story:
    """Read the story of a bag.

    Raises:
      StoryError: there is none, or it is damaged.
    """
    directory = bag.path.parent.parent
    outcome_file = directory / records.OUTCOME_FILE
    outcome = records.read_outcome(outcome_file) if outcome_file.is_file() else None
    told = bag.custom.get(DEMONSTRATION_KEY, bag.custom.get(TRIAL_KEY))
    if told is not None:
        story = _told(told, bag.path)
        return story if outcome is None else replace(story, run_s=outcome.run_s, stages=outcome.stages)
    if outcome is not None:
        return _trial(outcome, records.read_set(directory.parent).settings)
    raise StoryError(
        f"{bag.path} does not say how it ended: expected {records.OUTCOME_FILE} in {directory}, as `resip trial` "
        f"writes it, or {DEMONSTRATION_KEY} in its metadata.yaml, as a teleoperated recording has it"
    )


def read_calibration(bag: Bag) -> dict[str, dict[str, Any]]:
    """The first calibration of each camera in a bag: size (px), distortion and intrinsics, row by row.

    A camera whose calibration is not there, or lies behind damage, is left out.
    """
    cameras = {topics.camera_info(camera): camera for camera in spaces.CAMERAS}
    found: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(BagError):
        for record in bag.records(cameras):
            if (camera := cameras[record.topic]) not in found:
                found[camera] = _intrinsics(record.decode())
            if len(found) == len(cameras):
                break
    return found


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """The MCAP files that paths stand for, each once: bags (see ``Bag``), or those of the folders in them, by name.

    Raises:
      BagError: there is none at a path, or no path.
    """
    if not paths:
        raise BagError("there is no bag to read: name one, or the folder that `resip trial` wrote")
    return list(dict.fromkeys(file.resolve() for path in paths for file in _bags_at(path)))


def _bags_at(path: Path) -> list[Path]:
    if not path.is_dir() or _holds_bag(path):
        return [find_mcap(path)]
    inner = sorted(child for child in path.iterdir() if child.is_dir() and _ASIDE not in child.name)
    return [find_mcap(child) for child in inner if _holds_bag(child)] or [find_mcap(path)]


def _holds_bag(directory: Path) -> bool:
    return any((*directory.glob("*.mcap"), *directory.glob("bag/*.mcap")))


def _intrinsics(info: Any) -> dict[str, Any]:
    return {
        "width": int(info.width),
        "height": int(info.height),
        "distortion_model": info.distortion_model,
        "d": [float(value) for value in info.d],
        "k": [float(value) for value in info.k],
    }


def _told(text: str, path: Path) -> Story:
    known = {one.name for one in fields(Story)}
    try:
        story = Story(**{name: value for name, value in json.loads(text).items() if name in known})
    except (ValueError, TypeError, AttributeError) as error:
        raise StoryError(f"{path}: what its metadata.yaml tells of it cannot be read ({error})") from error
    if story.result not in get_args(Result):
        raise StoryError(f"{path}: its result is {story.result!r}, not one of {', '.join(get_args(Result))}")
    return story


def _trial(outcome: records.Outcome, settings: records.Settings) -> Story:
    return Story(
        task=settings.task,
        source="policy",
        result=outcome.result,
        reason=outcome.reason,
        randomness=settings.randomness,
        robot=settings.robot,
        seed=outcome.seed,
        run_s=outcome.run_s,
        stages=outcome.stages,
        policy={"policy": settings.policies.get(outcome.policy, settings.policy), **outcome.model},
    )
