"""A watch on a core tells how long its most urgent thread waits, and ends with whoever reads it."""

import os
import subprocess
import sys
import time

import pytest
from resip.core_watch import CoreWatch


def real_time_allowed() -> bool:
    command = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))"
    return subprocess.run([sys.executable, "-c", command], stderr=subprocess.DEVNULL, check=False).returncode == 0


@pytest.fixture
def watch():
    watch = CoreWatch(min(os.sched_getaffinity(0)))
    yield watch
    watch.close()


@pytest.mark.skipif(not real_time_allowed(), reason="needs the right to real-time priority")
def test_a_delay_is_told(watch):
    deadline_s = time.monotonic() + 60.0
    while not (worst_s := watch.worst_s()):
        assert time.monotonic() < deadline_s, "nothing was told"
        time.sleep(0.01)
    assert 0.0 < worst_s < 60.0


def test_the_process_ends_when_nobody_reads_it():
    command = [sys.executable, "-m", "resip.core_watch", str(min(os.sched_getaffinity(0)))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=60.0)
