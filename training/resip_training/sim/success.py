"""The reference's success test: relative part poses against the assembled ones, batched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from resip import rotation

from resip_training.sim.task import Relation, Task

Array = NDArray[np.float64]


def holds(relation: Relation, base_pose: Array, other_pose: Array) -> NDArray[np.bool_]:
    """Whether ``relation`` holds for part poses ``(..., 7)`` (m, xyzw), each ``(...)``."""
    base = rotation.matrix_from_quat(base_pose[..., 3:])
    other = rotation.matrix_from_quat(other_pose[..., 3:])
    offset = np.einsum("...ji,...j->...i", base, other_pose[..., :3] - base_pose[..., :3])
    distance = np.abs(offset[..., None, :] - relation.target_positions_m)
    placed = np.any(np.all(distance <= relation.tolerance_m, axis=-1), axis=-1)
    relative = np.swapaxes(base, -1, -2) @ other
    cosines = np.sum(relative * relation.target_matrix, axis=-1)
    return placed & np.all(cosines >= relation.min_cosine, axis=-1)


def assembled(task: Task, part_poses: Array) -> NDArray[np.bool_]:
    """Which relations hold now, ``(..., n_relations)``, for part poses ``(..., n_parts [+ 1], 7)``."""
    index = {name: i for i, name in enumerate(task.part_names)}
    return np.stack(
        [
            holds(relation, part_poses[..., index[relation.base], :], part_poses[..., index[relation.other], :])
            for relation in task.relations
        ],
        axis=-1,
    )
