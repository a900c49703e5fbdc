"""A graph as processes: what ``resip up`` and ``resip trial`` run, on machines with or without ``ros2 launch``.

Every node is a process in a session of its own, so that Ctrl-C reaches this supervisor alone and the nodes
end in order. A required node that ends takes the graph with it. Nothing outlives the supervisor: nodes get
SIGTERM, then SIGKILL, all within three seconds, and the kernel ends them if the supervisor is killed itself.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from resip.errors import ResipError
from resip.graph import TRIAL_NODE, GraphArguments, NodeSpec, Parameter, graph

#: The nodes are asked to end one after the other, who commands before who is commanded, each with this much time;
_TURN_S: Final = 0.25
#: then all that are left, with so much time in all. Not SIGINT: it is a traceback in a program that is still importing.
_ENDING: Final = ((signal.SIGTERM, 0.8), (signal.SIGKILL, 0.4))
_POLL_S: Final = 0.1
_COLOURS: Final = (36, 33, 35, 32, 34, 31)
#: Also named in ``nodes.runtime``, which cannot be imported without ROS.
_SUPERVISED_ENV: Final = "RESIP_SUPERVISED"

Sink = Callable[[str, str], None]


class GraphError(ResipError):
    """A graph that ended because a required node did."""


@dataclass
class _Process:
    """One running node."""

    spec: NodeSpec
    popen: subprocess.Popen[str]
    last_line: str = ""

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole session: the node, and whatever it started; nothing where it has ended."""
        if self.popen.poll() is None:  # also while the thread that waits for its end is just taking its status
            with suppress(ProcessLookupError):
                os.killpg(self.popen.pid, number)

    def ending(self) -> str:
        """How the process ended, in words."""
        status = self.popen.returncode
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"{self.spec.name} {how}" + (f": {self.last_line}" if self.last_line else "")


def up(arguments: GraphArguments) -> int:
    """Run the graph of a task until Ctrl-C, or until its trials are done; its exit status.

    Raises:
      ResipError: the arguments do not fit, or a required node ended.
    """
    nodes = graph(arguments)
    return run(nodes, foreground=TRIAL_NODE if arguments.trials else None, params_file=arguments.params_file)


def run(
    nodes: Sequence[NodeSpec],
    foreground: str | None = None,
    log_file: Path | None = None,
    params_file: str = "",
) -> int:
    """Run nodes as processes until one ends that the graph needs, or SIGINT or SIGTERM comes.

    Args:
      nodes: in the order to start them.
      foreground: name of a node that has the terminal to itself, and whose end is the graph's.
      log_file: where the other nodes' lines go; None: to stderr, each with its node's name.
      params_file: ROS parameter file for all nodes.

    Returns:
      The foreground node's exit status, or 0 after a signal.

    Raises:
      GraphError: a required node ended; names it and says why.
    """
    with ExitStack() as stack:
        stop = stack.enter_context(_signals())
        sink = stack.enter_context(_log(log_file, [spec.name for spec in nodes]))
        ended: queue.Queue[_Process] = queue.Queue()
        processes: list[_Process] = []
        stack.callback(_end_all, processes)
        for spec in nodes:
            processes.append(_start(spec, spec.name == foreground, params_file, sink, ended))
        first = _first_ended(stop, ended)
        if first is None:
            return 0
        if first.spec.name == foreground and first.popen.returncode >= 0:
            return first.popen.returncode
        where = f"; see {log_file}" if log_file else ""
        raise GraphError(f"the graph was stopped: {first.ending()}{where}")


def node_command(spec: NodeSpec, params_file: str = "") -> list[str]:
    """Command line that starts a node."""
    command = [sys.executable, "-u", "-m", spec.module, "--ros-args", "-r", f"__node:={spec.name}"]
    command += ["--enclave", spec.enclave]
    if params_file:
        command += ["--params-file", params_file]
    for name, value in spec.parameters.items():
        command += ["-p", f"{name}:={_yaml(value)}"]
    return command


def _yaml(value: Parameter) -> str:
    """A parameter's value so that ROS reads its type back: texts in quotes, numbers with their point."""
    return json.dumps(value)


def node_environment() -> dict[str, str]:
    """Environment of a node: it writes its lines at once, and ends when the process that started it does."""
    return {
        "RCUTILS_CONSOLE_OUTPUT_FORMAT": "{severity} {message}",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        _SUPERVISED_ENV: "1",
    }


def _start(spec: NodeSpec, in_foreground: bool, params_file: str, sink: Sink, ended: queue.Queue[_Process]) -> _Process:
    popen = subprocess.Popen(
        node_command(spec, params_file),
        stdin=subprocess.DEVNULL,
        stdout=None if in_foreground else subprocess.PIPE,
        stderr=None if in_foreground else subprocess.STDOUT,
        text=True,
        errors="replace",
        env=node_environment(),
        start_new_session=True,
    )
    process = _Process(spec, popen)

    def follow() -> None:
        """Pass each line of the process on until its output ends."""
        for line in popen.stdout or ():
            if line.strip():
                process.last_line = line.strip()
                sink(spec.name, line.rstrip("\n"))
        popen.wait()
        if spec.required or in_foreground:
            ended.put(process)

    threading.Thread(target=follow, daemon=True).start()
    return process


def _first_ended(stop: threading.Event, ended: queue.Queue[_Process]) -> _Process | None:
    """Wait for a node that the graph needs to end, or for a signal (None)."""
    while not stop.is_set():
        try:
            return ended.get(timeout=_POLL_S)
        except queue.Empty:
            continue
    return None


def _end_all(processes: Sequence[_Process]) -> None:
    for process in reversed(processes):
        process.signal(signal.SIGTERM)
        _wait([process], _TURN_S)
    for number, patience_s in _ENDING:
        for process in processes:
            process.signal(number)
        _wait(processes, patience_s)


def _wait(processes: Sequence[_Process], patience_s: float) -> None:
    """Wait until all have ended, or the time is over."""
    deadline_s = time.monotonic() + patience_s
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.popen.wait(max(0.0, deadline_s - time.monotonic()))


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Event that SIGINT or SIGTERM sets, while the block runs."""
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _log(path: Path | None, names: Sequence[str]) -> Iterator[Sink]:
    """Where the nodes' lines go, each with the name of its node."""
    width = max(len(name) for name in names)
    lock = threading.Lock()

    def write_to(stream: IO[str], coloured: bool) -> Sink:
        """A sink that writes prefixed lines to ``stream``."""

        def write(name: str, line: str) -> None:
            """Write one line of the node ``name``."""
            prefix = f"{name:<{width}} |"
            if coloured:
                prefix = f"\033[{_COLOURS[names.index(name) % len(_COLOURS)]}m{prefix}\033[0m"
            with lock:
                print(f"{prefix} {line}", file=stream, flush=True)

        return write

    if path is None:
        yield write_to(sys.stderr, sys.stderr.isatty())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        yield write_to(stream, coloured=False)
