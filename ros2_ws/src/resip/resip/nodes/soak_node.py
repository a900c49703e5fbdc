"""In the operator's place during a soak: begins each trial, clears up after it, and watches what the graph uses."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final

from diagnostic_msgs.msg import DiagnosticArray
from std_srvs.srv import Trigger

from resip import topics
from resip.core_watch import CoreWatch
from resip.nodes import messages, runtime
from resip.soak import USAGE_FILE, reduce_bags
from resip.trials.protocol import Phase

_SAMPLE_PERIOD_S: Final = 1.0
_BYTES_PER_MB: Final = 1e6
_NODE_NAME: Final = "__node:="
_STEAL: Final = 8  # column of /proc/stat


class SoakNode(runtime.ResipNode):
    """Parameters in ``__init__``."""

    def __init__(self) -> None:
        super().__init__("soak_node")
        self._directory = Path(self.parameter("directory", "", "Folder of the trials"))
        self._asked = False  # whether the trial that waits was told to begin
        self._cores = [CoreWatch(number) for number in sorted(os.sched_getaffinity(0))]
        self._begin = self.create_client(Trigger, topics.TRIAL_BEGIN)
        self.create_subscription(DiagnosticArray, topics.TRIAL_STATUS, self._on_trial, runtime.STATUS_QOS)
        self.create_timer(_SAMPLE_PERIOD_S, self._sample)

    def close(self) -> None:
        """End the watch."""
        for core in self._cores:
            core.close()

    def _on_trial(self, message: DiagnosticArray) -> None:
        waits = messages.diagnostic_values(message)["phase"].startswith(Phase.WAIT.value)
        if waits and not self._asked and self._begin.service_is_ready():
            reduce_bags(self._directory)  # nothing runs now that it could disturb
            self._sample()  # of a trial that ends before the next period, too
            self._begin.call_async(Trigger.Request())
            self._asked = True
        elif not waits:
            self._asked = False

    def _sample(self) -> None:
        with (self._directory / USAGE_FILE).open("a") as stream:
            late_s = [core.worst_s() for core in self._cores]
            machine = {"stolen_s": _stolen_s(), "late_s": late_s}
            row = {"time_s": time.time(), **machine, "processes": _usage(os.getppid())}
            print(json.dumps(row), file=stream)


def _stolen_s() -> list[float]:
    """Time of each core that a virtual machine's host gave to others since the start (``man proc_stat``)."""
    lines = Path("/proc/stat").read_text().splitlines()
    cores = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
    return [int(words[_STEAL]) / os.sysconf("SC_CLK_TCK") for words in cores]


def _usage(supervisor: int) -> dict[str, dict[str, float]]:
    """Resident memory and CPU time so far of each node that a process has started, by name."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    found = {}
    for pid in children:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            ticks = [int(word) for word in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        name = next((word.removeprefix(_NODE_NAME) for word in command if word.startswith(_NODE_NAME)), "")
        if name:
            resident_mb = pages * os.sysconf("SC_PAGE_SIZE") / _BYTES_PER_MB
            found[name] = {"resident_mb": resident_mb, "cpu_s": sum(ticks) / os.sysconf("SC_CLK_TCK")}
    return found


def main() -> None:
    """Run the node."""
    runtime.main(SoakNode)


if __name__ == "__main__":
    main()
