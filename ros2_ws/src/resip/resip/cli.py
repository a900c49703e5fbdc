"""The program `resip`: its commands are frozen dataclasses, their fields the options.

A command's module holds only its description; ``run`` imports what it needs, so that ``resip --help`` loads
neither torch nor rclpy. Other packages add commands through the entry point group ``resip.commands``: a
mapping from a command's name ("expert", or "train bc" for a command within a group) to its class. A name that is
here already stands for a class that can do more: ``report`` of training runs.
"""

from __future__ import annotations

import itertools
import os
import select
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Final, Protocol, get_args, get_type_hints

import numpy as np
import tyro
from typing_extensions import Doc
from tyro.conf import Positional

import resip
from resip.errors import ResipError, check_name
from resip.graph import EVALUATE, GRAPHS, TASKS, GraphArguments

_INTERRUPTED: Final = 128 + 2  # the shells' convention: 128 + SIGINT
_UNHEARD: Final = 128 + 13  # and SIGPIPE
_ENTRY_POINTS: Final = "resip.commands"
_TASK_HELP: Final = f"Task, or evaluate with --protocol: {', '.join((*TASKS, EVALUATE))}."


@dataclass(frozen=True)
class AtLeast:
    """Annotates an option whose numbers must not be smaller: ``Annotated[int, AtLeast(1)]``."""

    least: float


#: How many of something: one or more.
Count = Annotated[int, AtLeast(1)]


class Command(Protocol):
    """What a class in a mapping of commands must offer; its docstring is the command's help."""

    def run(self) -> int | None:
        """Do it; the exit status where it is not 0.

        Raises:
          ResipError: it failed; the program prints the message in one line and exits with status 1.
        """
        ...


@dataclass(frozen=True)
class Doctor:
    """Tell what this machine has and lacks, with a remedy a line."""

    robot_ip: str | None = None
    """Control PC whose Polymetis servers to try."""
    models: Path = Path("models")
    """Folder of the exported policies."""
    json: Path | None = None
    """Write the findings here as well."""

    def run(self) -> None:
        """Check everything and print it."""
        from resip import doctor

        doctor.examine(self.models, self.robot_ip, self.json)


@dataclass(frozen=True)
class Up(GraphArguments):
    """Start the graph of a task (teleop, evaluate), as `ros2 launch resip TASK.launch.py` does, until Ctrl-C."""

    task: Positional[Annotated[str, Doc(f"Task, teleop or evaluate: {', '.join(GRAPHS)}.")]] = field()

    def run(self) -> int:
        """Run the graph; its exit status."""
        from resip import process

        return process.up(self)


@dataclass(frozen=True)
class Trial(GraphArguments):
    """Run, judge and record trials of a task on the simulated cell or the robot, then write the report."""

    task: Positional[Annotated[str, Doc(_TASK_HELP)]] = field()
    trials: Annotated[int, tyro.conf.arg(name="n"), Doc("Trials of each policy.")] = 1
    json: Annotated[Path | None, Doc("Write the figures here as well.")] = None

    def run(self) -> None:
        """Run the trials, print the outcome and where the report is."""
        from resip.trials.run import run_trials

        run_trials(self, self.json)


@dataclass(frozen=True)
class Report:
    """Write the HTML report of trials; several sets are compared."""

    directory: Positional[Path]
    """Folder that `resip trial` wrote."""
    others: Positional[tuple[Path, ...]] = ()
    """More of them, to compare with it."""
    out: Path | None = None
    """The file; by default report.html in the folder."""

    def run(self) -> None:
        """Write the page and tell where it is."""
        from resip.trials.report import report

        report((self.directory, *self.others), self.out)


@dataclass(frozen=True)
class BagInfo:
    """Tell what a recording holds: topics, counts, rates, gaps and losses."""

    bag: Positional[Path]
    """Folder of the bag."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Print the table."""
        from resip.recording.commands import bag_info

        bag_info(self.bag, self.json)


@dataclass(frozen=True)
class BagCheck:
    """Fail unless recordings are whole: closed, nothing lost, every topic of the graph there."""

    bags: Positional[tuple[Path, ...]]
    """Bags, or folders of them."""
    json: Path | None = None
    """Write the figures here as well."""

    def run(self) -> None:
        """Print a table of each and the verdict."""
        from resip.recording.commands import bag_check

        bag_check(self.bags, self.json)


@dataclass(frozen=True)
class Soak:
    """Run the graph of a real robot for long, on software cameras and a simulated arm, and hold it to its bounds."""

    minutes: Annotated[float, AtLeast(0.1)] = 60.0
    """Of the policy's time."""
    record: Path = Path("trials")
    """Folder in which the run gets a folder of its own."""
    json: Path | None = None
    """Write the figures here as well, and the table beside them."""

    def run(self) -> None:
        """Run it and print the table."""
        from resip.soak import soak

        soak(self.minutes, self.record, self.json)


@dataclass(frozen=True)
class Faults:
    """Put faults into running graphs of the simulated cell and measure how soon the arm holds ([docs/safety.md])."""

    settings: Positional[tuple[str, ...]] = ()
    """Which graphs; all of them by default."""
    short: bool = False
    """Only a few faults, in half a minute."""
    json: Path | None = None
    """Write the figures here as well."""
    table: Path | None = None
    """Put the table into this page, between its marks."""
    logs: Path | None = None
    """Keep the nodes' lines and the bags in this folder."""

    def run(self) -> int:
        """Print a line a fault; status 1 if one was not held as it must be."""
        from resip.faults import matrix, report

        results = matrix.run(self.settings, self.short, self.logs)
        if self.json is not None:
            report.write_json(results, self.json)
        if self.table is not None:
            report.write_table(results, self.table)
        return 0 if all(result.ok for result in results) else 1


