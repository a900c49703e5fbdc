"""`resip bag to-dataset`: bags of trials and of teleoperation as a demonstration set.

What the bags hold becomes what ``resip train distill --real`` reads: a set that does not know where the parts are. An
episode's ``seed`` is a number from its bag's SHA-256, so that the same recording is never in a set twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from resip.errors import ResipError
from resip.recording.reader import Bag
from resip.recording.resampling import Matching, Steps, resample
from resip.recording.story import Story, find_bags, read_calibration, read_story

from resip_training.data.store import DemoWriter, Episode, Provenance

_SEED_DIGITS: Final = 15  # hexadecimal: 60 bits, which an int64 holds
_NAME_PARTS: Final = 3  # of the path: trial_000/bag/bag_0.mcap
_NS_PER_S: Final = 1e9
#: A recording whose robot states end no more than this before the verdict has its end.
_END_WITHIN_S: Final = 0.2


@dataclass(frozen=True)
class Recording:
    """A bag and what it is a recording of."""

    bag: Bag
    story: Story

    @property
    def name(self) -> str:
        """The end of its path."""
        return str(Path(*self.bag.path.parts[-_NAME_PARTS:]))

    @cached_property
    def sha256(self) -> str:
        """Hash of the file."""
        with self.bag.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @property
    def seed(self) -> int:
        """Number of its episode."""
        return int(self.sha256[:_SEED_DIGITS], 16)

    def described(self) -> dict[str, Any]:
        """What a set's provenance says of it, plain JSON values."""
        told = {"name": self.name, "sha256": self.sha256, "seed": self.seed}
        return {**told, "story": self.story.as_json(), "calibration": read_calibration(self.bag)}


def bags_to_dataset(paths: Sequence[Path], out: Path, matching: Matching, keep_failures: bool = False) -> None:
    """Write the demonstrations in bags as a data set; the same command goes on after an interrupt.

    Args:
      paths: bags, or folders of them.
      out: folder of the set; one that has some of the episodes is completed.
      matching: bounds of what belongs together.
      keep_failures: keep what did not succeed as well, marked as such.

    Raises:
      ResipError: there is no bag, none that is kept, none that episodes can be made of, recordings of several tasks,
        or ``out`` holds something else or cannot be written.
    """
    recordings = choose(read_recordings(paths), keep_failures)
    provenance = _provenance(recordings, matching)
    writer = DemoWriter(out, provenance) if out.exists() and any(out.iterdir()) else None
    refusals: list[str] = []
    for recording in recordings:
        if writer is not None and recording.seed in writer.seeds:
            continue
        try:
            episode = read_episode(recording, matching, keep_failures)
        except ResipError as error:
            refusals.append(str(error))
            print(f"left out: {error}", flush=True)
            continue
        writer = writer or DemoWriter(out, provenance)
        writer.append(episode)
    if writer is None:
        raise ResipError(no_episode(refusals))
    print(f"{len(writer.seeds)} episodes of {len(recordings)} recordings, {writer.n_steps} steps in {out}")


def no_episode(refusals: Sequence[str]) -> str:
    """What is said where no bag makes an episode: the first reason, and how many more there are."""
    more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    return f"none of {len(refusals)} recordings makes an episode: {refusals[0]}{more}"


def read_recordings(paths: Sequence[Path]) -> list[Recording]:
    """The recordings that paths stand for: bags, or folders of them; each once.

    Raises:
      ResipError: no path, no bag at one, or one that does not say how it ended.
    """
    bags = [Bag(file) for file in find_bags(paths)]
    return [Recording(bag, read_story(bag)) for bag in bags]


def choose(recordings: Sequence[Recording], keep_failures: bool) -> list[Recording]:
    """The successful recordings, or all.

    Raises:
      ResipError: there is none.
    """
    chosen = [recording for recording in recordings if keep_failures or recording.story.success]
    if not chosen:
        counts = Counter(recording.story.result for recording in recordings)
        ended = ", ".join(f"{count} {result}" for result, count in sorted(counts.items()))
        raise ResipError(f"no success among the recordings ({ended}): --keep-failures takes them, marked as such")
    return chosen


def read_episode(recording: Recording, matching: Matching, keep_failures: bool = False) -> Episode:
    """Make the episode of a recording, and print how it came out.

    Raises:
      ResipError: no episode can be made of it, or its end is lost and only successes are kept.
    """
    steps = resample(recording.bag, recording.story.run_s, matching)
    success = recording.story.success and _has_end(steps, recording.story)
    if steps.damage and not (success or keep_failures):
        raise ResipError(f"{steps.damage}; without its end it is no success: --keep-failures keeps what survives")
    note = f"; {steps.damage}, this is what survives" if steps.damage else ""
    print(f"{recording.name}: {len(steps)} steps, left out {_left_out(steps)}{note}", flush=True)
    reward = np.zeros(len(steps))
    reward[-1] = success
    return Episode(
        robot_state=steps.robot_state,
        part_poses=np.empty((len(steps), 0)),
        action=steps.action,
        reward=reward,
        joint_positions=steps.joint_positions,
        seed=recording.seed,
        success=success,
        front=steps.images["front"],
        wrist=steps.images["wrist"],
    )


def _has_end(steps: Steps, story: Story) -> bool:
    """Whether the bag holds its recording to the end."""
    if not steps.damage:
        return True
    return story.run_s is not None and story.run_s[1] - steps.heard_until_ns / _NS_PER_S <= _END_WITHIN_S


def _left_out(steps: Steps) -> str:
    return f"{steps.idle} idle, {steps.held} held and {steps.unobserved} before the first observation"


def _provenance(recordings: Sequence[Recording], matching: Matching) -> Provenance:
    stories = [recording.story for recording in recordings]
    tasks = sorted({story.task for story in stories})
    if len(tasks) > 1:
        raise ResipError(f"the bags are of several tasks, {', '.join(tasks)}: make a set of each")
    described = [recording.described() for recording in recordings]
    return Provenance(
        task=tasks[0],
        randomness=_common([story.randomness for story in stories]),
        source=_common([story.source for story in stories]),
        part_names=(),
        simulator={"name": "none: recorded", "matching": asdict(matching), "bags": described},
    )


def _common(values: Sequence[str]) -> str:
    """The value that all have, or all values that occur."""
    return "+".join(sorted(set(values)))
