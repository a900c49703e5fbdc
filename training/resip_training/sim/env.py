"""Assembly tasks as a batch of environments: gymnasium's vector API over ``mujoco.batch.Batch``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import gymnasium
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from mujoco.batch import Batch
from numpy.typing import ArrayLike, NDArray
from resip import rotation, spaces
from resip.control import limits, panda
from resip.control.servo import PoseServo
from resip.errors import ResipError

from resip_training.sim import randomize, scene, success, tasks
from resip_training.sim.drive import ArmDrive, Drive, FingerRamp

Array = NDArray[np.float64]
Observations = dict[str, NDArray[Any]]

TIMESTEP_S: Final = 0.004
#: The joint command is renewed this often within a control step, as the robot's 100 Hz node does.
COMMAND_PERIOD_S: Final = 0.02
_COMMANDS_PER_STEP: Final = round(spaces.CONTROL_PERIOD_S / COMMAND_PERIOD_S)
_SUBSTEPS: Final = round(COMMAND_PERIOD_S / TIMESTEP_S)
#: Parts have stopped sliding well within this.
_SETTLE_S: Final = 1.0
#: A part below the table's surface by this has left the table.
FALLEN_BELOW_M: Final = -0.05
_LIMITS: Final = limits.Limits()
_FINGERS: Final = slice(panda.DOF, panda.DOF + 2)


class AssemblyEnv(VectorEnv):
    """``num_envs`` worlds of one task, stepped together at 10 Hz.

    Observation: ``robot_state`` (n, 16), ``part_poses`` (n, 7 * (parts + 1)), and with ``images=True``
    ``front`` and ``wrist`` (n, 240, 320, 3) uint8; see ``spaces``. Action: (n, 10), absolute.
    Reward: 1 for every newly assembled pair. Terminated: all pairs assembled, or a part has left the table
    (``info["fallen"]``). Truncated: the task's number of steps is reached.

    An environment is reset alone through ``reset(seed=[...], options={"reset_mask": mask})``; the others
    are not touched. A seed gives the same episode whatever the number of environments or threads.
    """

    metadata: dict[str, Any] = {"render_fps": spaces.CONTROL_HZ, "autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

    def __init__(
        self,
        task: str = "one_leg",
        num_envs: int = 1,
        randomness: str = "low",
        *,
        drive: Drive = "impedance",
        images: bool = False,
        threads: int = 1,
    ) -> None:
        """Build the scene and the batch.

        Raises:
          ResipError: unknown task or randomness, missing meshes, or no GL for images.
        """
        self.task = tasks.get(task)
        self.level = tasks.randomness(self.task, randomness)
        self.num_envs = num_envs
        self.model = scene.build(self.task, drive, TIMESTEP_S, visual=images)
        self.batch = Batch(self.model, num_envs, threads)
        self._qpos, self._qvel = self.batch.bind("qpos"), self.batch.bind("qvel")
        self._ctrl, self._mocap = self.batch.bind("ctrl"), self.batch.bind("mocap_pos")
        self._parts = _free_joint_slices(self.model, self.task.part_names)
        self._arm = ArmDrive(self.batch, drive)
        self._fingers = FingerRamp(num_envs, self.task.gripper_open_m)
        self._servo = PoseServo(num_envs)
        self.nominal_poses = tasks.nominal_poses(self.task)
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._latched = np.zeros((num_envs, len(self.task.relations)), dtype=bool)
        self._view = mujoco.MjData(self.model)
        self._renderer = self._make_renderer() if images else None
        self._define_spaces(images)

    def _make_renderer(self) -> Any:
        from resip_training.render.renderer import Renderer  # needs GL: only when images are asked for

        return Renderer(self.model, spaces.IMAGE_WIDTH, spaces.IMAGE_HEIGHT)

    def _define_spaces(self, images: bool) -> None:
        box = gymnasium.spaces.Box
        poses = spaces.PART_POSE_DIM * len(self.nominal_poses)
        single: dict[str, gymnasium.Space[Any]] = {
            "robot_state": box(-np.inf, np.inf, (spaces.STATE_DIM,), np.float64),
            "part_poses": box(-np.inf, np.inf, (poses,), np.float64),
        }
        if images:
            shape = (spaces.IMAGE_HEIGHT, spaces.IMAGE_WIDTH, 3)
            single |= {camera: box(0, 255, shape, np.uint8) for camera in spaces.CAMERAS}
        self.single_observation_space = gymnasium.spaces.Dict(single)
        self.single_action_space = box(-1.0, 1.0, (spaces.ACTION_DIM,), np.float64)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, self.num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start episodes.

        Args:
          seed: of environment 0, the others counting up from it; or one for each environment.
          options: ``{"reset_mask": (n,) bool}`` resets those environments only.
        """
        mask = np.ones(self.num_envs, dtype=bool)
        if options and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"], dtype=bool)
        ids = np.flatnonzero(mask)
        self._place(ids, self._seeds(seed, ids))
        self._settle(ids)
        self._steps[ids] = 0
        self._latched[ids] = False
        return self._observe(), {}

    def _seeds(self, seed: int | Sequence[int | None] | None, ids: NDArray[np.int64]) -> list[int]:
        if seed is None:
            return [int(s) for s in np.random.SeedSequence().generate_state(len(ids))]
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + int(i) for i in ids]
        if len(seed) != self.num_envs:
            raise ResipError(f"reset takes one seed for each of the {self.num_envs} environments, got {len(seed)}")
        return [
            int(s) if (s := seed[i]) is not None else int(np.random.SeedSequence().generate_state(1)[0]) for i in ids
        ]

    def _place(self, ids: NDArray[np.int64], seeds: list[int]) -> None:
        self.batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE)
        for i, seed in zip(ids, seeds, strict=True):
            kick = randomize.sample(self.level, np.random.default_rng(seed))
            self._qpos[i, : panda.DOF] = kick.joints_rad
            self._qpos[i, _FINGERS] = self.task.gripper_open_m / 2
            self._mocap[i, 0] = self.nominal_poses[-1, :3] + kick.obstacle_offset_m
            for k, (qpos, qvel) in enumerate(self._parts):
                self._qpos[i, qpos] = _to_mujoco(self.nominal_poses[k])
                matrix = rotation.matrix_from_quat(self.nominal_poses[k, 3:])
                self._qvel[i, qvel] = np.concatenate(
                    [kick.part_velocity_m_s[k], matrix.T @ [0.0, 0.0, kick.part_spin_rad_s[k]]]
                )

    def _settle(self, ids: NDArray[np.int64]) -> None:
        joints = self._qpos[:, : panda.DOF]
        self._servo.reset(joints[ids], self._time(ids), ids)
        self._fingers.reset(ids)
        self._arm.command(joints.copy(), joints)
        self._ctrl[ids, -2:] = self.task.gripper_open_m / 2
        self.batch.step(ids, nstep=round(_SETTLE_S / TIMESTEP_S))
        self._servo.reset(joints[ids], self._time(ids), ids)

    def _time(self, ids: NDArray[np.int64] | slice = slice(None)) -> Array:
        return self.batch.bind("time")[ids].copy()

    def step(
        self, actions: ArrayLike
    ) -> tuple[Observations, Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Advance all environments by one control step (0.1 s) with actions ``(n, 10)``."""
        for _ in self.command_periods(actions):
            pass
        self._steps += 1
        return self._outcome()

    def command_periods(self, actions: ArrayLike) -> Iterator[None]:
        """Do what ``step`` does to the physics, pausing after each renewal of the joint command (20 ms)."""
        actions = np.asarray(actions, dtype=np.float64)
        pose = spaces.action_pose(actions)
        target = spaces.Pose(np.clip(pose.position, _LIMITS.lower_m, _LIMITS.upper_m), pose.matrix)
        time_s = self._time()
        self._servo.set_target(target, time_s)
        self._fingers.command(spaces.gripper_command(actions) > 0, self._qpos[:, _FINGERS].mean(axis=1))
        for k in range(_COMMANDS_PER_STEP):
            self._arm.command(self._servo.sample(time_s + k * COMMAND_PERIOD_S), self._qpos[:, : panda.DOF])
            self._ctrl[:, -2:] = self._fingers.advance(COMMAND_PERIOD_S)[:, None]
            self.batch.step(nstep=_SUBSTEPS)
            yield

    def _outcome(self) -> tuple[Observations, Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        poses = self.part_poses()
        now = success.assembled(self.task, poses)
        reward = np.sum(now & ~self._latched, axis=-1).astype(np.float64)
        self._latched |= now
        fallen = np.any(poses[:, :-1, 2] < FALLEN_BELOW_M, axis=-1)
        done = self._latched.all(axis=-1)
        truncated = ~(done | fallen) & (self._steps >= self.task.max_steps)
        return self._observe(), reward, done | fallen, truncated, {"success": done, "fallen": fallen}

    def joint_positions(self) -> Array:
        """Arm joints, rad, ``(n, 7)``."""
        return self._qpos[:, : panda.DOF].copy()

    def robot_state(self) -> Array:
        """The contract's robot state, ``(n, 16)``."""
        width = self._qpos[:, _FINGERS].sum(axis=1)
        return panda.robot_state(self._qpos[:, : panda.DOF], self._qvel[:, : panda.DOF], width)

    def part_poses(self) -> Array:
        """Part poses and the obstacle's, base frame, ``(n, n_parts + 1, 7)``, quaternions in a fixed hemisphere."""
        rows = [_from_mujoco(self._qpos[:, qpos]) for qpos, _ in self._parts]
        obstacle = np.concatenate([self._mocap[:, 0], np.tile([0.0, 0.0, 0.0, 1.0], (self.num_envs, 1))], axis=-1)
        poses = np.stack([*rows, obstacle], axis=1)
        poses[..., 3:] = rotation.quat_in_hemisphere(poses[..., 3:], self.nominal_poses[:, 3:])
        return poses

    def _observe(self) -> Observations:
        observations: Observations = {
            "robot_state": self.robot_state(),
            "part_poses": self.part_poses().reshape(self.num_envs, -1),
        }
        if self._renderer is not None:
            observations |= {camera: self.images(camera) for camera in spaces.CAMERAS}
        return observations

    def images(self, camera: str) -> NDArray[np.uint8]:
        """Rendered views ``(n, 240, 320, 3)`` of ``camera`` ("front" or "wrist")."""
        if self._renderer is None:
            raise ResipError("this environment was built without images: pass images=True")
        return np.stack([self._renderer.render(self.posed(i), camera) for i in range(self.num_envs)])

    def posed(self, i: int) -> mujoco.MjData:
        """Environment ``i`` as an MjData with current positions, valid until the next call."""
        self._view.qpos[:], self._view.mocap_pos[:] = self._qpos[i], self._mocap[i]
        mujoco.mj_kinematics(self.model, self._view)
        mujoco.mj_camlight(self.model, self._view)
        return self._view

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer's GL context."""
        if self._renderer is not None:
            self._renderer.close()


def _free_joint_slices(model: mujoco.MjModel, names: tuple[str, ...]) -> list[tuple[slice, slice]]:
    """For each part its places in qpos (7) and qvel (6)."""
    slices = []
    for name in names:
        joint = model.joint(name)
        qpos, qvel = int(joint.qposadr[0]), int(joint.dofadr[0])
        slices.append((slice(qpos, qpos + 7), slice(qvel, qvel + 6)))
    return slices


def _to_mujoco(pose: Array) -> Array:
    """Position and xyzw to MuJoCo's position and wxyz."""
    return pose[..., [0, 1, 2, 6, 3, 4, 5]]


def _from_mujoco(qpos: Array) -> Array:
    """MuJoCo's position and wxyz to position and xyzw."""
    return qpos[..., [0, 1, 2, 4, 5, 6, 3]]
