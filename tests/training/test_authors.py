"""The authors' published sets become sets of this project: the same places, rotations and commands, in its frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from resip import rotation, spaces
from resip.control import panda
from resip.errors import ResipError
from resip_training.data.authors import import_demos
from resip_training.data.store import DemoSet
from resip_training.sim.task import nominal_poses
from resip_training.sim.tasks import ONE_LEG

LENGTHS = (6, 9)
N = sum(LENGTHS)
ATTRIBUTES = {"task": "one_leg", "randomness": "low", "rotation_mode": "rot_6d", "demo_source": "teleop", "suffix": ""}


def base_poses() -> np.ndarray:
    """Part poses and the obstacle's in the base frame, ``(N, parts + 1, 7)``: turned about the vertical, and moved."""
    rng = np.random.default_rng(0)
    nominal = nominal_poses(ONE_LEG)
    poses = np.broadcast_to(nominal, (N, *nominal.shape)).copy()
    poses[..., :3] += rng.uniform(-0.02, 0.02, (N, len(nominal), 3)) * [1.0, 1.0, 0.0]
    for part in range(len(nominal) - 1):
        turn = rotation.matrix_from_rotvec(np.outer(rng.uniform(-0.2, 0.2, N), [0.0, 0.0, 1.0]))
        matrix = turn @ rotation.matrix_from_quat(nominal[part, 3:])
        poses[:, part, 3:] = rotation.quat_in_hemisphere(rotation.quat_from_matrix(matrix), nominal[part, 3:])
    return poses


def april_poses(base: np.ndarray) -> np.ndarray:
    """The same as the authors record them: x is our y, y is our x less 0.3015 m, z points down; w is not negative."""
    axes = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    position = (base[..., :3] - [0.3015, 0.0, 0.0]) @ axes.T
    matrix = rotation.matrix_from_quat(base[..., 3:])
    matrix[:, -1] = rotation.matrix_from_rotvec([0.0, 0.0, np.pi / 2])  # their wall is turned by a quarter
    quat = rotation.quat_from_matrix(axes @ matrix)
    quat *= np.where(quat[..., 3:] < 0, -1.0, 1.0)
    return np.concatenate([position, quat], axis=-1)


def arm() -> tuple[np.ndarray, np.ndarray]:
    """Robot states ``(N, 16)`` of a moving arm, and the actions that led it."""
    joints = panda.RESET_RAD + 0.1 * np.sin(np.arange(N)[:, None] / 8 + np.arange(7))
    tip = panda.ee_pose(joints)
    zeros = np.zeros((N, 3))
    state = spaces.pack_state(tip.position, tip.matrix, zeros, zeros, np.full(N, 0.065))
    return state, spaces.pack_action(tip.position + [0.01, 0.0, 0.0], tip.matrix, np.ones(N))


GRIPPER = np.array([0, -1, 1, 0, 0, -1] + [0, 0, 1, 1, 1, 0, -1, -1, -1], dtype=float)
LATCHED = np.array([-1, -1, 1, 1, 1, -1] + [-1, -1, 1, 1, 1, 1, -1, -1, -1], dtype=float)


