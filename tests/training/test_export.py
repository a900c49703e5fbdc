"""What was exported is what was trained: in every form, in batches, and in a process that has nothing but torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_demos import write_demos
from resip.errors import ResipError
from resip.policy.artefact import (
    GOLDEN_FILE,
    HALF_FILE,
    INPUTS,
    MANIFEST_FILE,
    MODULE_FILE,
    PROGRAM_FILE,
    check_model,
    golden_inputs,
    load_policy,
    load_state_module,
    read_manifest,
)
from resip_training import export
from resip_training.checkpoints import Teacher, load_teacher
from resip_training.data.store import DemoSet
from resip_training.export import check_sizes, export_policy, trace, write_half
from resip_training.export_teacher import export_teacher
from resip_training.exported import ExportedPolicy, ExportedTeacher, UnrolledDdim
from resip_training.models.denoiser import Denoiser
from resip_training.models.diffusion import DiffusionConfig
from resip_training.models.schedule import inference_scheduler
from resip_training.models.unet import Unet, UnetConfig
from resip_training.rollout.episodes import observe
from resip_training.runs import Budget
from resip_training.sim.env import AssemblyEnv
from resip_training.train import load_policy_of, train_images
from small_policies import SMALL
from tiny_runs import TASK, write_base_run, write_residual_run

#: Loads a file with torch alone, and compares with the golden example, alone and in a batch of two.
BARE = """
import sys, numpy as np, torch

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("resip", "resip_training", "diffusers"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
path, golden = sys.argv[1], np.load(sys.argv[2])
module = torch.export.load(path).module() if path.endswith(".pt2") else torch.jit.load(path)
inputs = [torch.from_numpy(golden[name]) for name in ("robot_state", "front", "wrist", "noise")]
wanted = torch.from_numpy(golden["actions"])
for copies in (1, 2):
    actions = module(*(torch.cat([value] * copies) for value in inputs))
    print(float((actions - wanted).abs().max()))
"""


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return write_demos(tmp_path_factory.mktemp("data") / "demos.zarr", n_episodes=2, n_steps=16)


@pytest.fixture(scope="module")
def run(demos: DemoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train_images([demos.path], folder, budget=Budget(steps=2), config=SMALL)
    return folder


@pytest.fixture(scope="module")
def model(run: Path, demos: DemoSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_policy(run, demos.path, tmp_path_factory.mktemp("models") / "one_leg")


@pytest.mark.parametrize("name", [MODULE_FILE, PROGRAM_FILE])
def test_a_process_that_has_only_torch_gets_the_golden_actions(model: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", BARE, str(model / name), str(model / GOLDEN_FILE)],
        capture_output=True,
        text=True,
        timeout=100,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    differences = [float(line) for line in done.stdout.split()]
    assert len(differences) == 2
    assert max(differences) < 1e-4


def test_weights_in_float16_take_half_the_space_and_stay_within_their_bound(model: Path) -> None:
    module = torch.jit.load(str(model / HALF_FILE))
    with np.load(model / GOLDEN_FILE) as golden, torch.inference_mode():
        actions = module(*golden_inputs(model)).numpy()
        difference = np.abs(actions - golden["actions"]).max(axis=(0, 1))
    assert actions.dtype == np.float32
    assert 0 < difference[:3].max() <= 1e-4
    assert (difference <= export.HALF_TOLERANCE.numpy()).all()
    matrices = [value for value in module.parameters() if value.dim() > 1]
    assert matrices
    assert all(value.dtype == torch.float16 for value in matrices)


def test_weights_in_float16_that_move_the_actions_too_far_are_not_written(
    run: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, _ = load_policy_of(run)
    golden = dict(zip(INPUTS, golden_inputs(model), strict=True))
    module = ExportedPolicy(policy).eval()
    with torch.inference_mode():
        actions = module(*golden.values())
    (tmp_path / HALF_FILE).write_text("of an earlier export")
    assert write_half(tmp_path, module, golden, actions + 2e-4) is None
    assert not (tmp_path / HALF_FILE).exists()
    assert "is not written" in capsys.readouterr().out


def test_the_manifest_and_the_card_tell_each_file(model: Path) -> None:
    manifest = read_manifest(model)
    assert set(manifest["files"]) == {MODULE_FILE, PROGRAM_FILE, HALF_FILE}
    for name, file in manifest["files"].items():
        assert file["bytes"] == (model / name).stat().st_size
        assert name in manifest["sha256"]
        assert f"| `{name}` |" in (model / "README.md").read_text()


def test_no_file_tells_where_it_was_made(model: Path) -> None:
    here = str(Path(export.__file__).parents[2]).encode()
    assert here not in (model / PROGRAM_FILE).read_bytes()  # its parts are not compressed


def test_a_file_that_no_repository_should_hold_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MAX_SIZE_BYTES", 100_000)
    with pytest.raises(ResipError, match=r"MB, more than 0: train a smaller policy"):
        check_sizes(model)


def test_a_gpu_that_is_not_there_is_named(model: Path) -> None:
    if torch.cuda.is_available():
        load_policy(model, device="cuda").warm_up()
        return
    with pytest.raises(ResipError, match="torch finds no GPU here"):
        load_policy(model, device="cuda")


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon"])
@pytest.mark.parametrize("backbone", ["mlp", "unet"])
def test_the_unrolled_loop_is_that_of_diffusers(prediction_type: str, backbone: str) -> None:
    torch.manual_seed(0)
    schedule = DiffusionConfig(prediction_type=prediction_type, inference_steps=6)  # pyright: ignore[reportArgumentType]
    mlp = backbone == "mlp"
    denoiser = Denoiser(8, 10, 12, width=32, blocks=2) if mlp else Unet(8, 10, 12, UnetConfig(down_dims=(16, 32)))
    for weight in denoiser.parameters():  # some begin at zero
        torch.nn.init.normal_(weight, std=0.2)
    noise, condition = torch.randn(3, 8, 10), torch.randn(3, 12)
    scheduler, wanted = inference_scheduler(schedule), noise
    with torch.no_grad():
        for step in scheduler.timesteps:
            output = denoiser(wanted, step.expand(3), condition)
            wanted = scheduler.step(output, int(step), wanted, eta=0.0, return_dict=False)[0]
        torch.testing.assert_close(UnrolledDdim(denoiser, schedule)(noise, condition), wanted, atol=1e-4, rtol=1e-4)


# ---- policies on states ----


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_residual_run(tmp_path_factory.mktemp("runs") / "residual")


def recorded_episode(teacher: Teacher, seed: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations and the actions that the training agent executed there."""
    env, agent = AssemblyEnv(teacher.task, 1, teacher.randomness), teacher.agent(1)
    observation, _ = env.reset(seed=[seed])
    agent.start(np.ones(1, dtype=bool), [seed])
    seen, actions = [], []
    for _ in range(steps):
        seen.append(observe(observation))
        actions.append(agent.act(seen[-1]))
        observation, *_ = env.step(actions[-1].numpy())
    env.close()
    return torch.cat(seen), torch.cat(actions)


@pytest.mark.parametrize("learned", ["base", "residual"])
def test_both_methods_together_act_as_the_training_agent_over_an_episode(learned: str, tmp_path: Path) -> None:
    write = write_base_run if learned == "base" else write_residual_run
    run = write(tmp_path / "run")
    export_teacher(run, tmp_path / "teacher")
    module, manifest = load_state_module(tmp_path / "teacher")
    seen, wanted = recorded_episode(load_teacher(run), seed=7, steps=12)
    state, parts = seen[:, :16], seen[:, 16:]
    noise = torch.Generator().manual_seed(7)
    horizons = manifest["horizons"]
    chunk = torch.empty(0)
    with torch.inference_mode():
        for i in range(len(seen)):
            step = i % horizons["action"]
            row = slice(i, i + 1)
            if step == 0:
                drawn = torch.randn(1, horizons["prediction"], 10, generator=noise)
                chunk = module.chunk(state[row], parts[row], drawn)
            action = module.correct(state[row], parts[row], chunk[:, step])
            torch.testing.assert_close(action, wanted[row], atol=1e-5, rtol=0)


def test_a_residual_of_zero_leaves_the_bases_actions_as_they_are_to_the_bit(teacher_run: Path) -> None:
    trained = load_teacher(teacher_run)
    teacher = replace(trained, residual=lambda observation: torch.zeros_like(observation[:, :10]))
    state, parts = torch.randn(1, 16), torch.randn(1, trained.policy.observe.inputs.observation_dim - 16)
    action = torch.randn(1, 10)
    module = trace(ExportedTeacher(teacher).eval(), {"correct": (state, parts, action)})
    other = torch.randn(4, 10)
    corrected = module.correct(state.expand(4, -1), parts.expand(4, -1), other)
    assert torch.equal(corrected, other)


def test_a_policy_on_states_is_verified_by_its_golden_example(teacher_run: Path, tmp_path: Path) -> None:
    export_teacher(teacher_run, tmp_path / "teacher")
    check_model(tmp_path / "teacher")
    manifest = json.loads((tmp_path / "teacher" / MANIFEST_FILE).read_text())
    assert manifest["task"] == TASK
    assert set(manifest["methods"]) == {"chunk", "correct"}
    with pytest.raises(ResipError, match="another contract: observation is 'state' there and 'image' here"):
        load_policy(tmp_path / "teacher")
    with np.load(tmp_path / "teacher" / GOLDEN_FILE) as golden:
        arrays = dict(golden)
    arrays["action"] = arrays["action"] + 0.01
    np.savez(tmp_path / "teacher" / GOLDEN_FILE, allow_pickle=False, **arrays)
    with pytest.raises(ResipError, match=r"golden\.npz is not the file"):
        check_model(tmp_path / "teacher")
