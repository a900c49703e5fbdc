"""Counts the messages that a recorder did not get."""

from __future__ import annotations

from collections import defaultdict


class LossCounter:
    """Counts lost messages exactly, from the sequence number that each DDS writer gives its messages.

    The first message of a writer sets its baseline: what it sent before the recorder found it is no loss.
    Numbers that arrive out of order or twice never count as negative loss.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, bytes], int] = {}
        self._lost: dict[str, int] = defaultdict(int)

    def see(self, topic: str, writer: bytes, sequence: int) -> None:
        """Note the arrival of a message: ``writer`` identifies its publisher."""
        key = (topic, writer)
        last = self._last.get(key)
        if last is not None and sequence > last + 1:
            self._lost[topic] += sequence - last - 1
        self._last[key] = sequence if last is None else max(sequence, last)

    def restart(self) -> None:
        """Begin a new count; baselines stay, so that a loss between two messages is never missed."""
        self._lost.clear()

    @property
    def lost(self) -> dict[str, int]:
        """Messages lost since the start of the count, for the topics that lost any."""
        return dict(self._lost)
