"""Relative poses: where they come, what they say, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import torch
from resip import rotation, spaces
from resip_training.models.relative_poses import relative_poses, relative_poses_dim
from torch import Tensor

Pose = tuple[np.ndarray, np.ndarray]


def random_pose(rng: np.random.Generator) -> Pose:
    return rng.uniform(-0.5, 0.5, 3), rotation.matrix_from_rotvec(rng.normal(size=3))


def observed(hand: Pose, *parts: Pose) -> Tensor:
    """An observation of these poses, the obstacle's last."""
    state = spaces.pack_state(*hand, np.zeros(3), np.zeros(3), 0.05)
    bodies = [np.concatenate([position, rotation.quat_from_matrix(matrix)]) for position, matrix in parts]
    return torch.tensor(np.concatenate([state, *bodies]), dtype=torch.float32).unsqueeze(0)


def moved(pose: Pose, by: Pose) -> Pose:
    return by[0] + by[1] @ pose[0], by[1] @ pose[1]


def test_they_are_the_poses_of_later_bodies_in_the_frames_of_earlier_ones() -> None:
    rng = np.random.default_rng(0)
    hand, top, leg, obstacle = (random_pose(rng) for _ in range(4))
    observation = observed(hand, top, leg, obstacle)
    relations = relative_poses(observation)
    assert relations.shape == (1, relative_poses_dim(observation.shape[1])) == (1, 9 * 6)

    pairs = [(obstacle, hand), (obstacle, top), (obstacle, leg), (hand, top), (hand, leg), (top, leg)]
    for found, (before, after) in zip(relations.reshape(6, 9).numpy(), pairs, strict=True):
        turn = before[1].T @ after[1]
        np.testing.assert_allclose(found[:3], before[1].T @ (after[0] - before[0]), atol=1e-6)
        np.testing.assert_allclose(found[3:], turn[:2].flatten(), atol=1e-6)


def test_a_motion_of_everything_together_does_not_change_them() -> None:
    rng = np.random.default_rng(1)
    bodies, motion = [random_pose(rng) for _ in range(4)], random_pose(rng)
    there = relative_poses(observed(*[moved(body, by=motion) for body in bodies]))
    torch.testing.assert_close(there, relative_poses(observed(*bodies)), atol=1e-5, rtol=0)


def test_the_sign_of_a_quaternion_does_not_change_them() -> None:
    rng = np.random.default_rng(2)
    observation = observed(*[random_pose(rng) for _ in range(3)])
    flipped = observation.clone()
    flipped[:, spaces.STATE_DIM + 3 : spaces.STATE_DIM + 7] *= -1
    torch.testing.assert_close(relative_poses(flipped), relative_poses(observation))
