"""The end of a process of this machine, known the moment it comes: the kernel tells it, so no silence is waited for.

A node that others depend on signs what it says with its process; those who hear it watch that. A process that cannot
be seen from here (another machine, a container of its own) is known by its silence alone.
"""

from __future__ import annotations

import os
import select


def signed(word: str) -> str:
    """Return the word with the number of this process."""
    return f"{word} {os.getpid()}"


def read(text: str, word: str) -> tuple[bool, int | None]:
    """Return whether a text is the word, signed or not, and the number of the process that signed it."""
    said, _, number = text.partition(" ")
    if text == word or (said == word and number.isdecimal()):
        return True, int(number) if number else None
    return False, None


class Watch:
    """Keeps watch on one process after the other: the newest that was heard."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._handle: int | None = None

    def heard(self, pid: int | None) -> None:
        """Watch this process from now on; None: nobody."""
        if pid == self._pid:
            return
        self.close()
        self._pid = pid
        if pid is not None:
            try:
                self._handle = os.pidfd_open(pid)
            except OSError:
                self._handle = None

    @property
    def ended(self) -> bool:
        """Whether the process has ended since it was heard."""
        return self._handle is not None and bool(select.select([self._handle], [], [], 0)[0])

    def close(self) -> None:
        """Watch nobody."""
        if self._handle is not None:
            os.close(self._handle)
        self._pid = self._handle = None
