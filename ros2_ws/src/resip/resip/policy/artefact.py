"""Exported policies: a folder with a TorchScript module, its manifest and a golden example.

    policy.pt       TorchScript. On images: (robot_state (B, 16) float32, front and wrist (B, 240, 320, 3) uint8,
                    noise (B, T_p, 10) float32) -> actions (B, T_p, 10) float32; cropping, normalisation and
                    denoising are inside. On states two methods: chunk(robot_state, part_poses, noise) -> actions
                    (B, T_p, 10), and correct(robot_state, part_poses, base_action) -> the action (B, 10) to execute
    policy.pt2      the same on images as a program of torch.export; what runs on a GPU
    policy_fp16.pt  the same on images as TorchScript, with weights stored in half the space
    manifest.json   sha256 of the files, contract, shapes, horizons, where data and weights come from
    golden.npz      one real observation, its noise and the actions they gave when the module was exported
    README.md       the model card

Loading verifies all that it uses, because a policy that is fed the wrong frame or unit moves the arm wrongly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from resip import spaces
from resip.errors import ResipError, check_name

FORMAT: Final = "resip-policy"
FORMAT_VERSION: Final = 1
MODULE_FILE: Final = "policy.pt"
PROGRAM_FILE: Final = "policy.pt2"
HALF_FILE: Final = "policy_fp16.pt"
MANIFEST_FILE: Final = "manifest.json"
GOLDEN_FILE: Final = "golden.npz"
CARD_FILE: Final = "README.md"
GOLDEN_TOLERANCE: Final = 1e-3  # 1 mm in positions: other CPUs round differently, another model is far off

#: Methods of a module on states.
STATE_METHODS: Final = ("chunk", "correct")

#: (robot_state, front, wrist, noise) -> actions, batched; on the CPU.
Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

#: What a policy on images takes, in this order.
INPUTS: Final[tuple[str, ...]] = ("robot_state", *spaces.CAMERAS, "noise")
DEVICES: Final = ("cpu", "cuda")

_IMAGE_SHAPE: Final = (spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3)


class Policy:
    """A verified policy, ready to predict; made by `load_policy`.

    Not thread-safe: one thread predicts. Predictions follow from the seed and the calls since `reset`.

    Attributes:
      manifest: the manifest as read.
      prediction_horizon: actions of a chunk (T_p).
      action_horizon: actions to execute before asking for the next chunk (T_a).
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], predict: Predict, seed: int) -> None:
        self.manifest = manifest
        self.prediction_horizon: int = manifest["horizons"]["prediction"]
        self.action_horizon: int = manifest["horizons"]["action"]
        self._folder = folder
        self._predict = predict
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
        arrays = (robot_state, np.ascontiguousarray(front), np.ascontiguousarray(wrist))
        return self._run(*(torch.from_numpy(array).unsqueeze(0) for array in arrays), noise)[0]

    def warm_up(self) -> None:
        """Run the golden example until the module is compiled, and compare with what the export gave.

        Raises:
          ResipError: the module computes something else on this machine.
        """
        inputs = golden_inputs(self._folder)
        with np.load(self._folder / GOLDEN_FILE) as golden:
            expected = golden["actions"]
        runs = [self._run(*inputs) for _ in range(3)]  # the executor compiles during the first ones
        _check_golden(self._folder, runs[-1], expected)

    def _run(self, *inputs: torch.Tensor) -> NDArray[np.float64]:
        with torch.inference_mode():
            return self._predict(*inputs).numpy().astype(np.float64)


