"""The reference's success test: relative part poses against the assembled ones, batched; numpy or torch."""

from __future__ import annotations

from typing import Any

from resip import arrays, rotation

from resip_training.sim.task import Relation, Task


def holds(relation: Relation, base_pose: Any, other_pose: Any) -> Any:
    """Whether ``relation`` holds for part poses ``(..., 7)`` (m, xyzw), each ``(...)``."""
    base = rotation.matrix_from_quat(base_pose[..., 3:])
    other = rotation.matrix_from_quat(other_pose[..., 3:])
    xp = arrays.namespace(base)
    offset = xp.einsum("...ji,...j->...i", base, other_pose[..., :3] - base_pose[..., :3])
    distance = xp.abs(offset[..., None, :] - arrays.constant(relation.target_positions_m, base))
    placed = xp.any(xp.all(distance <= relation.tolerance_m, axis=-1), axis=-1)
    relative = xp.swapaxes(base, -1, -2) @ other
    cosines = xp.sum(relative * arrays.constant(relation.target_matrix, base), axis=-1)
    return placed & xp.all(cosines >= relation.min_cosine, axis=-1)


def assembled(task: Task, part_poses: Any) -> Any:
    """Which relations hold now, ``(..., n_relations)``, for part poses ``(..., n_parts [+ 1], 7)``."""
    index = {name: i for i, name in enumerate(task.part_names)}
    return arrays.namespace(part_poses).stack(
        [
            holds(relation, part_poses[..., index[relation.base], :], part_poses[..., index[relation.other], :])
            for relation in task.relations
        ],
        axis=-1,
    )
