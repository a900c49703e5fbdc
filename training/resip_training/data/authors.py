"""`resip data import`: the published demonstrations of the paper's authors, as a set of this project.

Their processed sets are zarr groups (format 2) of flat arrays over time: ``robot_state`` (N, 16), ``action/pos``
(N, 10) and ``parts_poses`` (N, 7 * (parts + 1)), ``reward``, ``color_image1`` (wrist) and ``color_image2`` (front),
with ``episode_ends`` and ``success`` per episode. States and actions are in the robot base frame with rotations as
the first two rows of the matrix, as here. What differs is converted:

- Part poses are in their AprilTag frame, whose place and axes in the base frame are those of ``sim.frames``: origin
  (0.3015, 0, 0) m, Euler angles (pi, 0, pi/2) as Rz Ry Rx. So x there is y here, y is x - 0.3015 m and z is -z.
- Their quaternions have w >= 0, which flips at some nominal poses; here they are in the hemisphere of the nominal one.
- The obstacle's front wall is a box along its x axis, turned by a quarter; here it is not turned.
- A gripper command of zero repeats the last one; an episode begins open.
- Joints were not published. They are solved from the fingertip's poses, for pictures only.
- There are no seeds: episodes are counted.

What cannot be converted: their parts slide on other friction and their arm follows another drive, so that the same
actions do not lead to the same states in this simulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray
from resip import rotation, spaces
from resip.control import ik, panda
from resip.errors import ResipError
from resip.progress import track

from resip_training.data.store import DemoWriter, Episode, Provenance
from resip_training.sim import frames, tasks
from resip_training.sim.task import Task, nominal_poses

Array = NDArray[np.float64]

#: Their arrays of our cameras.
_CAMERAS: Final = {"wrist": "color_image1", "front": "color_image2"}
_NUMBERS: Final = ("robot_state", "action/pos", "parts_poses", "reward")
_TASKS: Final = {"factory_peg_hole": "peg_hole"}
#: The obstacle stands no farther than this from its nominal place; in another frame it would stand elsewhere.
_OBSTACLE_WITHIN_M: Final = 0.10
_ROW_LENGTH_WITHIN: Final = 0.05
_FIRST_IK: Final = ik.IkSettings(iterations=50)


def import_demos(sources: Sequence[Path], out: Path, images: bool = True) -> None:
    """Convert published sets of one task, and append their episodes to ``out``; what is there already stays.

    Args:
      sources: their zarr folders, such as a level's nominal and its perturbed demonstrations.
      out: folder of the set.
      images: whether to copy the images.

    Raises:
      ResipError: a source is not such a set, is of another task or frame, or has no images where they are wanted.
    """
    if not sources:
        raise ResipError("no set to import: name one zarr folder or more")
    published = [_Published(path, images) for path in sources]
    first = published[0].provenance
    for one in published[1:]:
        if (one.provenance.task, one.provenance.randomness) != (first.task, first.randomness):
            raise ResipError(f"{one.path} is {one.what}, {published[0].path} {published[0].what}: import them apart")
    described = {**first.simulator, "imported": [one.attributes for one in published]}
    writer = DemoWriter(out, replace(first, simulator=described))
    episodes = [(one, index) for one in published for index in range(one.n_episodes)]
    for number, (one, index) in enumerate(track(episodes, f"import {first.task}")):
        if number not in writer.seeds:
            writer.append(one.episode(index, number))
    print(f"{len(writer.seeds)} demonstrations, {writer.n_steps} steps in {out}")


class _Published:
    """One of their sets."""

    def __init__(self, path: Path, images: bool) -> None:
        self.path = path
        self._group = self._open(("episode_ends", *_NUMBERS, *(_CAMERAS.values() if images else ())))
        self._images = images
        attributes = dict(self._group.attrs)
        self.attributes = {"from": path.name, **{name: attributes[name] for name in sorted(attributes)}}
        self._task = self._find_task(attributes)
        self.provenance = Provenance(
            task=self._task.name,
            randomness=str(attributes.get("randomness", "unknown")),
            source="published",
            part_names=self._task.part_names,
            simulator={"name": "the reference's", "drive": "reference", "joint_positions": "inverse kinematics"},
            images=images,
        )
        self._ends = self._read("episode_ends").astype(np.int64)
        self._check_shapes()

    @property
    def what(self) -> str:
        """Task and level."""
        return f"{self.provenance.task} {self.provenance.randomness}"

    @property
    def n_episodes(self) -> int:
        """Episodes in the set."""
        return len(self._ends)

    def _open(self, needed: tuple[str, ...]) -> zarr.Group:
        try:
            group = zarr.open_group(self.path, mode="r")
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise ResipError(f"{self.path} is no zarr folder: unpack the published set, and name its .zarr") from error
        for name in needed:
            if name not in group:
                hint = ": give --no-images" if name in _CAMERAS.values() else ""
                raise ResipError(f"{self.path} is not a published set: it has no array {name!r}{hint}")
        return group

    def _find_task(self, attributes: dict[str, Any]) -> Task:
        if attributes.get("rotation_mode", "rot_6d") != "rot_6d":
            raise ResipError(f"{self.path} has rotations as {attributes['rotation_mode']!r}, not as 'rot_6d'")
        name = str(attributes.get("task", "unknown"))
        return tasks.get(_TASKS.get(name, name))

    def _read(self, name: str, rows: slice = slice(None)) -> NDArray[Any]:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        try:
            return np.asarray(array[rows])
        except (ValueError, RuntimeError, OSError) as error:
            raise ResipError(f"{self.path}: {name} cannot be read ({error})") from error

    def _check_shapes(self) -> None:
        n = int(self._ends[-1]) if len(self._ends) else 0
        parts = spaces.PART_POSE_DIM * (len(self._task.parts) + 1)
        widths = {"robot_state": spaces.STATE_DIM, "action/pos": spaces.ACTION_DIM, "parts_poses": parts}
        for name, width in widths.items():
            array = self._group[name]
            assert isinstance(array, zarr.Array)
            if array.ndim != 2 or array.shape[0] < n or array.shape[1] != width:
                raise ResipError(f"{self.path}: {name} has shape {array.shape}, {self.what} needs {(n, width)}")

    def episode(self, index: int, seed: int) -> Episode:
        """Episode ``index``, converted."""
        rows = slice(int(self._ends[index - 1]) if index else 0, int(self._ends[index]))
        state, action, poses, reward = (self._read(name, rows).astype(np.float64) for name in _NUMBERS)
        where = f"{self.path}, episode {index}"
        _check_rotations(state[:, spaces.STATE_ROT6D], f"{where}: robot_state")
        _check_rotations(action[:, spaces.ACTION_ROT6D], f"{where}: action/pos")
        action[:, spaces.ACTION_GRIPPER] = _latched(action[:, spaces.ACTION_GRIPPER])
        images = {camera: self._read(name, rows) for camera, name in _CAMERAS.items() if self._images}
        success = self._read("success", slice(index, index + 1))[0] if "success" in self._group else reward.sum() > 0
        return Episode(
            robot_state=state,
            part_poses=_part_poses(poses, self._task, where),
            action=action,
            reward=reward,
            joint_positions=_joints(state),
            seed=seed,
            success=bool(success),
            **images,
        )


def _check_rotations(rows: Array, what: str) -> None:
    lengths = np.linalg.norm(rows.reshape(-1, 2, 3), axis=-1)
    if np.abs(lengths - 1.0).max() > _ROW_LENGTH_WITHIN:
        raise ResipError(f"{what} has rotations that are not two rows of a matrix: is the set as it was published?")


def _latched(gripper: Array) -> Array:
    """The command with zeros as the last one before them, and open before the first."""
    commands = np.concatenate([[spaces.GRIPPER_OPEN], np.sign(gripper[:, 0])])
    last = np.maximum.accumulate(np.where(commands != 0, np.arange(len(commands)), 0))
    return commands[last][1:, None]


def _part_poses(poses: Array, task: Task, where: str) -> Array:
    """Poses ``(T, 7 * (parts + 1))`` in the AprilTag frame, as the contract has them."""
    april = frames.from_april(np.zeros(3), np.eye(3))
    given, nominal = poses.reshape(len(poses), -1, spaces.PART_POSE_DIM), nominal_poses(task)
    position = april.position + given[..., :3] @ april.matrix.T
    quat = rotation.quat_from_matrix(april.matrix @ rotation.matrix_from_quat(given[..., 3:]))
    quat[:, -1] = nominal[-1, 3:]
    away_m = np.abs(position[:, -1] - nominal[-1, :3]).max()
    if away_m > _OBSTACLE_WITHIN_M:
        raise ResipError(f"{where}: the obstacle is {away_m:.2f} m away from its place: not in the AprilTag frame")
    return np.concatenate([position, rotation.quat_in_hemisphere(quat, nominal[:, 3:])], axis=-1).reshape(poses.shape)


def _joints(state: Array) -> Array:
    """Joints ``(T, 7)`` that bring the fingertip to where it was, each near the one before."""
    tip = spaces.Pose(state[:, spaces.STATE_POSITION], rotation.matrix_from_rot6d(state[:, spaces.STATE_ROT6D]))
    joints = [ik.solve(panda.RESET_RAD, spaces.Pose(tip.position[0], tip.matrix[0]), _FIRST_IK)]
    for position, matrix in zip(tip.position[1:], tip.matrix[1:], strict=True):
        joints.append(ik.solve(joints[-1], spaces.Pose(position, matrix)))
    return np.array(joints)
