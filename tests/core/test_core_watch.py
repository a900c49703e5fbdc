"""A watch on a core tells how long its most urgent thread waits, and ends with whoever reads it."""

import os
import subprocess
import sys
import time

from resip.core_watch import CoreWatch


def real_time_allowed() -> bool:
    command = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))"
    return subprocess.run([sys.executable, "-c", command], stderr=subprocess.DEVNULL, check=False).returncode == 0


def test_delays_are_told_where_real_time_is_allowed_and_nothing_elsewhere():
    command = [sys.executable, "-m", "resip.core_watch", str(min(os.sched_getaffinity(0)))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        process.kill()
    assert float(told) > 0.0 if real_time_allowed() else told == ""


def test_the_worst_delay_is_told_once():
    watch = CoreWatch(min(os.sched_getaffinity(0)))
    deadline_s = time.monotonic() + 60.0
    while watch.runs and not watch.worst_s():
        assert time.monotonic() < deadline_s, "nothing was told"
        time.sleep(0.01)
    assert watch.runs is real_time_allowed()
    watch.close()
    assert not watch.runs


def test_the_process_ends_when_nobody_reads_it():
    command = [sys.executable, "-m", "resip.core_watch", str(min(os.sched_getaffinity(0)))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=60.0)
