"""Recorded actions, executed open loop: what separates a fault of the graph from a fault of the policy."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resip import spaces
from resip.errors import ResipError

#: How a replay is written where a policy's folder could stand: ``replay:PATH.npz``.
REPLAY_PREFIX = "replay:"


def load_actions(path: Path | str) -> NDArray[np.float64]:
    """Read the actions ``(T, 10)`` of an ``.npz`` file with the one array ``actions``, one a tick of 10 Hz.

    Raises:
      ResipError: no such file, no such array, a wrong shape, or numbers that are not finite.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            actions = np.asarray(file["actions"], dtype=np.float64)
    except FileNotFoundError as error:
        raise ResipError(f"there is no recording of actions at {path}") from error
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ResipError(f"{path} is no recording of actions, an .npz with the array 'actions': {error}") from error
    if actions.ndim != 2 or actions.shape[1] != spaces.ACTION_DIM or not len(actions):
        raise ResipError(f"{path}: the actions have shape {actions.shape}, not (T, {spaces.ACTION_DIM})")
    if not np.all(np.isfinite(actions)):
        raise ResipError(f"{path}: an action is not finite, the first at index {int(_first_bad(actions))}")
    return actions


def save_actions(path: Path | str, actions: NDArray[np.float64]) -> None:
    """Write actions ``(T, 10)`` for ``load_actions``."""
    np.savez_compressed(path, actions=actions)


def _first_bad(actions: NDArray[np.float64]) -> int:
    return int(np.argmax(~np.isfinite(actions).all(axis=1)))
