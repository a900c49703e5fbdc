"""The errors that a user can cause or mend: each message names what was wrong, where, and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ResipError(Exception):
    """Base of every error that the command line and the nodes print as one line, without a traceback."""


class UnknownNameError(ResipError):
    """A name that is not among the valid ones.

    Args:
      kind: what the name stands for: "task", "camera", "command".
      name: what was given.
      valid: every name that would have been right.
    """

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        choices = sorted(valid)
        nearest = difflib.get_close_matches(name, choices, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        super().__init__(f"unknown {kind} {name!r}: {hint}choose from {', '.join(choices)}")


def check_name(kind: str, name: str, valid: Iterable[str]) -> None:
    """Refuse a name that is not among ``valid``.

    Raises:
      UnknownNameError: with the choices and the nearest of them.
    """
    choices = list(valid)
    if name not in choices:
        raise UnknownNameError(kind, name, choices)
