"""The scripted expert of one_leg."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from resip import spaces
from resip.errors import ResipError
from resip_training.experts.rollout import run_expert
from resip_training.experts.run import evaluate_experts


def test_the_expert_assembles_the_leg() -> None:
    runs = list(run_expert("one_leg", "low", range(400, 404)))
    assert sorted(run.seed for run in runs) == [400, 401, 402, 403]
    assert all(run.success for run in runs)
    for run in runs:
        assert run.reward[-1] == 1.0
        assert run.reward[:-1].sum() == 0.0
        assert run.action.shape == (len(run), spaces.ACTION_DIM)
        assert set(np.unique(run.action[:, -1])) == {spaces.GRIPPER_OPEN, spaces.GRIPPER_CLOSE}


def test_the_expert_never_waits_in_the_air() -> None:
    """A step that commands what the last one did, with the gripper still, is a pause that a clone must time."""
    (run,) = run_expert("one_leg", "low", [410])
    same = np.all(np.abs(np.diff(run.action, axis=0)) < 1e-6, axis=1)
    still = np.abs(np.diff(run.robot_state[:, spaces.STATE_GRIPPER_WIDTH.start])) < 1e-5
    # metres of the position, and of the axes' ends 0.1 m away
    fingertip = run.robot_state[:, :9] * np.repeat([1.0, 0.1], [3, 6])
    resting = np.linalg.norm(np.diff(fingertip, axis=0), axis=1) < 2e-4
    assert np.mean(same & still & resting) < 0.01


def test_the_figures_of_every_level_are_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "expert.json"
    evaluate_experts("peg_hole", range(420, 422), ("low", "med"), threads=1, json_path=path)
    figures = json.loads(path.read_text())["experts"]
    assert [(figure["task"], figure["randomness"]) for figure in figures] == [("peg_hole", "low"), ("peg_hole", "med")]
    assert all(figure["success"]["n"] == 2 and figure["success"]["seeds"] == [420, 421] for figure in figures)


def test_an_unknown_expert_lists_those_there_are() -> None:
    with pytest.raises(ResipError, match=r"two_legs.*all.*one_leg"):
        evaluate_experts("two_legs", range(420, 422), ("low",))


def test_a_task_without_an_expert_is_named() -> None:
    with pytest.raises(ResipError, match="one_leg"):
        next(run_expert("two_legs", "low", [0]))