def load_policy(folder: Path | str, *, seed: int = 0, threads: int = 1, device: str = "cpu") -> Policy:
    """Load an exported policy on images after verifying its files and its contract.

    Args:
      folder: for instance ``models/one_leg``.
      seed: of the denoising noise.
      threads: threads that torch may compute with in this process; more than one beside other load is slower.
      device: ``cpu``, or ``cuda`` for a GPU, where the policy is one CUDA graph.

    Raises:
      ResipError: not a model folder, a missing or altered file, a contract that differs (naming the field), or no
        such device.
    """
    torch.set_num_threads(threads)
    folder = Path(folder)
    check_name("device", device, DEVICES)
    if device == "cpu":
        module, manifest = load_module(folder)
        return Policy(folder, manifest, module, seed)
    from resip.policy.cuda import GraphedPolicy  # torch.export takes a second to import

    manifest = _verified(folder, "image", PROGRAM_FILE)
    return Policy(folder, manifest, GraphedPolicy(folder / PROGRAM_FILE, golden_inputs(folder), device), seed)


def load_module(folder: Path) -> tuple[torch.jit.ScriptModule, dict[str, Any]]:
    """Verify the folder of a policy on images; return its module, for batches on the CPU, and its manifest.

    Raises:
      ResipError: as `load_policy`.
    """
    manifest = _verified(folder, "image", MODULE_FILE)
    # weights become constants in the layout that this machine's convolutions want
    return torch.jit.optimize_for_inference(_read_module(folder)), manifest


def load_state_module(folder: Path) -> tuple[torch.jit.ScriptModule, dict[str, Any]]:
    """Verify the folder of a policy on states; return its module, with `STATE_METHODS`, and its manifest.

    Raises:
      ResipError: as `load_policy`.
    """
    manifest = _verified(folder, "state", MODULE_FILE)
    return torch.jit.freeze(_read_module(folder), preserved_attrs=list(STATE_METHODS)), manifest


def load_weights_by_name(folder: Path) -> dict[str, torch.Tensor]:
    """Verify the folder of a policy on images; return its module's weights.

    Raises:
      ResipError: as `load_policy`.
    """
    _verified(folder, "image", MODULE_FILE)
    return _read_module(folder).state_dict()


def check_model(folder: Path | str) -> None:
    """Verify an exported policy of either kind, and that it gives its golden output on this machine.

    Raises:
      ResipError: as `load_policy`, or other numbers come out.
    """
    folder = Path(folder)
    if read_manifest(folder)["contract"].get("observation") != "state":
        load_policy(folder).warm_up()
        return
    module, _ = load_state_module(folder)
    with np.load(folder / GOLDEN_FILE) as golden, torch.inference_mode():
        arrays = {name: torch.from_numpy(golden[name]) for name in golden.files}
        seen = (arrays["robot_state"], arrays["part_poses"])
        _check_golden(folder, module.chunk(*seen, arrays["noise"]).numpy(), golden["actions"])
        _check_golden(folder, module.correct(*seen, arrays["base_action"]).numpy(), golden["action"])


def golden_inputs(folder: Path) -> tuple[torch.Tensor, ...]:
    """The golden example's inputs, in the order that a policy on images takes them."""
    with np.load(folder / GOLDEN_FILE) as golden:
        return tuple(torch.from_numpy(golden[name]) for name in INPUTS)


def _check_golden(folder: Path, actions: NDArray[np.floating], expected: NDArray[np.floating]) -> None:
    worst = float(np.abs(actions - expected).max())
    if not worst <= GOLDEN_TOLERANCE:
        raise ResipError(
            f"{folder}: the golden example comes out {worst:.2g} off (allowed {GOLDEN_TOLERANCE}): "
            "this machine computes another policy than the one exported"
        )


def _read_module(folder: Path) -> torch.jit.ScriptModule:
    return torch.jit.load(str(folder / MODULE_FILE), map_location="cpu").eval()


def _verified(folder: Path, observation: spaces.Observation, module_file: str) -> dict[str, Any]:
    """The manifest, if its contract is ours and the files are those that it describes."""
    manifest = read_manifest(folder)
    wanted = spaces.contract(observation)
    for name in {**wanted, **manifest["contract"]}:
        _check_field(folder, name, manifest["contract"].get(name), wanted.get(name))
    for name in (module_file, GOLDEN_FILE):
        if name not in manifest["sha256"]:
            raise ResipError(f"{folder} was exported without {name}: export the policy again")
        _check_file(folder / name, manifest["sha256"][name])
    return manifest


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
