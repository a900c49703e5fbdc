"""What networks are shown of an observation: errors to the goal, from across the table to the hole."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from resip import rotation, spaces
from resip_training.models.features import GoalError, Inputs, ObservationFeatures, goals_of
from resip_training.sim import tasks
from torch import Tensor

PEG = tasks.PEG_HOLE
LEG = tasks.ONE_LEG


def observed(task_parts: int, poses: dict[int, tuple[np.ndarray, np.ndarray]]) -> Tensor:
    """An observation with parts at these positions and rotation matrices, the others at the origin."""
    parts = np.tile([0.0, 0, 0, 0, 0, 0, 1], (task_parts + 1, 1))
    for index, (position, matrix) in poses.items():
        parts[index] = [*position, *rotation.quat_from_matrix(matrix)]
    return torch.tensor([[0.5, 0, 0.2, 1, 0, 0, 0, 1, 0, *[0] * 7, *parts.ravel()]], dtype=torch.float32)


def peg_error(offset_m: tuple[float, float, float], turn_rad: float = 0.0) -> Tensor:
    """Of a hole that stands so in the frame of a peg somewhere on the table."""
    frame = rotation.matrix_from_rotvec([0.1, -0.2, 0.9])
    peg = np.array([0.4, 0.1, 0.02])
    hole = peg + frame @ np.array(offset_m)
    turned = frame @ rotation.matrix_from_rotvec([0.0, 0.0, turn_rad])
    error = GoalError(goals_of(PEG, PEG.part_names)[0])
    names = list(PEG.part_names)
    return error(observed(len(names), {names.index("peg"): (peg, frame), names.index("hole"): (hole, turned)}))[0]


def test_assembled_parts_have_no_error_left():
    np.testing.assert_allclose(peg_error((0, 0, 0))[:6], 0, atol=1e-3)
    np.testing.assert_allclose(peg_error((0, 0, 0))[6:], [1, 0, 0, 0, 1, 0], atol=1e-6)


def test_a_tenth_of_a_millimetre_shows_and_so_does_the_far_end_of_the_table():
    near, far = peg_error((1e-4, 0, -1e-4)), peg_error((0.3, 0, 0))
    assert near[0] > 0.03
    assert near[2] < -0.03
    assert 0.9 < far[0] < 1.1


def test_a_turn_shows_about_its_axis():
    error = peg_error((0, 0, 0), turn_rad=0.02)
    assert error[5] > 0.15
    np.testing.assert_allclose(error[[3, 4]], 0, atol=1e-2)


def test_of_several_goals_the_nearest_counts():
    relation = LEG.relations[0]
    names = list(LEG.part_names)
    error = GoalError(goals_of(LEG, LEG.part_names)[0])
    for target in relation.target_positions_m:
        poses = {names.index(relation.base): (np.zeros(3), np.eye(3)), names.index(relation.other): (target, np.eye(3))}
        np.testing.assert_allclose(error(observed(len(names), poses))[0, :6], 0, atol=1e-3)


@pytest.mark.parametrize("task", [tasks.get(name) for name in ("one_leg", "round_table", "lamp", "peg_hole")])
def test_every_task_has_its_goals(task: tasks.Task):
    inputs = Inputs(16 + 7 * (len(task.part_names) + 1), tuple(range(16)), goals_of(task, task.part_names))
    assert len(inputs.goals) == len(task.relations)
    assert Inputs.from_json(json.loads(json.dumps(asdict(inputs)))) == inputs


def test_each_way_to_tell_poses_adds_to_the_one_before():
    dim = spaces.STATE_DIM + 3 * spaces.PART_POSE_DIM
    features = ObservationFeatures(Inputs(dim, tuple(range(dim)), goals_of(PEG, PEG.part_names)))
    observation = observed(2, {0: (np.array([0.4, 0, 0]), np.eye(3))})
    features.fit(observation)
    shown = [features(observation, poses) for poses in ("absolute", "relative", "goals")]
    assert [s.shape[1] for s in shown] == [features.dim(p) for p in ("absolute", "relative", "goals")]
    assert [s.shape[1] for s in shown] == [dim, dim + 9 * 6, dim + 9 * 6 + 12]
    assert torch.equal(shown[2][:, : dim + 54], shown[1])
    assert torch.equal(shown[1][:, :dim], shown[0])
