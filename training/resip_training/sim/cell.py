"""One simulated robot cell for the ROS graph: torques in, joints, gripper and camera images out.

The physics is the training environment's, at a finer step and without its joint drive: torques come from
whatever controller the simulated Polymetis server runs. Episodes start from the same states as training's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray
from resip import rotation, spaces
from resip.control import panda

from resip_training.sim import hold, robot, scene, success, tasks
from resip_training.sim.appearance import Appearances
from resip_training.sim.backend import FALLEN_BELOW_M, free_joints
from resip_training.sim.drive import FingerRamp
from resip_training.sim.task import nominal_poses
from resip_training.sim.worlds import Worlds

if TYPE_CHECKING:
    from resip_training.render.renderer import Renderer

Array = NDArray[np.float64]

TIMESTEP_S: Final = 0.002
_MOVING_M_S: Final = 0.002
_EMPTY_WIDTH_M: Final = 0.002


class Cell:
    """A single world, stepped with joint torques.

    Not thread-safe but for ``render``'s GL context: create, step and render it in one thread.
    """

    def __init__(
        self,
        task: str = "one_leg",
        randomness: str = "low",
        timestep_s: float = TIMESTEP_S,
        images: bool = True,
        random_looks: bool = False,
    ) -> None:
        """Build the scene.

        Args:
          task: whose parts lie in the cell.
          randomness: level of the starts.
          timestep_s: of physics and control; the task may need a finer one.
          images: whether there are cameras.
          random_looks: every episode has lights, colours, textures and cameras of its own, drawn from its seed.

        Raises:
          ResipError: unknown task or randomness, missing meshes, or no GL for images.
        """
        self.task = tasks.get(task)
        self._starts = Worlds(self.task, 1, tasks.randomness(self.task, randomness), threads=1)
        self._nominal = nominal_poses(self.task)
        timestep_s = min(timestep_s, self.task.timestep_s)
        self.timestep_s = timestep_s
        self.model = scene.build(self.task, "torque", timestep_s, visual=images)
        self.data = mujoco.MjData(self.model)
        self._fingers = FingerRamp(1, self.task.gripper_open_m)
        self._renderer: Renderer | None = None
        self._images = images
        self._appearances = Appearances(self.model) if images and random_looks else None
        self._time_offset_s = 0.0
        self._parts_qpos = panda.DOF + 2  # free joints follow arm and fingers
        self._free = {name: getattr(self.model, name).copy() for name in hold.HELD}
        self._held = False
        self.seed = 0
        self.reset(0)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts, in the order of ``part_poses``."""
        return self.task.part_names

    @property
    def time_s(self) -> float:
        """The cell's clock; it runs on through resets."""
        return self._time_offset_s + float(self.data.time)

    @property
    def joint_positions(self) -> Array:
        """Arm joints, rad, ``(7,)``."""
        return self.data.qpos[: panda.DOF].copy()

    @property
    def joint_velocities(self) -> Array:
        """Arm joint speeds, rad/s, ``(7,)``."""
        return self.data.qvel[: panda.DOF].copy()

    @property
    def external_torques(self) -> Array:
        """Torques (N m) that contacts exert on the arm's joints, ``(7,)``."""
        return self.data.qfrc_constraint[: panda.DOF].copy()

    @property
    def gripper_width_m(self) -> float:
        """Distance between the fingers."""
        return float(self.data.qpos[panda.DOF : panda.DOF + 2].sum())

    @property
    def gripper_moving(self) -> bool:
        """Whether the fingers move or have only just been told to."""
        speed = np.abs(self.data.qvel[panda.DOF : panda.DOF + 2]).max()
        return bool(speed > _MOVING_M_S)

    @property
    def gripper_grasped(self) -> bool:
        """Whether the closing fingers are held apart by something."""
        closing = self._fingers.goal_m[0] < self.gripper_width_m / 2 - _EMPTY_WIDTH_M
        return bool(closing and not self.gripper_moving and self.gripper_width_m > _EMPTY_WIDTH_M)

    def reset(self, seed: int, randomness: str | None = None) -> None:
        """Start episode ``seed``: parts, obstacle and arm as the training environment starts it.

        Args:
          seed: of the random start.
          randomness: level from now on; None keeps the present one.

        Raises:
          UnknownNameError: the task has no such level.
        """
        if randomness is not None:
            self._starts.level = tasks.randomness(self.task, randomness)
        self.seed = seed
        self._time_offset_s = self.time_s
        self._starts.reset(np.array([True]), [seed])
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self._starts.qpos[0]
        self.data.mocap_pos[:] = self._starts.mocap_pos[0]
        self._fingers.reset()
        self.data.ctrl[panda.DOF :] = self.task.gripper_open_m / 2
        self._hold(self.task.held_part is not None)
        if self._appearances is not None:
            self._pictures().show(self._appearances.draw(seed))
        mujoco.mj_forward(self.model, self.data)

    def apply(self, torques_nm: ArrayLike) -> None:
        """Command joint torques ``(7,)``; gravity is compensated besides them, as on the robot."""
        self.data.ctrl[: panda.DOF] = torques_nm

    def gripper_move(self, width_m: float, speed_m_s: float) -> None:
        """Open or close to a width."""
        self._fingers.move(width_m / 2, self.gripper_width_m / 2, speed_m_s / 2)

    def gripper_grasp(self, speed_m_s: float) -> None:
        """Close on whatever is there, with the hand's force."""
        self._fingers.move(0.0, self.gripper_width_m / 2, speed_m_s / 2)

    def gripper_stop(self) -> None:
        """Stay at the present width."""
        self.gripper_move(self.gripper_width_m, 0.0)

    def step(self) -> None:
        """One physics step of ``timestep_s``."""
        self.data.ctrl[panda.DOF :] = self._fingers.advance(self.timestep_s)[0]
        mujoco.mj_step(self.model, self.data)
        if self._held and hold.is_near(self.data.site(robot.EE_SITE).xpos, self.data.body(self.task.held_part).xpos):
            self._hold(False)

    def _hold(self, held: bool) -> None:
        """Hold the part that would roll away, or let it go."""
        self._held = held
        for name, free in self._free.items():
            values = getattr(self.model, name)
            values[:] = free
            if held:
                _, dofs = free_joints(self.model, (str(self.task.held_part),))[0]
                values[dofs] = hold.HELD[name]

    def render(self, camera: str) -> NDArray[np.uint8]:
        """The view of ``camera`` ("front" or "wrist"), rgb8, ``(240, 320, 3)``."""
        return self._pictures().render(self.data, camera)

    def _pictures(self) -> Renderer:
        if self._renderer is None:
            from resip_training.render.renderer import Renderer  # needs GL: only when a picture is asked for

            self._renderer = Renderer(self.model, spaces.IMAGE_WIDTH, spaces.IMAGE_HEIGHT)
        return self._renderer

    def part_poses(self) -> Array:
        """Part poses and the obstacle's, base frame, m and xyzw, ``(n_parts + 1, 7)``."""
        count = len(self.part_names)
        start = self._parts_qpos
        rows = self.data.qpos[start : start + 7 * count].reshape(count, 7)[:, [0, 1, 2, 4, 5, 6, 3]]
        poses = np.vstack([rows, np.append(self.data.mocap_pos[0], [0.0, 0.0, 0.0, 1.0])])
        poses[:, 3:] = rotation.quat_in_hemisphere(poses[:, 3:], self._nominal[:, 3:])
        return poses

    def success(self) -> bool:
        """Whether all of the task's pairs are assembled now."""
        return bool(success.assembled(self.task, self.part_poses()).all())

    def failed(self) -> str | None:
        """Why the episode cannot succeed any more, or None."""
        low = self.part_poses()[:-1, 2] < FALLEN_BELOW_M
        return f"part left the table: {self.part_names[int(np.argmax(low))]}" if low.any() else None

    def close(self) -> None:
        """Free the GL context; call it in the thread that rendered."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
