"""Many copies of a task's physics, on the CPU: random starts, one control step, and what can be observed of them.

``env`` makes a learning environment of this; it asks no more of a backend than the methods of ``Worlds``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import ArrayLike, NDArray
from resip import rotation, spaces
from resip.control import limits, panda
from resip.control.servo import PoseServo
from resip.errors import ResipError

from resip_training.sim import hold, randomize, robot, scene
from resip_training.sim.drive import ArmDrive, Drive, FingerRamp
from resip_training.sim.task import Randomness, Task, nominal_poses

Array = NDArray[np.float64]
Ids = NDArray[np.int64]

#: The joint command is renewed this often within a control step, as the robot's 100 Hz node does.
COMMAND_PERIOD_S: Final = 0.02
_COMMANDS_PER_STEP: Final = round(spaces.CONTROL_PERIOD_S / COMMAND_PERIOD_S)
#: Parts have stopped sliding well within this.
_SETTLE_S: Final = 1.0
#: A part below the table's surface by this has left the table.
FALLEN_BELOW_M: Final = -0.05
#: Deeper contacts than this are parts that started inside one another; resting ones are shallower by far.
_OVERLAP_M: Final = 0.002
_MAX_TRIES: Final = 50
_LIMITS: Final = limits.Limits()
_FINGERS: Final = slice(panda.DOF, panda.DOF + 2)
#: MuJoCo state fields that, with the servo's and the fingers' goals, make up a world.
_STATE_FIELDS: Final = ("time", "qpos", "qvel", "ctrl", "mocap_pos", "qacc_warmstart")


class Worlds:
    """``count`` worlds of one task, stepped together; a seed's start does not depend on how many there are."""

    def __init__(self, task: Task, count: int, level: Randomness, drive: Drive = "impedance", threads: int = 1) -> None:
        """Build the scene and the batch.

        Raises:
          ResipError: the meshes' wheel is missing.
        """
        self.task, self.level = task, level
        self.count = count
        self.model = scene.build(task, drive)
        self.batch = Batch(self.model, count, threads)
        self.qpos, self.qvel = self.batch.bind("qpos"), self.batch.bind("qvel")
        self._ctrl, self.mocap_pos = self.batch.bind("ctrl"), self.batch.bind("mocap_pos")
        self._time_s = self.batch.bind("time")
        self._nominal = nominal_poses(task)
        self._parts = free_joints(self.model, task.part_names)
        self._arm_geoms = _geoms_of(self.model, robot.MOVING_BODIES)
        self._arm = ArmDrive(self.batch, drive)
        self._fingers = FingerRamp(count, task.gripper_open_m)
        self._servo = PoseServo(count)
        self._damping = self.batch.expand("dof_damping") if task.held_part else None
        self._armature = self.batch.expand("dof_armature") if task.held_part else None
        self._held = np.zeros(count, dtype=bool)
        self._view = mujoco.MjData(self.model)
        self._substeps = round(COMMAND_PERIOD_S / task.timestep_s)

    # ---- starting ----

    def reset(self, ids: Ids, seeds: list[int]) -> None:
        """Start the worlds ``ids`` from their seeds: kicked parts slide to rest; what overlaps then is drawn again.

        Raises:
          ResipError: a seed has given no valid start in many tries.
        """
        draws = {int(i): np.random.default_rng(seed) for i, seed in zip(ids, seeds, strict=True)}
        waiting = ids
        for _ in range(_MAX_TRIES):
            self._set_held(waiting, False)
            self.batch.reset(waiting, stage=mujoco.mjtStage.mjSTAGE_NONE)
            for i in waiting:
                self._place(int(i), draws[int(i)])
            self._settle(waiting)
            waiting = np.array([i for i in waiting if not self._valid_start(int(i))], dtype=np.int64)
            if not len(waiting):
                self._set_held(ids, True)
                return
        raise ResipError(f"{self.task.name}: no start without overlapping parts in {_MAX_TRIES} tries")

    def _place(self, i: int, rng: np.random.Generator) -> None:
        kick = randomize.sample(self.level, rng)
        self.qpos[i, _FINGERS] = self.task.gripper_open_m / 2
        self.mocap_pos[i, 0] = self._nominal[-1, :3] + kick.obstacle_offset_m
        for k, (qpos, _) in enumerate(self._parts):
            turn = rotation.matrix_from_rotvec([0.0, 0.0, kick.part_yaw_rad[k]])
            matrix = turn @ rotation.matrix_from_quat(self._nominal[k, 3:])
            position = self._nominal[k, :3] + kick.part_offset_m[k]
            self.qpos[i, qpos] = to_mujoco(np.append(position, rotation.quat_from_matrix(matrix)))
        self._kick(i, kick.part_velocity_m_s, kick.part_spin_rad_s)
        self.qpos[i, : panda.DOF] = kick.joints_rad
        while self._arm_touches(i):
            self.qpos[i, : panda.DOF] = randomize.arm(self.level, rng)

    def _kick(self, i: int, velocity_m_s: Array, spin_rad_s: Array) -> None:
        """Add to the parts' velocities ``(n_parts, 3)`` and their spins about the vertical ``(n_parts,)``."""
        for k, (qpos, qvel) in enumerate(self._parts):
            matrix = rotation.matrix_from_quat(from_mujoco(self.qpos[i, qpos])[3:])
            self.qvel[i, qvel] += np.concatenate([velocity_m_s[k], matrix.T @ [0.0, 0.0, spin_rad_s[k]]])

    def _settle(self, ids: Ids) -> None:
        joints = self.qpos[:, : panda.DOF]
        self._servo.reset(joints[ids], self._time_s[ids].copy(), ids)
        self._fingers.reset(ids)
        self._arm.command(joints.copy(), joints)
        self._ctrl[ids, -2:] = self.task.gripper_open_m / 2
        self.batch.step(ids, nstep=round(_SETTLE_S / self.task.timestep_s))
        self._servo.reset(joints[ids], self._time_s[ids].copy(), ids)

    def _contacts(self, i: int) -> Any:
        """Contacts of world ``i`` in its present positions; None if those are not numbers."""
        view = self.posed(i)
        mujoco.mj_collision(self.model, view)
        return view.contact

    def _arm_touches(self, i: int) -> bool:
        return bool(np.isin(self._contacts(i).geom, self._arm_geoms).any())

    def _valid_start(self, i: int) -> bool:
        contact = self._contacts(i)
        on_table = all(self.qpos[i, qpos][2] > FALLEN_BELOW_M for qpos, _ in self._parts)
        apart = not len(contact.dist) or contact.dist.min() > -_OVERLAP_M
        return bool(on_table and apart and not np.isin(contact.geom, self._arm_geoms).any())

    # ---- the part that is held ----

    def _set_held(self, ids: Ids, held: bool) -> None:
        if self._damping is None or self._armature is None:
            return
        dofs = self._held_dofs()
        self._held[ids] = held
        self._damping[ids, dofs] = hold.HELD_DAMPING if held else self.model.dof_damping[dofs]
        self._armature[ids, dofs] = hold.HELD_ARMATURE if held else self.model.dof_armature[dofs]

    def _release_near(self) -> None:
        if self._damping is not None and self._held.any():
            part = self.qpos[:, self._held_qpos()][:, :3]
            near = hold.is_near(panda.ee_pose(self.qpos[:, : panda.DOF]).position, part)
            self._set_held(np.flatnonzero(self._held & near), False)

    def _held_index(self) -> int:
        return self.task.part_names.index(str(self.task.held_part))

    def _held_qpos(self) -> slice:
        return self._parts[self._held_index()][0]

    def _held_dofs(self) -> slice:
        return self._parts[self._held_index()][1]

    # ---- stepping ----

    def step(self, actions: ArrayLike) -> None:
        """Advance all worlds by one control step (0.1 s) with actions ``(count, 10)``."""
        for _ in self.command_periods(actions):
            pass

    def command_periods(self, actions: ArrayLike) -> Iterator[None]:
        """Do what ``step`` does, pausing after each renewal of the joint command (20 ms)."""
        actions = np.asarray(actions, dtype=np.float64)
        pose = spaces.action_pose(actions)
        target = spaces.Pose(np.clip(pose.position, _LIMITS.lower_m, _LIMITS.upper_m), pose.matrix)
        time_s = self._time_s.copy()
        self._servo.set_target(target, time_s)
        self._fingers.command(spaces.gripper_command(actions) > 0, self.qpos[:, _FINGERS].mean(axis=1))
        for k in range(_COMMANDS_PER_STEP):
            self._release_near()
            self._arm.command(self._servo.sample(time_s + k * COMMAND_PERIOD_S), self.qpos[:, : panda.DOF])
            self._ctrl[:, -2:] = self._fingers.advance(COMMAND_PERIOD_S)[:, None]
            self.batch.step(nstep=self._substeps)
            yield

    def push(self, i: int, hit: NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Kick those parts of world ``i`` that are ``hit`` ``(n_parts,)``, as hard as at the start of an episode."""
        velocity, spin = randomize.impulses(self.level, rng)
        self._kick(i, velocity * hit[:, None], spin * hit)

    # ---- what is seen ----

    def joint_positions(self) -> Array:
        """Arm joints, rad, ``(count, 7)``."""
        return self.qpos[:, : panda.DOF].copy()

    def robot_state(self) -> Array:
        """The contract's robot state, ``(count, 16)``."""
        width = self.qpos[:, _FINGERS].sum(axis=1)
        return panda.robot_state(self.qpos[:, : panda.DOF], self.qvel[:, : panda.DOF], width)

    def part_poses(self) -> Array:
        """Part poses and the obstacle's, base frame, ``(count, n_parts + 1, 7)``, quaternions in a fixed hemisphere."""
        rows = [from_mujoco(self.qpos[:, qpos]) for qpos, _ in self._parts]
        obstacle = np.concatenate([self.mocap_pos[:, 0], np.tile([0.0, 0.0, 0.0, 1.0], (self.count, 1))], axis=-1)
        poses = np.stack([*rows, obstacle], axis=1)
        poses[..., 3:] = rotation.quat_in_hemisphere(poses[..., 3:], self._nominal[:, 3:])
        return poses

    def posed(self, i: int) -> mujoco.MjData:
        """World ``i`` as an MjData with current positions, valid until the next call."""
        self._view.qpos[:], self._view.mocap_pos[:] = self.qpos[i], self.mocap_pos[i]
        mujoco.mj_kinematics(self.model, self._view)
        mujoco.mj_comPos(self.model, self._view)
        mujoco.mj_camlight(self.model, self._view)
        return self._view

    # ---- when the physics fails ----

    def finite(self) -> NDArray[np.bool_]:
        """Which worlds' states are numbers, ``(count,)``."""
        return np.isfinite(self.qpos).all(axis=1) & np.isfinite(self.qvel).all(axis=1)

    def snapshot(self) -> dict[str, Array]:
        """Everything that decides how the worlds go on, each entry ``(count, ...)``."""
        state = {name: np.array(self.batch.bind(name)) for name in _STATE_FIELDS}
        state["held"] = self._held.copy()
        return state | {f"servo_{k}": v for k, v in self._servo.snapshot().items()} | self._finger_state()

    def _finger_state(self) -> dict[str, Array]:
        return {"finger_target_m": self._fingers.target_m.copy(), "finger_goal_m": self._fingers.goal_m.copy()}

    def restore(self, state: dict[str, Array], ids: Ids) -> None:
        """Put the worlds ``ids`` back to where a ``snapshot`` of as many worlds was taken."""
        for name in _STATE_FIELDS:
            self.batch.bind(name)[ids] = state[name][ids]
        held = state["held"][ids] > 0
        self._set_held(ids[held], True)
        self._set_held(ids[~held], False)
        self._servo.restore({k.removeprefix("servo_"): v for k, v in state.items() if k.startswith("servo_")}, ids)
        self._fingers.target_m[ids], self._fingers.goal_m[ids] = (
            state["finger_target_m"][ids],
            state["finger_goal_m"][ids],
        )


def free_joints(model: mujoco.MjModel, names: tuple[str, ...]) -> list[tuple[slice, slice]]:
    """For each part its places in qpos (7) and qvel (6)."""
    slices = []
    for name in names:
        joint = model.joint(name)
        qpos, qvel = int(joint.qposadr[0]), int(joint.dofadr[0])
        slices.append((slice(qpos, qpos + 7), slice(qvel, qvel + 6)))
    return slices


def _geoms_of(model: mujoco.MjModel, bodies: tuple[str, ...]) -> NDArray[np.int64]:
    return np.flatnonzero(np.isin(model.geom_bodyid, [model.body(name).id for name in bodies]))


def to_mujoco(pose: Array) -> Array:
    """Position and xyzw to MuJoCo's position and wxyz."""
    return pose[..., [0, 1, 2, 6, 3, 4, 5]]


def from_mujoco(qpos: Array) -> Array:
    """MuJoCo's position and wxyz to position and xyzw."""
    return qpos[..., [0, 1, 2, 4, 5, 6, 3]]
