"""Closed-loop evaluation: what is asked of a policy, and what is counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from resip import spaces
from resip.errors import ResipError
from resip_training.algorithms.settings import ResidualPPOConfig
from resip_training.evaluate import evaluate, run_episodes
from resip_training.runs import BEST_FILE, CHECKPOINT_FILE, CONFIG_FILE, read_tensors, save_tensors
from resip_training.sim import tasks
from resip_training.sim.cell import Cell
from tiny_runs import write_base_run, write_residual_run
from torch import Tensor

HORIZONS = {"prediction": 32, "action": 8}
STEPS = 20


class Holder:
    """A policy that stays where it is, and remembers what it was asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, robot_state: Tensor, front: Tensor, wrist: Tensor, noise: Tensor) -> Tensor:
        self.batches.append(len(robot_state))
        self.seen.append((front, wrist))
        assert front.shape == wrist.shape == (len(robot_state), 240, 320, 3)
        assert noise.shape == (len(robot_state), 32, 10)
        held = torch.cat([robot_state[:, :9], -torch.ones(len(robot_state), 1)], dim=-1)
        return held.unsqueeze(1).repeat(1, 32, 1)


def use_task(monkeypatch: pytest.MonkeyPatch, tolerance_m: float) -> None:
    """A one_leg of 20 steps, whose parts may stand ``tolerance_m`` off."""
    original = tasks.get("one_leg")
    relation = replace(original.relations[0], tolerance_m=tolerance_m, min_cosine=-2.0)
    changed = replace(original, relations=(relation,), max_steps=STEPS)
    monkeypatch.setattr(tasks, "get", lambda name: changed)


def test_a_policy_is_asked_once_a_chunk_and_fails_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    use_task(monkeypatch, tolerance_m=0.005)
    policy = Holder()
    assert run_episodes(policy, "one_leg", "low", [3, 4], HORIZONS, threads=1) == [False, False]
    assert policy.batches == [2, 2, 2]


def test_an_episode_that_succeeded_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    use_task(monkeypatch, tolerance_m=10.0)
    policy = Holder()
    assert run_episodes(policy, "one_leg", "low", [3, 4], HORIZONS, threads=1) == [True, True]
    assert policy.batches == [2]


def test_each_episode_has_the_looks_that_the_simulated_cell_gives_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    use_task(monkeypatch, tolerance_m=10.0)
    policy = Holder()
    run_episodes(policy, "one_leg", "low", [3, 4], HORIZONS, threads=1, random_looks=True)
    cell = Cell("one_leg", "low", random_looks=True)
    for episode, seed in enumerate([3, 4]):
        cell.reset(seed)
        for camera, frames in zip(spaces.CAMERAS, policy.seen[0], strict=True):
            np.testing.assert_array_equal(frames[episode].numpy(), cell.render(camera))
    cell.close()


def test_looks_make_no_difference_to_a_policy_on_states(tmp_path: Path) -> None:
    with pytest.raises(ResipError, match="acts on states: how the cell looks makes no difference"):
        evaluate(write_base_run(tmp_path / "run"), episodes=1, random_looks=True)


