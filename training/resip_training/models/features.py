"""What networks are shown of an observation: normalised poses, poses relative to each other, and errors to the goal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from resip import rotation, spaces
from torch import Tensor, nn

from resip_training.models.normalizer import Normalizer
from resip_training.models.poses import Poses
from resip_training.models.relative_poses import relative_poses, relative_poses_dim
from resip_training.sim.task import Task

OBSERVATION_LIMIT: Final = 3.0  # normalised observations are clamped here, as in the reference implementation

_FINE_M: Final = 3e-4  # errors are told in proportion below this, by their logarithm above
_FINE_RAD: Final = 0.01
_ERROR_NUMBERS: Final = 12  # position, rotation vector, and the rotation's 6D


@dataclass(frozen=True)
class Goal:
    """Two parts are assembled when ``other`` stands at one of ``positions_m`` in the frame of ``base``.

    Attributes:
      base: index among the parts.
      other: index among the parts.
      positions_m: ``(k, 3)``.
      matrix: ``(3, 3)``, the same at all positions.
    """

    base: int
    other: int
    positions_m: tuple[tuple[float, ...], ...]
    matrix: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Inputs:
    """What there is to be shown.

    Attributes:
      observation_dim: robot state (16) and all part poses (7 each), the obstacle's last.
      columns: of the observation, that are shown: robot state, whole part poses, the obstacle's last.
      goals: of the task.
    """

    observation_dim: int
    columns: tuple[int, ...]
    goals: tuple[Goal, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Inputs:
        """From plain JSON values, as `dataclasses.asdict` gives them."""
        goals = tuple(
            Goal(goal["base"], goal["other"], _rows(goal["positions_m"]), _rows(goal["matrix"]))
            for goal in values["goals"]
        )
        return cls(values["observation_dim"], tuple(values["columns"]), goals)


def goals_of(task: Task, part_names: tuple[str, ...]) -> tuple[Goal, ...]:
    """The goals of a task among parts of these names."""
    index = {name: i for i, name in enumerate(part_names)}
    return tuple(
        Goal(
            index[relation.base],
            index[relation.other],
            _rows(relation.target_positions_m.tolist()),
            _rows(relation.target_matrix.tolist()),
        )
        for relation in task.relations
        if relation.base in index and relation.other in index
    )


class ObservationFeatures(nn.Module):
    """Numbers around [-1, 1] from observations in physical units; the data's limits are in the weights.

    Args:
      inputs: what there is.
    """

    columns: Tensor

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs
        self.register_buffer("columns", torch.tensor(inputs.columns, dtype=torch.int64))
        self.normalizer = Normalizer(inputs.observation_dim)
        self.relation_normalizer = Normalizer(relative_poses_dim(len(inputs.columns)))
        self.errors = nn.ModuleList(GoalError(goal) for goal in inputs.goals)

    def fit(self, observation: Tensor, *, more: bool = False) -> None:
        """Take the limits from observations ``(N, D)``; with ``more``, from those of the calls before as well."""
        self.normalizer.fit(observation, more=more)
        self.relation_normalizer.fit(relative_poses(observation[:, self.columns]), more=more)

    def dim(self, poses: Poses) -> int:
        """How many numbers are shown."""
        return len(self.columns) + self.relations_dim(poses)

    def relations_dim(self, poses: Poses) -> int:
        """How many of them tell of bodies relative to each other; they are the last ones."""
        if poses == "absolute":
            return 0
        errors = _ERROR_NUMBERS * len(self.errors) if poses == "goals" else 0
        return len(self.relation_normalizer.centre) + errors

    def forward(self, observation: Tensor, poses: Poses) -> Tensor:
        """Features ``(B, dim(poses))`` of observations ``(B, D)``."""
        shown = [_clamped(self.normalizer, observation)[:, self.columns]]
        if poses != "absolute":
            shown.append(_clamped(self.relation_normalizer, relative_poses(observation[:, self.columns])))
        if poses == "goals":
            shown += [error(observation) for error in self.errors]
        return torch.cat(shown, dim=-1)


class GoalError(nn.Module):
    """The error that is left to the nearest assembled pose of two parts, in the frame of the first.

    Across the table an error is tens of centimetres, in the hole tenths of a millimetre decide: it is told by
    ``asinh(error / fine)``, in which both are seen.
    """

    positions: Tensor
    matrix: Tensor

    def __init__(self, goal: Goal) -> None:
        super().__init__()
        self._base, self._other = goal.base, goal.other
        self.register_buffer("positions", torch.tensor(goal.positions_m, dtype=torch.float64))
        self.register_buffer("matrix", torch.tensor(goal.matrix, dtype=torch.float64))

    def forward(self, observation: Tensor) -> Tensor:
        """Position, rotation vector (both compressed) and 6D of the rotation that is left ``(B, 12)``."""
        poses = observation[:, spaces.STATE_DIM :].double().unflatten(-1, (-1, spaces.PART_POSE_DIM))
        base, other = poses[:, self._base], poses[:, self._other]
        frame = torch.as_tensor(rotation.matrix_from_quat(base[:, 3:])).transpose(-1, -2)
        offset = (frame @ (other[:, :3] - base[:, :3]).unsqueeze(-1)).squeeze(-1)
        errors = offset.unsqueeze(1) - self.positions
        nearest = errors.norm(dim=-1).argmin(dim=-1)
        error = torch.take_along_dim(errors, nearest[:, None, None], dim=1).squeeze(1)
        turn = self.matrix.T @ frame @ torch.as_tensor(rotation.matrix_from_quat(other[:, 3:]))
        skew = (turn - turn.transpose(-1, -2)) / 2  # of the rotation's axis, times its sine
        lean = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=-1)
        told = [_compressed(error, _FINE_M), _compressed(lean, _FINE_RAD), turn[:, :2].flatten(1)]
        return torch.cat(told, dim=-1).to(observation.dtype)


def _compressed(error: Tensor, fine: float) -> Tensor:
    """About 1 for an error of a thousand times ``fine``."""
    return torch.asinh(error / fine) / torch.asinh(torch.tensor(1000.0)).item()


def _clamped(normalizer: Normalizer, values: Tensor) -> Tensor:
    return normalizer.normalize(values).clamp(-OBSERVATION_LIMIT, OBSERVATION_LIMIT)


def _rows(values: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values)
