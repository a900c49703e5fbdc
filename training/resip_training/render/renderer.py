"""Pictures of a simulated scene, off screen."""

from __future__ import annotations

import threading
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Final

import mujoco
import numpy as np
from numpy.typing import NDArray
from resip import spaces
from resip.errors import UnknownNameError

from resip_training.render import gl

if TYPE_CHECKING:
    from resip_training.sim.appearance import Appearance

Image = NDArray[np.uint8]

_MAX_GEOMS: Final = 2000
_BACKGROUND: Final = -1


class Renderer:
    """Renders the named cameras of a model; the same state gives the same pixels.

    Life cycle: nothing happens at construction but checks. The OpenGL context is created at the first ``render``
    and belongs to that thread: render and close there. One that is left open is released when it is collected or the
    interpreter exits. Several may exist at once. Colours, lights and cameras of the model may change between pictures,
    textures too if ``upload_textures`` is called then; meshes and the quality settings may not.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        width: int = spaces.IMAGE_WIDTH,
        height: int = spaces.IMAGE_HEIGHT,
        shadows: bool = False,
    ) -> None:
        """Prepare to render ``model``.

        Args:
          model: a scene built with its visuals.
          width: of the images, px.
          height: of the images, px.
          shadows: draw shadows; without them rendering takes about half the time.

        Raises:
          RenderingError: images are larger than the model's off-screen buffer.
        """
        buffer = model.vis.global_
        if width > buffer.offwidth or height > buffer.offheight:
            raise gl.RenderingError(f"images of {width}x{height} px: at most {buffer.offwidth}x{buffer.offheight}")
        self._model = model
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self.shadows = shadows
        self._option = mujoco.MjvOption()
        self._cameras = {model.camera(i).name: _fixed_camera(i) for i in range(model.ncam)}
        self._context: gl.Context | None = None
        self._resources: mujoco.MjrContext | None = None
        self._thread = 0
        self._release: weakref.finalize | None = None
        self._textures_changed = False

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the images."""
        return self._rect.width, self._rect.height

    @property
    def shadows(self) -> bool:
        """Whether shadows are drawn."""
        return bool(self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW])

    @shadows.setter
    def shadows(self, drawn: bool) -> None:
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = drawn

    def upload_textures(self) -> None:
        """Show the model's textures as they are now (``tex_data``), from the next picture on."""
        self._textures_changed = True

    def show(self, appearance: Appearance) -> None:
        """Make the model look like this, from the next picture on."""
        appearance.apply(self._model)
        self.shadows = appearance.shadows
        self.upload_textures()

    def render(self, data: mujoco.MjData, camera: str) -> Image:
        """Render ``data`` as ``camera`` sees it: ``(height, width, 3)`` uint8 RGB, a new array.

        Positions in ``data`` must be up to date (``mj_forward`` or ``mj_kinematics`` and ``mj_camlight``).

        Raises:
          UnknownNameError: the model has no such camera.
          RenderingError: OpenGL does not work on this machine.
        """
        resources = self._prepare(data, camera)
        pixels = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        mujoco.mjr_render(self._rect, self._scene, resources)
        mujoco.mjr_readPixels(pixels, None, self._rect, resources)
        return np.ascontiguousarray(pixels[::-1])  # OpenGL's first row is the lowest

    def segment(self, data: mujoco.MjData, camera: str) -> NDArray[np.int32]:
        """Return the geom id at each pixel ``(height, width)``, -1 for the background; as ``render`` otherwise."""
        resources = self._prepare(data, camera)
        flags = self._scene.flags
        shown = flags.copy()
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        pixels = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        mujoco.mjr_render(self._rect, self._scene, resources)
        mujoco.mjr_readPixels(pixels, None, self._rect, resources)
        flags[:] = shown
        geom_of = np.full(self._scene.ngeom + 1, _BACKGROUND, np.int32)  # colour 0 is the background
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                geom_of[geom.segid + 1] = geom.objid
        return geom_of[pixels[::-1].astype(np.int32) @ np.array([1, 1 << 8, 1 << 16])]

    def close(self) -> None:
        """Release the OpenGL context; harmless when repeated. A closed renderer starts anew when used."""
        if self._release is None:
            return
        self._check_thread()
        self._release()
        self._context = self._resources = self._release = None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _prepare(self, data: mujoco.MjData, camera: str) -> mujoco.MjrContext:
        if camera not in self._cameras:
            raise UnknownNameError("camera", camera, tuple(self._cameras))
        if self._context is None or self._resources is None:
            self._context = gl.create_context(self._rect.width, self._rect.height)
            self._resources = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._resources)
            self._thread = threading.get_ident()
            self._release = weakref.finalize(self, _release, self._context, self._resources, self._thread)
        self._check_thread()
        self._context.make_current()
        if self._textures_changed:
            for texture in range(self._model.ntex):
                mujoco.mjr_uploadTexture(self._model, self._resources, texture)
            self._textures_changed = False
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._cameras[camera], everything, self._scene)
        return self._resources

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("a renderer belongs to the thread that rendered first: use and close it there")


def _release(context: gl.Context, resources: mujoco.MjrContext, thread: int) -> None:
    """Free a context in its thread; from any other nothing may touch it, and the process's end frees it."""
    if threading.get_ident() == thread:
        context.make_current()
        resources.free()
        context.free()


def _fixed_camera(camera_id: int) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED.value
    camera.fixedcamid = camera_id
    return camera
