"""A terminal whose keys are read one by one, by the file's name: a graph's nodes have none of their own."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from typing import Any

from resip.teleop.source import SourceError, SourceLostError


def own_terminal() -> str:
    """The terminal that this program was started in, empty where there is none; a graph's nodes have none."""
    try:
        return os.ttyname(sys.stdin.fileno())
    except (OSError, ValueError):
        return ""


class Terminal:
    """An open terminal; its lines are not echoed meanwhile, Ctrl-C works.

    Args:
      name: its file, such as ``/dev/pts/3``.

    Raises:
      SourceError: it is none.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            self._file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"cannot read the terminal {name}: {error.strerror}") from error
        try:
            self._mode: list[Any] = termios.tcgetattr(self._file)
            tty.setcbreak(self._file, termios.TCSANOW)
        except termios.error as error:
            os.close(self._file)
            raise SourceError(f"{name} is no terminal") from error

    def read(self, timeout_s: float) -> str:
        """Return the keys that were pressed; empty if there were none.

        Raises:
          SourceLostError: the terminal was closed.
        """
        if not select.select([self._file], [], [], timeout_s)[0]:
            return ""
        try:
            keys = os.read(self._file, 64)
        except OSError as error:
            raise SourceLostError(f"the terminal {self.name} was closed ({error.strerror})") from error
        if not keys:
            raise SourceLostError(f"the terminal {self.name} was closed")
        return keys.decode(errors="ignore")

    def close(self) -> None:
        """Give the terminal back as it was."""
        with contextlib.suppress(termios.error):  # it was closed
            termios.tcsetattr(self._file, termios.TCSANOW, self._mode)
        os.close(self._file)