@dataclass(frozen=True)
class Arm:
    """Arm the robot of the graph that runs, and tell what was checked; nothing moves before."""

    def run(self) -> None:
        """Ask the supervisor."""
        from resip import topics
        from resip.nodes.ask import ask

        print(ask(topics.ARM))


@dataclass(frozen=True)
class Stop:
    """Stop the robot of the graph that runs, until it is armed again. A software stop, not safety rated."""

    def run(self) -> None:
        """Ask the supervisor."""
        from resip import topics
        from resip.nodes.ask import ask

        print(ask(topics.STOP))


@dataclass(frozen=True)
class BagToRerun:
    """Write a recording as a Rerun file: cameras, poses, joints and statuses on one time line."""

    bag: Positional[Path]
    """Folder of the bag."""
    out: Path
    """The .rrd file."""

    def run(self) -> None:
        """Write it and tell how it is opened."""
        from resip.recording.rerun import bag_to_rerun

        bag_to_rerun(self.bag, self.out)


COMMANDS: Final[dict[str, type[Command]]] = {
    "doctor": Doctor,
    "up": Up,
    "trial": Trial,
    "arm": Arm,
    "stop": Stop,
    "faults": Faults,
    "report": Report,
    "soak": Soak,
    "bag info": BagInfo,
    "bag check": BagCheck,
    "bag to-rerun": BagToRerun,
}


def commands() -> dict[str, type[Command]]:
    """Every command by name: the robot side's own, then those of the installed packages."""
    found = dict(COMMANDS)
    for entry_point in entry_points(group=_ENTRY_POINTS):
        found.update(entry_point.load())
    return found


def _overview(available: Mapping[str, type[Command]], group: str = "") -> str:
    """List the commands, or those of one group, with the first line of their help."""
    listed = {name: cls for name, cls in available.items() if name == group or name.startswith(f"{group} ".lstrip())}
    width = max(len(name) for name in listed) + 2
    lines = [f"  {name:{width}}{(cls.__doc__ or '').strip().splitlines()[0]}" for name, cls in listed.items()]
    usage = f"usage: resip {group} COMMAND ...".replace("  ", " ")
    head = [] if group else [f"resip {resip.__version__}: residual reinforcement learning for precise assembly.", ""]
    return "\n".join([usage, "", *head, *lines, "", "`resip COMMAND --help` tells a command's options."])


def _command_name(arguments: Sequence[str], available: Mapping[str, type[Command]]) -> str:
    """The command that a line starts with, "" for none: its first word, or two for a command of a group.

    Raises:
      UnknownNameError: there is no such command.
    """
    words = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))[:2]
    if not words:
        return ""
    groups = {name.partition(" ")[0] for name in available if " " in name}
    check_name("command", words[0], groups | {name for name in available if " " not in name})
    if words[0] not in groups or len(words) == 1:
        return words[0]
    members = {name.partition(" ")[2] for name in available if name.startswith(f"{words[0]} ")}
    check_name(f"{words[0]} command", words[1], members)
    return " ".join(words)


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line, given without the program's name; its exit status.

    Raises:
      ResipError: what went wrong, for the user.
      SystemExit: help was asked for, or an option's form is wrong (status 2).
    """
    available = commands()
    name = _command_name(arguments, available)
    if name not in available:
        print(_overview(available, name))
        return 0
    options = arguments[len(name.split()) :]
    command = tyro.cli(available[name], prog=f"resip {name}", args=options)
    _check_options(command)
    return command.run() or 0


def _check_options(command: Command) -> None:
    """Refuse before the work what would end it: numbers that are too small, and a ``json`` that cannot be written.

    Raises:
      ResipError: naming the option.
    """
    for name, hint in get_type_hints(type(command), include_extras=True).items():
        value = getattr(command, name)
        if value is None:
            continue
        of_all_types = (hint, *get_args(hint))
        for bound in (bound for one in of_all_types for bound in getattr(one, "__metadata__", ())):
            if isinstance(bound, AtLeast) and any(one < bound.least for one in np.atleast_1d(value)):
                raise ResipError(f"--{name.replace('_', '-')} is {bound.least:g} or greater, got {value}")
    path = getattr(command, "json", None)
    if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise ResipError(f"--json {path}: {path.parent} is not a folder that can be written to")


def _output_is_unheard() -> bool:
    """Whether it was the reader of our output that closed a pipe."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def main() -> None:
    """Run the program; expected errors are one line on stderr and status 1, an interrupt is status 130.

    Where nobody reads the output any more (``resip ... | head``) it ends with status 141, without a word.
    """
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        print(f"resip {resip.__version__}")
        return
    try:
        status = run(arguments)
        sys.stdout.flush()
    except ResipError as error:
        print(f"resip: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _output_is_unheard():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where what is left in buffers goes
            sys.exit(_UNHEARD)
        if error.filename is None:
            raise
        print(f"resip: error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    sys.exit(status)


if __name__ == "__main__":
    main()