# ---- policies on states ----


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peg_hole of a few steps, in which nothing can be assembled."""
    changed = replace(tasks.PEG_HOLE, max_steps=3)
    monkeypatch.setattr(tasks, "get", lambda name: changed)


def test_base_and_residual_run_on_the_same_seeds_and_the_figures_say_where_they_come_from(short: None, tmp_path: Path):
    run, copy = write_residual_run(tmp_path / "run"), tmp_path / "figures.json"
    figures = evaluate(run, episodes=3, seed=70, json_path=copy)
    assert figures["success"] == figures["base_success"]
    assert figures["success"]["seeds"] == [70, 71, 72]
    assert (figures["success"]["k"], figures["success"]["n"]) == (0, 3)
    assert figures["settings"]["timestep_s"] == tasks.PEG_HOLE.timestep_s
    assert figures["settings"]["simulator"] == f"mujoco {mujoco.__version__}"
    assert len(figures["sha256"]) == 64
    assert figures["learned"] == {"algorithm": "residual-ppo", "observation": "state", "data": None}
    assert figures["training"]["step"] == 100
    assert figures["training"]["settings"]["alpha"] == ResidualPPOConfig().alpha
    assert figures["wall_s"] > 0
    assert {"machine", "command"} <= set(figures)
    assert json.loads(copy.read_text()) == json.loads((run / "evaluation_low_70_3.json").read_text()) == figures


def test_the_level_is_the_training_s_unless_asked_for(short: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = write_base_run(tmp_path / "run")
    assert evaluate(run, episodes=1)["randomness"] == "low"
    assert "trained at" not in capsys.readouterr().out
    figures = evaluate(run, episodes=1, randomness="med")
    assert (figures["trained_at"], figures["randomness"]) == ("low", "med")
    assert "was trained at low randomness and is evaluated at med" in capsys.readouterr().out
    assert {path.name for path in run.glob("evaluation_*")} == {"evaluation_low_0_1.json", "evaluation_med_0_1.json"}


def test_the_figures_say_what_a_student_was_cloned_from(short: None, tmp_path: Path):
    learned = evaluate(write_base_run(tmp_path / "run"), episodes=1)["learned"]
    cloned = {"source": "expert", "n_demonstrations": 5, "n_steps": 300, "sha256": "d" * 64}
    assert learned == {"algorithm": "bc", "observation": "state", "data": cloned}


def test_a_shipped_teacher_is_left_as_it_is(short: None, tmp_path: Path):
    teacher = write_residual_run(tmp_path / "teacher")
    (teacher / CHECKPOINT_FILE).unlink()
    assert "base_success" in evaluate(teacher, episodes=1)
    assert not list(teacher.glob("evaluation_*"))


def altered(run: Path, **changes: object) -> None:
    config = json.loads((run / CONFIG_FILE).read_text())
    (run / CONFIG_FILE).write_text(json.dumps({**config, **changes}))


def other_contract(run: Path) -> None:
    altered(run, contract={**spaces.contract("state"), "control_hz": 20.0})


def other_network(run: Path) -> None:
    config = json.loads((run / CONFIG_FILE).read_text())
    altered(run, settings={**config["settings"], "width": 64})


def cut_off(run: Path) -> None:
    whole = (run / BEST_FILE).read_bytes()
    (run / BEST_FILE).write_bytes(whole[: len(whole) // 2])


def diverged(run: Path) -> None:
    weights, metadata = read_tensors(run / BEST_FILE)
    weights["residual.actor.mean.0.bias"][0] = torch.nan
    save_tensors(run / BEST_FILE, weights, metadata)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (other_contract, "was trained under another contract: its control_hz is 20.0, here 10.0"),
        (other_network, "weights of another network"),
        (cut_off, r"best.safetensors is damaged"),
        (diverged, r"are not all numbers: actor.mean.0.bias diverged"),
        (lambda run: altered(run, algorithm="dagger"), "is a run of 'dagger'"),
        (lambda run: (run / CONFIG_FILE).unlink(), "is not a training run: it has no config.json"),
    ],
)
def test_a_checkpoint_that_cannot_act_is_refused_in_a_line(
    tmp_path: Path, damage: Callable[[Path], object], message: str
):
    run = write_residual_run(tmp_path / "run")
    damage(run)
    with pytest.raises(ResipError, match=message):
        evaluate(run, episodes=1)


def test_unknown_levels_and_devices_are_named(tmp_path: Path):
    run = write_base_run(tmp_path / "run")
    with pytest.raises(ResipError, match="unknown randomness of peg_hole 'huge'"):
        evaluate(run, episodes=1, randomness="huge")
    with pytest.raises(ResipError, match="unknown device 'tpu'"):
        evaluate(run, episodes=1, device="tpu")
