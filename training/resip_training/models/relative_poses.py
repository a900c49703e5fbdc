"""Poses of what is seen relative to each other: what an assembly is decided by."""

from __future__ import annotations

import torch
from resip import rotation, spaces
from torch import Tensor

_NUMBERS = 9  # a position and a rotation's 6D


def relative_poses(observation: Tensor) -> Tensor:
    """Poses in each other's frames.

    Args:
      observation: ``(B, 16 + 7 * (parts + 1))``, robot state and part poses, the obstacle's last; physical units.

    Returns:
      ``(B, 9 * pairs)``, m and 6D: in the order obstacle, hand, parts, the pose of every body in the frame of each
      body before it.
    """
    state, poses = observation[:, : spaces.STATE_DIM], observation[:, spaces.STATE_DIM :]
    poses = poses.unflatten(-1, (-1, spaces.PART_POSE_DIM)).roll(1, dims=1)  # the obstacle first
    hand_position, hand_rot6d = state[:, None, spaces.STATE_POSITION], state[:, None, spaces.STATE_ROT6D]
    hand_matrix = torch.as_tensor(rotation.matrix_from_rot6d(hand_rot6d))
    matrices = torch.as_tensor(rotation.matrix_from_quat(poses[..., 3:]))
    position = torch.cat([poses[:, :1, :3], hand_position, poses[:, 1:, :3]], dim=1).to(matrices.dtype)
    matrix = torch.cat([matrices[:, :1], hand_matrix, matrices[:, 1:]], dim=1)

    before, after = torch.triu_indices(matrix.shape[1], matrix.shape[1], offset=1)
    to_frame = matrix[:, before].transpose(-1, -2)
    offset = (to_frame @ (position[:, after] - position[:, before]).unsqueeze(-1)).squeeze(-1)
    turn = (to_frame @ matrix[:, after])[..., :2, :].flatten(-2)
    return torch.cat([offset, turn], dim=-1).flatten(1).to(observation.dtype)


def relative_poses_dim(observation_dim: int) -> int:
    """How many numbers `relative_poses` makes of observations of this length."""
    bodies = 1 + (observation_dim - spaces.STATE_DIM) // spaces.PART_POSE_DIM
    return _NUMBERS * bodies * (bodies - 1) // 2