def published(path: Path, images: bool = False, **changes: Any) -> Path:
    """A set in the layout that the authors publish."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.attrs.update({**ATTRIBUTES, **changes.pop("attributes", {})})
    state, action = arm()
    action[:, -1] = GRIPPER
    arrays: dict[str, np.ndarray] = {
        "robot_state": state.astype(np.float32),
        "action/pos": action.astype(np.float32),
        "action/delta": np.zeros((N, 10), np.float32),
        "parts_poses": april_poses(base_poses()).reshape(N, -1).astype(np.float32),
        "reward": np.eye(N, dtype=np.float32)[-1],
        "skill": np.zeros(N, np.float32),
        "episode_ends": np.cumsum(LENGTHS).astype(np.uint32),
        "success": np.array([0, 1], np.uint8),
    }
    if images:
        rows = np.arange(N, dtype=np.uint8)[:, None, None, None]
        arrays |= {f"color_image{k}": np.full((N, 240, 320, 3), 50 * k, np.uint8) + rows for k in (1, 2)}
    for name, values in (arrays | changes).items():
        compressor = numcodecs.Blosc(cname="lz4", clevel=5)
        array = group.create_array(
            name, shape=values.shape, chunks=(1000, *values.shape[1:]), dtype=values.dtype, compressors=compressor
        )
        array[:] = values
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return published(tmp_path / "success.zarr")


def test_parts_are_where_they_were_in_our_frame_and_hemisphere(source: Path, tmp_path: Path) -> None:
    import_demos([source], tmp_path / "out", images=False)
    demos = DemoSet(tmp_path / "out", task="one_leg")
    np.testing.assert_allclose(demos.part_poses.reshape(N, -1, 7), base_poses(), atol=1e-6)


def test_states_and_actions_are_those_published(source: Path, tmp_path: Path) -> None:
    import_demos([source], tmp_path / "out", images=False)
    demos = DemoSet(tmp_path / "out")
    state, action = arm()
    np.testing.assert_allclose(demos.robot_state, state, atol=1e-6)
    np.testing.assert_allclose(demos.action[:, :9], action[:, :9], atol=1e-6)
    assert demos.episodes == [slice(0, 6), slice(6, 15)]
    assert demos.success.tolist() == [False, True]
    assert demos.seeds.tolist() == [0, 1]
    assert demos.reward.tolist() == [0.0] * 14 + [1.0]


def test_a_command_of_zero_repeats_the_last_one_of_its_episode(source: Path, tmp_path: Path) -> None:
    import_demos([source], tmp_path / "out", images=False)
    np.testing.assert_array_equal(DemoSet(tmp_path / "out").action[:, -1], LATCHED)


def test_solved_joints_bring_the_fingertip_to_where_it_was(source: Path, tmp_path: Path) -> None:
    import_demos([source], tmp_path / "out", images=False)
    demos = DemoSet(tmp_path / "out")
    np.testing.assert_allclose(panda.ee_pose(demos.joint_positions).position, demos.robot_state[:, :3], atol=1e-4)


def test_images_come_with_their_camera(tmp_path: Path) -> None:
    import_demos([published(tmp_path / "images.zarr", images=True)], tmp_path / "out")
    demos = DemoSet(tmp_path / "out", images=True)
    for camera, first in (("wrist", 50), ("front", 100)):
        np.testing.assert_array_equal(demos.images(camera, slice(0, N))[:, 0, 0, 0], first + np.arange(N))


def test_it_is_told_where_the_set_is_from(source: Path, tmp_path: Path) -> None:
    import_demos([source], tmp_path / "out", images=False)
    provenance = DemoSet(tmp_path / "out").provenance
    assert (provenance["task"], provenance["randomness"], provenance["source"]) == ("one_leg", "low", "published")
    assert provenance["simulator"]["imported"] == [{"from": "success.zarr", **ATTRIBUTES}]


def test_several_sets_of_a_level_become_one_and_an_interrupted_import_goes_on(source: Path, tmp_path: Path) -> None:
    other = published(tmp_path / "perturbed.zarr", attributes={"suffix": "perturb"})
    for _ in range(2):
        import_demos([source, other], tmp_path / "out", images=False)
        assert DemoSet(tmp_path / "out").seeds.tolist() == [0, 1, 2, 3]


# ---- what is not such a set ----


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"task": "mug_rack"}, "unknown task 'mug_rack'.*one_leg"),
        ({"task": "lamp"}, r"parts_poses has shape \(15, 42\), lamp low needs \(15, 28\)"),
        ({"rotation_mode": "quat"}, "rotations as 'quat'"),
    ],
)
def test_other_tasks_and_rotations_are_refused(tmp_path: Path, attributes: dict[str, str], message: str) -> None:
    with pytest.raises(ResipError, match=message):
        import_demos([published(tmp_path / "other.zarr", attributes=attributes)], tmp_path / "out", images=False)
    assert not (tmp_path / "out").exists()


def test_poses_in_another_frame_are_found_out(tmp_path: Path) -> None:
    poses = base_poses().reshape(N, -1).astype(np.float32)
    with pytest.raises(ResipError, match=r"the obstacle is .* away from its place"):
        import_demos([published(tmp_path / "base.zarr", parts_poses=poses)], tmp_path / "out", images=False)


def test_rotations_that_are_none_are_found_out(tmp_path: Path) -> None:
    state = 2.0 * arm()[0].astype(np.float32)
    with pytest.raises(ResipError, match="episode 0: robot_state has rotations that are not two rows"):
        import_demos([published(tmp_path / "scaled.zarr", robot_state=state)], tmp_path / "out", images=False)


def test_missing_images_and_folders_are_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ResipError, match="no array 'color_image1': give --no-images"):
        import_demos([source], tmp_path / "out")
    with pytest.raises(ResipError, match="absent is no zarr folder"):
        import_demos([tmp_path / "absent"], tmp_path / "out")
    with pytest.raises(ResipError, match="no set to import"):
        import_demos([], tmp_path / "out")


def test_levels_are_not_mixed(source: Path, tmp_path: Path) -> None:
    other = published(tmp_path / "med.zarr", attributes={"randomness": "med"})
    with pytest.raises(ResipError, match=r"med\.zarr is one_leg med, .* one_leg low: import them apart"):
        import_demos([source, other], tmp_path / "out", images=False)
