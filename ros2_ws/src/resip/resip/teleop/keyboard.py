"""The keyboard of a terminal as a source: a step a key press.

    a d  left right      w s  away from and towards the operator      q e  up down
    i k  j l  u o        turn about the tool's x, y and z
    [ ]                  smaller and larger steps
    z gripper   b begin   p pause or go on   m mark a stage   t keep   n discard
    space                stop the robot until it is armed again
    backspace            undo the last seconds (training environment)

A key that is held repeats, as terminals do, and so moves on; silence is rest. A terminal that is closed is lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import numpy as np

from resip.teleop.source import Button, Motion, RawInput, SourceError
from resip.teleop.terminal import Terminal

#: Axis and sign of each key; an operator who faces the robot has its base's +y on the right and +x before him.
_MOVES: Final = {
    "s": (0, 1.0),
    "w": (0, -1.0),
    "d": (1, 1.0),
    "a": (1, -1.0),
    "q": (2, 1.0),
    "e": (2, -1.0),
    "i": (3, 1.0),
    "k": (3, -1.0),
    "j": (4, 1.0),
    "l": (4, -1.0),
    "u": (5, 1.0),
    "o": (5, -1.0),
}
_BUTTONS: Final = {
    "z": Button.GRIPPER,
    "b": Button.BEGIN,
    "p": Button.PAUSE,
    "m": Button.MARK,
    "t": Button.KEEP,
    "n": Button.DISCARD,
    "\x7f": Button.UNDO,  # backspace
    " ": Button.STOP,
}
_SIZES: Final = {"[": 0.5, "]": 2.0}
_SMALLEST: Final = 0.125
HELP: Final = (__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]


class Keyboard:
    """A terminal's keyboard as a ``Source``.

    Args:
      terminal: its file, such as ``/dev/pts/3``. Its lines are not echoed while it is open; Ctrl-C works.
      steady_s: the clock of the samples.
    """

    def __init__(self, terminal: str, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._name = terminal
        self._steady_s = steady_s
        self._terminal: Terminal | None = None
        self._lock = threading.Lock()
        self._size = 1.0
        self._forget()

    def _forget(self) -> None:
        self._axes = np.zeros(6)
        self._pressed: set[Button] = set()
        self._heard_s = self._steady_s()

    def open(self) -> str:
        """Take the terminal; its name.

        Raises:
          SourceError: it is none.
        """
        if not self._name:
            raise SourceError("the keyboard is read from a terminal, and there is none: start this in one")
        terminal = Terminal(self._name)
        with self._lock:
            self._forget()
            self._terminal = terminal
        return f"keyboard of {self._name}"

    def read(self, timeout_s: float) -> RawInput | None:
        """Take in the keys that were pressed; None if there were none.

        Raises:
          SourceLostError: the terminal was closed.
        """
        assert self._terminal is not None
        keys = self._terminal.read(timeout_s)
        if not keys:
            return None
        with self._lock:
            for key in keys:
                self._take(key)
            self._heard_s = self._steady_s()
            return RawInput(self._axes.tolist(), [int(button in self._pressed) for button in _BUTTONS.values()])

    def _take(self, key: str) -> None:
        if key in _MOVES:
            axis, sign = _MOVES[key]
            self._axes[axis] = sign * self._size
        elif key in _BUTTONS:
            self._pressed.add(_BUTTONS[key])
        elif key in _SIZES:
            self._size = float(np.clip(self._size * _SIZES[key], _SMALLEST, 1.0))

    def sample(self, now_s: float) -> Motion | str:
        """One step along each axis whose key was pressed since the last sample."""
        with self._lock:
            if self._terminal is None:
                return "no keyboard"
            axes, pressed = self._axes, frozenset(self._pressed)
            self._axes, self._pressed = np.zeros(6), set()
            return Motion(axes[:3], axes[3:], pressed, frozenset(), self._heard_s)

    def close(self) -> None:
        """Give the terminal back as it was; harmless when not open."""
        with self._lock:
            terminal, self._terminal = self._terminal, None
        if terminal is not None:
            terminal.close()
