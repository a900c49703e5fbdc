"""What moves the arm while faults are put in: a circle at 0.1 m/s, as recorded actions and as a policy on images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from resip import spaces
from resip.control import panda
from resip.faults.circle import HORIZON, Circle
from resip.policy import artefact
from resip.polymetis.archives import script

SPEED_M_S: Final = 0.1
_RADIUS_M: Final = 0.06
_HEIGHT_M: Final = 0.1


def circle(duration_s: float) -> NDArray[np.float64]:
    """Actions ``(n, 10)`` from the reset pose up and round and round."""
    home = panda.ee_pose(panda.RESET_RAD)
    travelled_m = SPEED_M_S * spaces.CONTROL_PERIOD_S * np.arange(1, round(duration_s / spaces.CONTROL_PERIOD_S) + 1)
    angles = travelled_m / _RADIUS_M
    offsets = _RADIUS_M * np.stack([1.0 - np.cos(angles), np.sin(angles), np.zeros_like(angles)], axis=1)
    offsets[:, 2] = np.minimum(travelled_m, _HEIGHT_M)
    return np.array([spaces.pack_action(home.position + offset, home.matrix, -1.0) for offset in offsets])


def write_policy(folder: Path, spoilt: bool = False) -> Path:
    """Export ``Circle`` as the policy node loads it.

    Args:
      folder: where it goes.
      spoilt: whether its file is other than its manifest says: a wrong model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home = panda.ee_pose(panda.RESET_RAD)
    action = spaces.pack_action(home.position, home.matrix, -1.0)
    step_m = SPEED_M_S * spaces.CONTROL_PERIOD_S
    module = script(Circle(action, _RADIUS_M, _HEIGHT_M, step_m))
    module.save(str(folder / artefact.MODULE_FILE))
    state = panda.robot_state(panda.RESET_RAD, np.zeros(panda.DOF), 0.06)[None].astype(np.float32)
    frame = np.zeros((1, spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3), np.uint8)
    noise = np.zeros((1, HORIZON, spaces.ACTION_DIM), np.float32)
    golden = {"robot_state": state, "front": frame, "wrist": frame, "noise": noise}
    actions = module(*map(torch.from_numpy, golden.values())).numpy()
    np.savez(folder / artefact.GOLDEN_FILE, allow_pickle=False, **golden, actions=actions)
    manifest = {
        "format": artefact.FORMAT,
        "format_version": artefact.FORMAT_VERSION,
        "contract": spaces.contract("image"),
        "horizons": {"observation": 1, "prediction": HORIZON, "action": 8},
        "sha256": {name: artefact.file_sha256(folder / name) for name in (artefact.MODULE_FILE, artefact.GOLDEN_FILE)},
    }
    (folder / artefact.MANIFEST_FILE).write_text(json.dumps(manifest))
    if spoilt:
        with (folder / artefact.MODULE_FILE).open("ab") as file:
            file.write(b"0")
    return folder
