"""Off-screen OpenGL contexts: EGL where it works, else OSMesa, chosen before any OpenGL library is loaded."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from typing import Final, Literal, Protocol, cast

from resip.errors import ResipError

Backend = Literal["egl", "osmesa"]

_BACKENDS: Final[tuple[Backend, ...]] = ("egl", "osmesa")
_REMEDY: Final = "install it with `apt install libegl1 libgl1-mesa-dri libosmesa6`"
_EGL_PLATFORM_DEVICE: Final = 0x313F


class RenderingError(ResipError):
    """This machine cannot render, or was asked to in a way that it cannot."""


class Context(Protocol):
    """An OpenGL context of one thread."""

    def make_current(self) -> None:
        """Direct this thread's OpenGL calls here."""
        ...

    def free(self) -> None:
        """Release it."""
        ...


def choose_backend() -> Backend:
    """Return the OpenGL backend of this process: ``MUJOCO_GL`` if set, else EGL if a device answers, else OSMesa.

    Raises:
      RenderingError: neither works, or ``MUJOCO_GL`` names one that needs a display.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    if wanted:
        if wanted not in _BACKENDS:
            raise RenderingError(f"MUJOCO_GL={wanted} needs a display: unset it or choose {' or '.join(_BACKENDS)}")
        return cast("Backend", wanted)
    if _egl_answers():
        return "egl"
    if ctypes.util.find_library("OSMesa"):
        return "osmesa"
    raise RenderingError(f"no OpenGL to render without a display (neither EGL nor OSMesa): {_REMEDY}")


def create_context(width_px: int, height_px: int) -> Context:
    """Create an off-screen context in this thread and make it current.

    On a machine without a GPU, Mesa draws with one thread unless ``LP_NUM_THREADS`` says otherwise: its own default,
    one a core, is slower beside other work.

    Raises:
      RenderingError: there is no usable OpenGL; the message says what to install.
    """
    os.environ.setdefault("LP_NUM_THREADS", "1")
    backend = choose_backend()
    try:
        if backend == "egl":
            from mujoco.egl import GLContext
        else:
            from mujoco.osmesa import GLContext
        context = GLContext(width_px, height_px)
        context.make_current()
    except (ImportError, AttributeError, RuntimeError, OSError) as error:  # what a missing or broken library gives
        raise RenderingError(f"OpenGL by {backend} does not work here ({error}): {_REMEDY}") from error
    return context


def _egl_answers() -> bool:
    """Whether a device of libEGL can be initialised, asked without PyOpenGL, which allows one choice a process."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    get_address = egl.eglGetProcAddress
    get_address.restype, get_address.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    query, display_of = get_address(b"eglQueryDevicesEXT"), get_address(b"eglGetPlatformDisplayEXT")
    if not query or not display_of:
        return False
    devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int()
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(query)
    if not query_devices(len(devices), ctypes.byref(devices), ctypes.byref(count)):
        return False
    get_display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(display_of)
    displays = (get_display(_EGL_PLATFORM_DEVICE, device, None) for device in devices[: count.value])
    initialize = egl.eglInitialize
    initialize.restype, initialize.argtypes = ctypes.c_uint, [ctypes.c_void_p] * 3
    return any(display and initialize(display, None, None) for display in displays)
