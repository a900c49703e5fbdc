"""What an evaluation is: the policies compared, from which starts, how often, and in which order.

Every policy runs once from every start, so that their trials are compared in pairs. In the order ``blind`` chance
decides, start by start, which policy goes first, and nobody is told which one runs until all have run.

A protocol file says it once for all who take part::

    task: one_leg
    policies:               # a name of yours: what `--policy` takes
      shipped: models/one_leg
      mine: models/mine
    n: 10                   # trials of each
    # with their defaults: seed 0, randomness low, time_limit_s the task's, order blind, stop_early false, no starts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_type_hints

import numpy as np
from ruamel.yaml import YAML, YAMLError

from resip.errors import ResipError, check_name

Order = Literal["blind", "listed"]
ORDERS: Final[tuple[Order, ...]] = get_args(Order)


class ProtocolError(ResipError):
    """A protocol file, or a list of policies, that says nothing that could be run."""


@dataclass(frozen=True)
class Slot:
    """One trial of an evaluation."""

    index: int
    policy: str
    """Its name in the evaluation."""
    start: int
    """Number of the start: in simulation the seed follows from it, on the robot its picture."""


@dataclass(frozen=True)
class Protocol:
    """What a protocol file holds; see the module."""

    task: str
    policies: dict[str, str]
    n: int
    seed: int = 0
    randomness: str = "low"
    time_limit_s: float = 0.0
    """0: the task's own."""
    order: Order = "blind"
    stop_early: bool = False
    starts: str = ""
    """Folder of an earlier evaluation whose starts are to be laid out again."""


def slots(policies: Sequence[str], n: int, seed: int, order: Order) -> list[Slot]:
    """Trials of an evaluation, in their order; a larger ``n`` only adds to its end."""
    found: list[Slot] = []
    for start in range(n):
        turns = list(policies)
        if order == "blind":
            np.random.default_rng((seed, start)).shuffle(turns)
        found += [Slot(len(found) + turn, policy, start) for turn, policy in enumerate(turns)]
    return found


def parse_policies(text: str) -> dict[str, str]:
    """Read policies as the command line takes them: ``models/a`` or ``mine=models/a,theirs=models/b``.

    Returns:
      What runs, by its name; without a name it is its own.

    Raises:
      ProtocolError: a name stands there twice, or with nothing behind it.
    """
    found: dict[str, str] = {}
    for part in text.split(","):
        name, _, path = part.strip().rpartition("=")
        if not path:
            raise ProtocolError(f"policies {text!r}: give folders with commas between, each as FOLDER or NAME=FOLDER")
        if (name or path) in found:
            raise ProtocolError(f"policies {text!r}: {name or path} stands there twice: give one of them another name")
        found[name or path] = path
    return found


def format_policies(policies: Mapping[str, str]) -> str:
    """The text that ``parse_policies`` reads."""
    return ",".join(path if name == path else f"{name}={path}" for name, path in policies.items())


def read_protocol(path: Path) -> Protocol:
    """Read a protocol file.

    Raises:
      ProtocolError: there is none, or something in it is wrong; names it.
    """
    try:
        content = YAML(typ="safe").load(path.read_text())
    except OSError as error:
        raise ProtocolError(f"no protocol file at {path}: {error.strerror}") from error
    except YAMLError as error:
        raise ProtocolError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ProtocolError(f"{path} is no protocol: expected lines such as `task: one_leg`")
    for name in content:
        check_name(f"entry of {path}", str(name), [field.name for field in fields(Protocol)])
    missing = [name for name in ("task", "policies", "n") if name not in content]
    if missing:
        raise ProtocolError(f"{path} lacks {', '.join(missing)}")
    return Protocol(**{name: _checked(path, name, value) for name, value in content.items()})


def _checked(path: Path, name: str, value: Any) -> Any:
    """Return an entry's value as the type that it has in ``Protocol``."""
    if name == "policies":
        return _checked_policies(path, value)
    kind: Any = get_type_hints(Protocol)[name]
    if name == "order":
        check_name(f"order in {path}", str(value), ORDERS)
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ProtocolError(f"{path}: {name} is {value!r}, expected {_KINDS[kind]}")
    if name == "n" and value < 1:
        raise ProtocolError(f"{path}: n is {value}: ask for at least 1 trial of each policy")
    return value


_KINDS: Final = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _checked_policies(path: Path, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not value or not all(isinstance(folder, str) for folder in value.values()):
        raise ProtocolError(f"{path}: policies is {value!r}, expected a name and a folder each, as `mine: models/mine`")
    policies = {str(name): folder for name, folder in value.items()}
    odd = [text for pair in policies.items() for text in pair if "," in text or "=" in text]
    if odd:
        raise ProtocolError(f"{path}: {odd[0]!r} has a comma or an equals sign, which no name or folder here may have")
    return policies
