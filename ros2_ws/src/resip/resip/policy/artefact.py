"""Exported policies: a folder with a TorchScript module, its manifest and a golden example.

    policy.pt       (robot_state (B, 16) float32, front and wrist (B, 240, 320, 3) uint8, noise (B, T_p, 10)
                    float32) -> actions (B, T_p, 10) float32; cropping, normalisation and denoising are inside
    manifest.json   sha256 of both files, contract, shapes, horizons, where data and weights come from
    golden.npz      one real observation, its noise and the actions they gave when the module was exported
    README.md       the model card

Loading verifies all of it, because a policy that is fed the wrong frame or unit moves the arm wrongly.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from resip import spaces
from resip.errors import ResipError

FORMAT: Final = "resip-policy"
FORMAT_VERSION: Final = 1
MODULE_FILE: Final = "policy.pt"
MANIFEST_FILE: Final = "manifest.json"
GOLDEN_FILE: Final = "golden.npz"
CARD_FILE: Final = "README.md"
GOLDEN_TOLERANCE: Final = 1e-3  # 1 mm in positions: other CPUs round differently, another model is far off

_IMAGE_SHAPE: Final = (spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3)


class Policy:
    """A verified policy, ready to predict; made by `load_policy`.

    Not thread-safe: one thread predicts. Predictions follow from the seed and the calls since `reset`.

    Attributes:
      manifest: the manifest as read.
      prediction_horizon: actions of a chunk (T_p).
      action_horizon: actions to execute before asking for the next chunk (T_a).
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], module: torch.jit.ScriptModule, seed: int) -> None:
        self.manifest = manifest
        self.prediction_horizon: int = manifest["horizons"]["prediction"]
        self.action_horizon: int = manifest["horizons"]["action"]
        self._folder = folder
        self._module = module
        self._generator = torch.Generator()
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Restart the noise: the same seed and observations give the same chunks."""
        self._generator.manual_seed(seed)

    def chunk(self, state: ArrayLike, front: NDArray[np.uint8], wrist: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Predict a chunk; action i belongs to the observation's time + i * 0.1 s.

        Args:
          state: robot state ``(16,)``, see `resip.spaces`.
          front: ``(240, 320, 3)`` uint8 rgb8.
          wrist: likewise.

        Returns:
          Absolute actions ``(T_p, 10)``.

        Raises:
          ResipError: an input has the wrong shape or type, or the state is not finite.
        """
        robot_state = np.asarray(state, dtype=np.float32)
        if robot_state.shape != (spaces.STATE_DIM,):
            raise ResipError(f"the policy takes a robot state of {spaces.STATE_DIM} numbers, got {robot_state.shape}")
        if not np.isfinite(robot_state).all():
            raise ResipError("the robot state that the policy was given is not finite")
        _check_image("front", front)
        _check_image("wrist", wrist)
        noise = torch.randn(1, self.prediction_horizon, spaces.ACTION_DIM, generator=self._generator)
        return self._run(robot_state[None], front[None], wrist[None], noise)[0]

    def warm_up(self) -> None:
        """Run the golden example until the module is compiled, and compare with what the export gave.

        Raises:
          ResipError: the module computes something else on this machine.
        """
        with np.load(self._folder / GOLDEN_FILE) as golden:
            inputs = (golden["robot_state"], golden["front"], golden["wrist"])
            noise, expected = torch.from_numpy(golden["noise"]), golden["actions"]
        runs = [self._run(*inputs, noise) for _ in range(3)]  # the executor compiles during the first ones
        worst = float(np.abs(runs[-1] - expected).max())
        if not worst <= GOLDEN_TOLERANCE:
            raise ResipError(
                f"{self._folder}: the golden example comes out {worst:.2g} off (allowed {GOLDEN_TOLERANCE}): "
                "this machine computes another policy than the one exported"
            )

    def _run(
        self, state: NDArray[np.float32], front: NDArray[np.uint8], wrist: NDArray[np.uint8], noise: torch.Tensor
    ) -> NDArray[np.float64]:
        images = [torch.from_numpy(np.ascontiguousarray(image)) for image in (front, wrist)]
        with torch.inference_mode():
            return self._module(torch.from_numpy(state), *images, noise).numpy().astype(np.float64)


def load_policy(folder: Path | str, *, seed: int = 0, threads: int = 1) -> Policy:
    """Load an exported policy after verifying its files and its contract.

    Args:
      folder: for instance ``models/one_leg``.
      seed: of the denoising noise.
      threads: threads that torch may compute with in this process; more than one beside other load is slower.

    Raises:
      ResipError: not a model folder, a missing or altered file, or a contract that differs (naming the field).
    """
    torch.set_num_threads(threads)
    module, manifest = load_module(Path(folder))
    return Policy(Path(folder), manifest, module, seed)


def load_module(folder: Path) -> tuple[torch.jit.ScriptModule, dict[str, Any]]:
    """Verify a model folder; return its TorchScript module, for batches, and its manifest.

    Raises:
      ResipError: as `load_policy`.
    """
    manifest = read_manifest(folder)
    for name, recorded in manifest["contract"].items():
        _check_field(folder, name, recorded, spaces.contract("image").get(name))
    for name in spaces.contract("image").keys() - manifest["contract"].keys():
        _check_field(folder, name, None, spaces.contract("image")[name])
    for name in (MODULE_FILE, GOLDEN_FILE):
        _check_file(folder / name, manifest["sha256"][name])
    return torch.jit.load(str(folder / MODULE_FILE), map_location="cpu").eval(), manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a model's manifest.

    Raises:
      ResipError: not a model folder, or a manifest that this version does not understand.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ResipError(f"{folder} is not a model folder: it has no {MANIFEST_FILE}; make one with `resip export`")
    try:
        manifest = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ResipError(f"{path} is damaged: {error}; export the model again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ResipError(f"{path} is not the manifest of a policy; make one with `resip export`")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ResipError(f"{path} has format {manifest.get('format_version')}, this program reads {FORMAT_VERSION}")
    return manifest


def file_sha256(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_field(folder: Path, name: str, recorded: object, wanted: object) -> None:
    if recorded != wanted:
        raise ResipError(
            f"{folder} was made for another contract: {name} is {recorded!r} there and {wanted!r} here; "
            "use a model exported by this version"
        )


def _check_file(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise ResipError(f"{path} is missing: restore it, or export the model again")
    if file_sha256(path) != sha256:
        raise ResipError(f"{path} is not the file that its manifest describes (sha256 differs): restore it")


def _check_image(camera: str, image: NDArray[np.uint8]) -> None:
    if image.shape != _IMAGE_SHAPE or image.dtype != np.uint8:
        raise ResipError(
            f"the policy takes {camera} images of shape {_IMAGE_SHAPE} uint8, got {image.shape} {image.dtype}"
        )
