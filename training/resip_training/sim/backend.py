"""What every physics backend shares: the arm's controller within a control step, and how the worlds are read.

``worlds`` integrates with MuJoCo on the CPU, over numpy arrays; ``warp_worlds`` on a GPU, over torch tensors that
never leave it. ``env`` makes a learning environment of either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Final

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray
from resip import arrays, rotation, spaces
from resip.control import limits, panda
from resip.control.servo import PoseServo

from resip_training.sim import hold
from resip_training.sim.drive import ArmDrive, FingerRamp
from resip_training.sim.task import Randomness, Task, nominal_poses

Array = NDArray[np.float64]

#: The joint command is renewed this often within a control step, as the robot's 100 Hz node does.
COMMAND_PERIOD_S: Final = 0.02
_COMMANDS_PER_STEP: Final = round(spaces.CONTROL_PERIOD_S / COMMAND_PERIOD_S)
#: A part below the table's surface by this has left the table.
FALLEN_BELOW_M: Final = -0.05
_LIMITS: Final = limits.Limits()
FINGERS: Final = slice(panda.DOF, panda.DOF + 2)
#: MuJoCo state fields that, with the servo's and the fingers' goals, make up a world.
STATE_FIELDS: Final = ("time", "qpos", "qvel", "ctrl", "mocap_pos", "qacc_warmstart")


class Backend(ABC):
    """``count`` worlds of one task, stepped together; a seed's start does not depend on how many there are."""

    def __init__(
        self,
        task: Task,
        level: Randomness,
        model: mujoco.MjModel,
        state: Mapping[str, Any],
        tendon_rows: Any,
        dofs: Mapping[str, Any],
    ) -> None:
        """Attach the controller to the arrays that the physics reads and writes, one row a world.

        Args:
          task: what is simulated.
          level: how far episodes start from the nominal layout.
          model: the scene.
          state: the fields ``STATE_FIELDS``.
          tendon_rows: coefficients ``(n, 42)`` of the impedance drive's tendons; None for another drive.
          dofs: the fields ``hold.HELD`` of all degrees of freedom, each ``(n, nv)``; empty if the task holds no part.
        """
        self.task, self.level, self.model = task, level, model
        self._state = dict(state)
        self.qpos, self.qvel, self.mocap_pos = state["qpos"], state["qvel"], state["mocap_pos"]
        self._ctrl, self._time_s = state["ctrl"], state["time"]
        self.count = len(self.qpos)
        self._xp = arrays.namespace(self.qpos)
        self._nominal = nominal_poses(task)
        self._parts = free_joints(model, task.part_names)
        self._arm = ArmDrive(self._ctrl, tendon_rows)
        self._fingers = FingerRamp(self.count, task.gripper_open_m, kind=self.qpos)
        self._servo = PoseServo(self.count, kind=self.qpos)
        self._dofs = dict(dofs)
        self._held = arrays.like(np.zeros(self.count), self.qpos, bool)
        self._substeps = round(COMMAND_PERIOD_S / task.timestep_s)

    # ---- what each backend does in its own way ----

    @abstractmethod
    def reset(self, mask: Any, seeds: Any) -> None:
        """Start the worlds where ``mask`` ``(n,)`` holds, each from its own of the ``n`` seeds.

        Raises:
          ResipError: a seed has given no valid start in many tries.
        """

    @abstractmethod
    def push(self) -> None:
        """Kick the parts that are hit at this control step, as the draws of each world's seed have it."""

    @abstractmethod
    def _advance(self, substeps: int) -> None:
        """Integrate all worlds."""

    # ---- stepping ----

    def step(self, actions: ArrayLike) -> None:
        """Advance all worlds by one control step (0.1 s) with actions ``(count, 10)``."""
        for _ in self.command_periods(actions):
            pass

    def command_periods(self, actions: ArrayLike) -> Iterator[None]:
        """Do what ``step`` does, pausing after each renewal of the joint command (20 ms)."""
        actions = arrays.like(actions, self.qpos)
        pose = spaces.action_pose(actions)
        lower, upper = (arrays.constant(np.array(bound), self.qpos) for bound in (_LIMITS.lower_m, _LIMITS.upper_m))
        target = spaces.Pose(self._xp.clip(pose.position, lower, upper), pose.matrix)
        time_s = arrays.copy(self._time_s)
        self._servo.set_target(target, time_s)
        self._fingers.command(spaces.gripper_command(actions) > 0, arrays.floats(self.qpos[:, FINGERS]).mean(axis=1))
        for k in range(_COMMANDS_PER_STEP):
            self._release_near()
            self._arm.command(self._servo.sample(time_s + k * COMMAND_PERIOD_S), self.qpos[:, : panda.DOF])
            self._ctrl[:, -2:] = self._fingers.advance(COMMAND_PERIOD_S)[:, None]
            self._advance(self._substeps)
            yield

    def _kick(self, worlds: int | slice, velocity_m_s: Any, spin_rad_s: Any) -> None:
        """Add to the parts' velocities ``(..., n_parts, 3)`` and their spins about the vertical ``(..., n_parts)``."""
        for k, (qpos, qvel) in enumerate(self._parts):
            up = rotation.matrix_from_quat(from_mujoco(self.qpos[worlds, qpos])[..., 3:])[..., 2, :]
            change = self._xp.concatenate([velocity_m_s[..., k, :], spin_rad_s[..., k, None] * up], axis=-1)
            self.qvel[worlds, qvel] += change

    # ---- the part that is held ----

    def _hold(self, held: Any) -> None:
        """Hold the task's part in the worlds where ``held`` ``(n,)``, and let it go in the others."""
        if not self._dofs:
            return
        self._held = held
        part = self._parts[self._held_index()][1]
        for name, values in self._dofs.items():
            free = arrays.constant(getattr(self.model, name)[part], self.qpos)
            values[:, part] = self._xp.where(held[:, None], hold.HELD[name], free)

    def _release_near(self) -> None:
        if not self._dofs:
            return
        qpos, qvel = self._parts[self._held_index()]
        near = hold.is_near(panda.ee_pose(self.qpos[:, : panda.DOF]).position, self.qpos[:, qpos][:, :3])
        self.qvel[:, qvel.start] += hold.WAKING_M_S * (self._held & near)
        self._hold(self._held & ~near)

    def _held_index(self) -> int:
        return self.task.part_names.index(str(self.task.held_part))

    # ---- what is seen ----

    def joint_positions(self) -> Any:
        """Arm joints, rad, ``(count, 7)``."""
        return arrays.copy(arrays.floats(self.qpos[:, : panda.DOF]))

    def robot_state(self) -> Any:
        """The contract's robot state, ``(count, 16)``."""
        width = arrays.floats(self.qpos[:, FINGERS]).sum(axis=1)
        return panda.robot_state(self.qpos[:, : panda.DOF], self.qvel[:, : panda.DOF], width)

    def part_poses(self) -> Any:
        """Part poses and the obstacle's, base frame, ``(count, n_parts + 1, 7)``, quaternions in a fixed hemisphere."""
        rows = [from_mujoco(arrays.floats(self.qpos[:, qpos])) for qpos, _ in self._parts]
        upright = self._xp.broadcast_to(arrays.constant(np.array([0.0, 0.0, 0.0, 1.0]), self.qpos), (self.count, 4))
        obstacle = self._xp.concatenate([arrays.floats(self.mocap_pos[:, 0]), upright], axis=-1)
        poses = self._xp.stack([*rows, obstacle], axis=1)
        nominal = arrays.constant(self._nominal[:, 3:], self.qpos)
        poses[..., 3:] = rotation.quat_in_hemisphere(poses[..., 3:], nominal)
        return poses

    # ---- when the physics fails ----

    def finite(self) -> Any:
        """Which worlds' states are numbers, ``(count,)``."""
        return self._xp.isfinite(self.qpos).all(axis=1) & self._xp.isfinite(self.qvel).all(axis=1)

    def snapshot(self) -> dict[str, Any]:
        """Everything that decides how the worlds go on, each entry ``(count, ...)``; named alike in all backends."""
        physics = {name: arrays.copy(values) for name, values in self._state.items()}
        fingers = {"finger_target_m": self._fingers.target_m, "finger_goal_m": self._fingers.goal_m}
        others = fingers | {"held": self._held}
        return physics | _prefixed("servo_", self._servo.snapshot()) | {k: arrays.copy(v) for k, v in others.items()}

    def restore(self, state: Mapping[str, Any], mask: Any) -> None:
        """Put the worlds where ``mask`` ``(count,)`` holds back to where a ``snapshot`` of as many was taken."""
        blended = {name: self._blend(mask, state[name], now) for name, now in self.snapshot().items()}
        for name, values in self._state.items():
            values[:] = blended[name]
        self._servo.restore(
            {name.removeprefix("servo_"): values for name, values in blended.items() if name.startswith("servo_")}
        )
        self._fingers.target_m, self._fingers.goal_m = blended["finger_target_m"], blended["finger_goal_m"]
        self._hold(blended["held"])

    def _blend(self, mask: Any, there: Any, elsewhere: Any) -> Any:
        return self._xp.where(mask.reshape(-1, *[1] * (elsewhere.ndim - 1)), there, elsewhere)


def _prefixed(prefix: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: values for name, values in entries.items()}


def free_joints(model: mujoco.MjModel, names: tuple[str, ...]) -> list[tuple[slice, slice]]:
    """For each part its places in qpos (7) and qvel (6)."""
    slices = []
    for name in names:
        joint = model.joint(name)
        qpos, qvel = int(joint.qposadr[0]), int(joint.dofadr[0])
        slices.append((slice(qpos, qpos + 7), slice(qvel, qvel + 6)))
    return slices


def to_mujoco(pose: Array) -> Array:
    """Position and xyzw to MuJoCo's position and wxyz."""
    return pose[..., [0, 1, 2, 6, 3, 4, 5]]


def from_mujoco(qpos: Any) -> Any:
    """MuJoCo's position and wxyz to position and xyzw."""
    # not by a list of indices: that would be copied to the device each time
    return arrays.namespace(qpos).concatenate([qpos[..., :3], qpos[..., 4:], qpos[..., 3:4]], axis=-1)
