"""How long a core keeps its most urgent thread waiting, as ``cyclictest`` tells: ``python -m resip.core_watch 0``.

A process of its own: a thread of another program would wait for that program's interpreter as well.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from typing import Final

_WAKE_PERIOD_S: Final = 0.005
_TELL_PERIOD_S: Final = 0.1


class CoreWatch:
    """Remembers the longest delay with which the first of all threads woke up on one core, while this process lives.

    Where that is long, the kernel or the machine's host had the core. Without the right to real-time priority nothing
    is measured, and no delay told.
    """

    def __init__(self, core: int) -> None:
        self._worst_s = 0.0
        command = [sys.executable, "-m", "resip.core_watch", str(core)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def runs(self) -> bool:
        """Whether anything is measured."""
        return self._process.poll() is None

    def worst_s(self) -> float:
        """Longest delay (s) since it was last asked for."""
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._worst_s = max(self._worst_s, float(line))


def main() -> None:
    """Print the worst delay (s) of each tenth of a second, until nobody reads it."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    with contextlib.suppress(PermissionError, BrokenPipeError, KeyboardInterrupt):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_max(os.SCHED_FIFO)))
        while True:
            print(_worst_s(_TELL_PERIOD_S), flush=True)


def _worst_s(duration_s: float) -> float:
    """Longest delay of a wake-up within a time."""
    worst_s, end_s = 0.0, time.monotonic() + duration_s
    while (now_s := time.monotonic()) < end_s:
        time.sleep(_WAKE_PERIOD_S)
        worst_s = max(worst_s, time.monotonic() - now_s - _WAKE_PERIOD_S)
    return worst_s


if __name__ == "__main__":
    main()
