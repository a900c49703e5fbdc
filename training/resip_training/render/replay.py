"""Pictures of recorded states: the scene is posed, not simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip import spaces
from resip.control import panda

from resip_training.render.renderer import Renderer
from resip_training.sim import scene
from resip_training.sim.appearance import Appearance, Appearances
from resip_training.sim.task import Task


@dataclass(frozen=True)
class View:
    """How a camera saw a pose."""

    camera: spaces.Pose
    """Base frame; columns of the matrix: right, up, backward."""
    focal_px: float
    width_px: int
    height_px: int

    def project(self, point_m: NDArray[Any]) -> NDArray[np.float64]:
        """Pixel (column, row) of a point ``(3,)`` in the base frame that lies before the camera."""
        right_m, up_m, backward_m = self.camera.matrix.T @ (point_m - self.camera.position)
        centre = np.array([self.width_px / 2, self.height_px / 2])
        return centre + self.focal_px / -backward_m * np.array([right_m, -up_m])


class Replay:
    """Renders recorded joints, gripper widths and part poses from the cell's cameras.

    Attributes:
      model: the scene, with its visuals.
      data: the pose last asked for.
      appearances: the scene's nominal appearance, and others to ``show``.
    """

    def __init__(self, task: Task, width_px: int = spaces.IMAGE_WIDTH, height_px: int = spaces.IMAGE_HEIGHT) -> None:
        """Build the scene with its visuals.

        Raises:
          ResipError: missing meshes.
        """
        self.model = scene.build(task, "torque", visual=True)
        self.data = mujoco.MjData(self.model)
        self.appearances = Appearances(self.model)
        self._shown = self.appearances.nominal
        self._renderer = Renderer(self.model, width_px, height_px)

    def show(self, appearance: Appearance) -> None:
        """Render with this appearance from now on."""
        if appearance is self._shown:
            return
        self._shown = appearance
        self._renderer.show(appearance)

    def render(
        self, camera: str, joints_rad: NDArray[Any], width_m: NDArray[Any], part_poses: NDArray[Any]
    ) -> NDArray[np.uint8]:
        """Frames ``(T, height, width, 3)`` for ``(T, 7)``, ``(T,)`` and ``(T, 7 * (parts + 1))``.

        Raises:
          ResipError: unknown camera, or no GL.
        """
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
        self.pose(joints_rad, width_m, part_poses)
        return self._renderer.render(self.data, camera)

    def view(self, camera: str) -> View:
        """How ``camera`` sees the pose last asked for."""
        i = self.model.camera(camera).id
        width_px, height_px = self._renderer.size_px
        focal_px = height_px / (2 * np.tan(np.deg2rad(self.model.cam_fovy[i]) / 2))
        pose = spaces.Pose(self.data.cam_xpos[i].copy(), self.data.cam_xmat[i].reshape(3, 3).copy())
        return View(pose, float(focal_px), width_px, height_px)

    def pose(self, joints_rad: NDArray[Any], width_m: float, part_poses: NDArray[Any]) -> None:
        """Put arm, fingers, parts and obstacle of ``data`` in place: ``(7,)``, width, ``(7 * (parts + 1),)``."""
        poses = part_poses.reshape(-1, spaces.PART_POSE_DIM)
        self.data.qpos[: panda.DOF] = joints_rad
        self.data.qpos[panda.DOF : panda.DOF + 2] = width_m / 2
        self.data.qpos[panda.DOF + 2 :] = poses[:-1][:, [0, 1, 2, 6, 3, 4, 5]].reshape(-1)
        self.data.mocap_pos[0] = poses[-1, :3]
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def close(self) -> None:
        """Free the GL context."""
        self._renderer.close()
