"""The newest observation whose parts belong together: robot state and both images, by their stamps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

STATE: Final = "state"
#: The bounds of the policy node, and so of data sets that are made from bags.
MAX_SKEW_S: Final = 0.05
MAX_AGE_S: Final = 0.3
_KEPT: Final = 100  # samples a stream; a second of the fastest


@dataclass(frozen=True)
class Moment:
    """One sample of every stream, taken at about ``time_s``, the stamp of the leading stream."""

    time_s: float
    samples: dict[str, Any]


class Synchroniser:
    """Collects stamped samples and finds the newest set of them. Pure: stamps and present time are given.

    Args:
      streams: names; the first leads, and the sample of each other one nearest to it in time is taken.
      max_skew_s: largest distance of a sample from the leading one.
      max_age_s: largest age of the leading sample.
    """

    def __init__(self, streams: Sequence[str], max_skew_s: float, max_age_s: float) -> None:
        self._samples: dict[str, deque[tuple[float, Any]]] = {name: deque(maxlen=_KEPT) for name in streams}
        self._leader = streams[0]
        self._max_skew_s = max_skew_s
        self._max_age_s = max_age_s

    def add(self, stream: str, time_s: float, sample: Any) -> None:
        """Keep a sample with its stamp; samples of a stream come in the order of their stamps."""
        self._samples[stream].append((time_s, sample))

    def age_s(self, now_s: float) -> float | None:
        """Age of the newest sample of the leading stream; None before the first."""
        samples = self._samples[self._leader]
        return now_s - samples[-1][0] if samples else None

    def newest(self, now_s: float) -> Moment | str:
        """The newest moment that every stream has a sample of; or, in words, why there is none."""
        for stream, samples in self._samples.items():
            if not samples:
                return f"nothing has come from {stream} yet"
            age_s = now_s - samples[-1][0]
            if age_s > self._max_age_s:
                return f"nothing has come from {stream} for {age_s:.1f} s"
        for time_s, _ in reversed(self._samples[self._leader]):
            if now_s - time_s > self._max_age_s:
                break
            nearest = {name: _nearest(samples, time_s) for name, samples in self._samples.items()}
            if all(abs(stamp_s - time_s) <= self._max_skew_s for stamp_s, _ in nearest.values()):
                return Moment(time_s, {name: sample for name, (_, sample) in nearest.items()})
        return f"the stamps of {', '.join(self._samples)} lie more than {self._max_skew_s:g} s apart"


def _nearest(samples: deque[tuple[float, Any]], time_s: float) -> tuple[float, Any]:
    return min(samples, key=lambda item: abs(item[0] - time_s))
