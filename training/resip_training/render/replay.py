"""Pictures of recorded states: the scene is posed, not simulated."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip import spaces
from resip.control import panda

from resip_training.render.renderer import Renderer
from resip_training.sim import scene
from resip_training.sim.task import Task


class Replay:
    """Renders recorded joints, gripper widths and part poses from the cell's cameras."""

    def __init__(self, task: Task, width_px: int = spaces.IMAGE_WIDTH, height_px: int = spaces.IMAGE_HEIGHT) -> None:
        """Build the scene with its visuals.

        Raises:
          ResipError: missing meshes, or no GL.
        """
        self._model = scene.build(task, "torque", visual=True)
        self._data = mujoco.MjData(self._model)
        self._renderer = Renderer(self._model, width_px, height_px)

    def render(
        self, camera: str, joints_rad: NDArray[Any], width_m: NDArray[Any], part_poses: NDArray[Any]
    ) -> NDArray[np.uint8]:
        """Frames ``(T, height, width, 3)`` for ``(T, 7)``, ``(T,)`` and ``(T, 7 * (parts + 1))``."""
        return np.stack(
            [
                self.render_one(camera, joints, width, poses)
                for joints, width, poses in zip(joints_rad, width_m, part_poses, strict=True)
            ]
        )

    def render_one(
        self, camera: str, joints_rad: NDArray[Any], width_m: float, part_poses: NDArray[Any]
    ) -> NDArray[np.uint8]:
        """One frame ``(height, width, 3)``."""
        poses = part_poses.reshape(-1, spaces.PART_POSE_DIM)
        self._data.qpos[: panda.DOF] = joints_rad
        self._data.qpos[panda.DOF : panda.DOF + 2] = width_m / 2
        self._data.qpos[panda.DOF + 2 :] = poses[:-1][:, [0, 1, 2, 6, 3, 4, 5]].reshape(-1)
        self._data.mocap_pos[0] = poses[-1, :3]
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        return self._renderer.render(self._data, camera)

    def close(self) -> None:
        """Free the GL context."""
        self._renderer.close()
