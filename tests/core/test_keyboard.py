"""The keyboard of a terminal as a source, on a pseudo terminal."""

import os
import pty
import termios

import numpy as np
import pytest
from resip.teleop.keyboard import Keyboard
from resip.teleop.source import Button, SourceError, SourceLostError


@pytest.fixture
def terminal():
    """The operator's end of a terminal, and its file's name."""
    operator, program = pty.openpty()
    yield operator, os.ttyname(program), program
    for file in (operator, program):
        try:
            os.close(file)
        except OSError:
            continue


@pytest.fixture
def keyboard(terminal):
    keyboard = Keyboard(terminal[1])
    keyboard.open()
    yield keyboard
    keyboard.close()


def press(terminal, keyboard, keys):
    os.write(terminal[0], keys.encode())
    keyboard.read(5.0)
    return keyboard.sample(0.0)


@pytest.mark.parametrize(
    ("key", "axis", "sign"), [("s", 0, 1), ("w", 0, -1), ("d", 1, 1), ("a", 1, -1), ("q", 2, 1), ("e", 2, -1)]
)
def test_keys_move(terminal, keyboard, key, axis, sign):
    np.testing.assert_array_equal(press(terminal, keyboard, key).translation, sign * np.eye(3)[axis])


@pytest.mark.parametrize(
    ("key", "axis", "sign"), [("i", 0, 1), ("k", 0, -1), ("j", 1, 1), ("l", 1, -1), ("u", 2, 1), ("o", 2, -1)]
)
def test_keys_turn(terminal, keyboard, key, axis, sign):
    np.testing.assert_array_equal(press(terminal, keyboard, key).rotation, sign * np.eye(3)[axis])


def test_a_key_that_repeats_is_one_step_a_sample_and_then_rest(terminal, keyboard):
    assert press(terminal, keyboard, "qqqqq").translation[2] == 1.0
    assert not keyboard.sample(0.0).moves


def test_brackets_change_the_step(terminal, keyboard):
    assert press(terminal, keyboard, "[[q").translation[2] == 0.25
    assert press(terminal, keyboard, "]]]]q").translation[2] == 1.0


def test_other_keys_are_buttons_or_nothing(terminal, keyboard):
    assert press(terminal, keyboard, "zm").pressed == {Button.GRIPPER, Button.MARK}
    assert press(terminal, keyboard, "7\x1b[A").pressed == frozenset()


def test_the_terminal_is_given_back_as_it_was(terminal):
    before = termios.tcgetattr(terminal[2])
    keyboard = Keyboard(terminal[1])
    keyboard.open()
    while_open = termios.tcgetattr(terminal[2])
    keyboard.close()
    assert not while_open[3] & termios.ECHO
    assert while_open[3] & termios.ISIG  # Ctrl-C still ends the program
    assert termios.tcgetattr(terminal[2]) == before
    assert keyboard.sample(0.0) == "no keyboard"


def test_a_terminal_that_is_closed_is_lost(terminal, keyboard):
    os.close(terminal[0])
    with pytest.raises(SourceLostError, match="was closed"):
        keyboard.read(5.0)


@pytest.mark.parametrize(("path", "message"), [("", "start this in one"), ("/dev/null", "no terminal"), ("/x", "/x")])
def test_what_is_no_terminal_is_refused(path, message):
    with pytest.raises(SourceError, match=message):
        Keyboard(path).open()
