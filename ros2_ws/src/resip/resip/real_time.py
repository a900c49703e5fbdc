"""How much of a core the kernel leaves to threads that are scheduled in real time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_KERNEL: Final = Path("/proc/sys/kernel")


def share(kernel: Path = _KERNEL) -> float:
    """Share of each second that real-time threads may run on a core; 1.0 where the kernel does not hold them back.

    Linux's default is 0.95, so that a thread that runs wild cannot lock its owner out: what is over that stands still
    for the rest of the second, 50 ms, whatever waits for it (kernel documentation, sched-rt-group).
    """
    try:
        runtime_us, period_us = (
            int((kernel / name).read_text()) for name in ("sched_rt_runtime_us", "sched_rt_period_us")
        )
    except FileNotFoundError:  # a kernel without such a limit
        return 1.0
    return 1.0 if runtime_us < 0 else runtime_us / period_us
