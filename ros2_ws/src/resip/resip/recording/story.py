"""What a recording is, beside its messages: the task, who acted, how it ended.

A trial's bag lies in ``trial_000/bag``; its ``outcome.json`` and the set's ``trials.json`` tell its story. A
teleoperated demonstration has no trial around it: its recorder writes the story into the bag's own
``metadata.yaml``, as JSON under ``resip_demonstration``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from resip.errors import ResipError
from resip.recording.reader import Bag, find_mcap
from resip.trials import records
from resip.trials.protocol import Result

#: Key of a demonstration's story in ``custom_data`` of its ``metadata.yaml``.
STORY_KEY: Final = "resip_demonstration"
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
      operator: who teleoperated, or ``""``.
      run_s: ROS times at which it began and was decided; None where all of the bag counts.
      stages: marks, oldest first, each a mapping with its name and time.
      software: versions at the time of recording, by name.
      policy: what is known of the policy that acted.
    """

    task: str
    source: str
    result: Result
    reason: str = ""
    randomness: str = _UNKNOWN
    robot: str = _UNKNOWN
    operator: str = ""
    run_s: tuple[float, float] | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    software: dict[str, str] = field(default_factory=dict)
    policy: dict[str, str] = field(default_factory=dict)

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.result == "success"

    def as_custom_data(self) -> dict[str, str]:
        """What a recorder hands to ``BagWriter.close``."""
        return {STORY_KEY: json.dumps(asdict(self))}


def read_story(bag: Bag) -> Story:
    """Read the story of a bag.

    Raises:
      StoryError: there is none, or it is damaged.
    """
    text = bag.custom.get(STORY_KEY)
    if text is not None:
        return _demonstration(text, bag.path)
    directory = bag.path.parent.parent
    if (directory / records.OUTCOME_FILE).is_file():
        return _trial(directory)
    raise StoryError(
        f"{bag.path} does not say how it ended: expected {records.OUTCOME_FILE} in {directory}, as `resip trial` "
        f"writes it, or {STORY_KEY} in its metadata.yaml, as a teleoperated recording has it"
    )


def find_bags(path: Path) -> list[Path]:
    """The MCAP files that ``path`` stands for: one bag (see ``Bag``), or those of the folders in it, by name.

    Raises:
      BagError: there is none.
    """
    if not path.is_dir() or _holds_bag(path):
        return [find_mcap(path)]
    inner = sorted(child for child in path.iterdir() if child.is_dir() and _ASIDE not in child.name)
    return [find_mcap(child) for child in inner if _holds_bag(child)] or [find_mcap(path)]


def _holds_bag(directory: Path) -> bool:
    return any((*directory.glob("*.mcap"), *directory.glob("bag/*.mcap")))


def _demonstration(text: str, path: Path) -> Story:
    try:
        story = Story(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise StoryError(f"{path}: {STORY_KEY} in its metadata.yaml cannot be read ({error})") from error
    if story.result not in ("success", "failure", "aborted"):
        raise StoryError(f"{path}: its result is {story.result!r}, not success, failure or aborted")
    return story


def _trial(directory: Path) -> Story:
    outcome = records.read_outcome(directory / records.OUTCOME_FILE)
    settings = records.read_set(directory.parent).settings
    return Story(
        task=settings.task,
        source="policy",
        result=outcome.result,
        reason=outcome.reason,
        randomness=settings.randomness,
        robot=settings.robot,
        run_s=outcome.run_s,
        stages=outcome.stages,
        policy={"policy": settings.policy, **outcome.model},
    )
