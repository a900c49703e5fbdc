"""A model folder is loaded only if it is whole, unaltered and made for this contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from resip import spaces
from resip.errors import ResipError
from resip.policy import artefact
from resip.policy.artefact import load_policy

STATE = np.linspace(0.0, 1.5, 16)
FRONT = np.full((240, 320, 3), 10, dtype=np.uint8)
WRIST = np.full((240, 320, 3), 20, dtype=np.uint8)


class TinyPolicy(torch.nn.Module):
    """Noise plus what each input's mean gives: every input shows in the output."""

    def forward(
        self, robot_state: torch.Tensor, front: torch.Tensor, wrist: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        mean = robot_state.mean(1) + 10 * front.float().mean((1, 2, 3)) + 100 * wrist.float().mean((1, 2, 3))
        return noise + mean[:, None, None]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    module = torch.jit.script(TinyPolicy())
    module.save(str(tmp_path / artefact.MODULE_FILE))
    golden = {
        "robot_state": STATE[None].astype(np.float32),
        "front": FRONT[None],
        "wrist": WRIST[None],
        "noise": np.zeros((1, 32, 10), dtype=np.float32),
    }
    actions = module(*(torch.from_numpy(value) for value in golden.values())).numpy()
    np.savez_compressed(tmp_path / artefact.GOLDEN_FILE, allow_pickle=False, **golden, actions=actions)
    write_manifest(tmp_path)
    return tmp_path


def write_manifest(folder: Path, **changes: object) -> None:
    manifest = {
        "format": artefact.FORMAT,
        "format_version": artefact.FORMAT_VERSION,
        "contract": spaces.contract("image"),
        "horizons": {"observation": 1, "prediction": 32, "action": 8},
        "sha256": {name: artefact.file_sha256(folder / name) for name in (artefact.MODULE_FILE, artefact.GOLDEN_FILE)},
    }
    (folder / artefact.MANIFEST_FILE).write_text(json.dumps(manifest | changes))


def test_a_chunk_has_32_actions_and_depends_on_every_input(model: Path) -> None:
    inputs = [(STATE, FRONT, WRIST), (STATE + 1, FRONT, WRIST), (STATE, FRONT + 1, WRIST), (STATE, FRONT, WRIST + 1)]
    chunks = [load_policy(model).chunk(*values) for values in inputs]
    assert chunks[0].shape == (32, 10)
    assert chunks[0].dtype == np.float64
    for change, chunk in zip([1, 10, 100], chunks[1:], strict=True):
        np.testing.assert_allclose(chunk - chunks[0], change, rtol=1e-3)


def test_the_seed_decides_the_noise(model: Path) -> None:
    first, second = load_policy(model, seed=3), load_policy(model, seed=4)
    chunk = first.chunk(STATE, FRONT, WRIST)
    assert not np.array_equal(first.chunk(STATE, FRONT, WRIST), chunk)
    assert not np.array_equal(second.chunk(STATE, FRONT, WRIST), chunk)
    second.reset(3)
    np.testing.assert_array_equal(second.chunk(STATE, FRONT, WRIST), chunk)


def test_warming_up_accepts_the_golden_example(model: Path) -> None:
    load_policy(model).warm_up()


def test_warming_up_refuses_a_module_that_computes_something_else(model: Path) -> None:
    with np.load(model / artefact.GOLDEN_FILE) as golden:
        arrays = dict(golden)
    arrays["actions"] = arrays["actions"] + 0.01
    np.savez_compressed(model / artefact.GOLDEN_FILE, allow_pickle=False, **arrays)
    write_manifest(model)
    with pytest.raises(ResipError, match="golden example comes out"):
        load_policy(model).warm_up()


@pytest.mark.parametrize(
    ("front", "said"),
    [
        (np.zeros((480, 640, 3), dtype=np.uint8), r"front images of shape \(240, 320, 3\) uint8, got \(480, 640, 3\)"),
        (np.zeros((240, 320, 3), dtype=np.float32), "float32"),
    ],
)
def test_an_image_of_another_size_or_type_is_refused(model: Path, front: np.ndarray, said: str) -> None:
    with pytest.raises(ResipError, match=said):
        load_policy(model).chunk(STATE, front, WRIST)


def test_a_bad_state_is_refused(model: Path) -> None:
    policy = load_policy(model)
    with pytest.raises(ResipError, match="16 numbers"):
        policy.chunk(STATE[:15], FRONT, WRIST)
    with pytest.raises(ResipError, match="not finite"):
        policy.chunk(np.where(np.arange(16) == 3, np.nan, STATE), FRONT, WRIST)


def _remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _alter(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b"x")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove("manifest.json"), "not a model folder"),
        (_remove("policy.pt"), "policy.pt is missing"),
        (_remove("golden.npz"), "golden.npz is missing"),
        (_alter("policy.pt"), "policy.pt is not the file that its manifest describes"),
        (_alter("golden.npz"), "golden.npz is not the file"),
        (_alter("manifest.json"), "manifest.json is damaged"),
        (lambda folder: write_manifest(folder, format="recipe"), "not the manifest of a policy"),
        (lambda folder: write_manifest(folder, format_version=99), "has format 99, this program reads 1"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(model: Path, damage: Callable[[Path], object], said: str) -> None:
    damage(model)
    with pytest.raises(ResipError, match=said) as refusal:
        load_policy(model)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "load",
    [
        load_policy,
        lambda folder: load_policy(folder, device="cuda"),
        artefact.load_module,
        artefact.load_weights_by_name,
        artefact.check_model,
    ],
    ids=["load_policy", "load_policy on a GPU", "load_module", "load_weights_by_name", "check_model"],
)
def test_no_way_of_loading_takes_a_file_that_the_manifest_does_not_describe(model: Path, load: Callable) -> None:
    (model / artefact.PROGRAM_FILE).write_bytes(b"program")
    files = (artefact.MODULE_FILE, artefact.GOLDEN_FILE, artefact.PROGRAM_FILE)
    write_manifest(model, sha256=dict.fromkeys(files, "0" * 64))
    with pytest.raises(ResipError, match=r"policy\.pt2? is not the file that its manifest describes"):
        load(model)


@pytest.mark.parametrize("field", sorted(spaces.contract("image")))
def test_another_contract_is_refused_naming_the_field(model: Path, field: str) -> None:
    write_manifest(model, contract=spaces.contract("image") | {field: "other"})
    with pytest.raises(ResipError, match=rf"another contract: {field} is 'other'"):
        load_policy(model)
    missing = {name: value for name, value in spaces.contract("image").items() if name != field}
    write_manifest(model, contract=missing)
    with pytest.raises(ResipError, match=rf"another contract: {field} is None"):
        load_policy(model)
