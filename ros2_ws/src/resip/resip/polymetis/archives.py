"""Controllers and updates as the bytes that travel: scripting, saving, and their settings."""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike

from resip.control import panda
from resip.control.impedance import ImpedanceGains
from resip.polymetis import controllers, hardware

TARGET: Final = "joint_pos_desired"

# Default controller of the robot's configuration.
HOLD_KQ: Final = (40.0, 30.0, 50.0, 25.0, 35.0, 25.0, 10.0)
HOLD_KQD: Final = (4.0, 6.0, 5.0, 5.0, 3.0, 2.0, 1.0)

# What differs between two archives of ``UpdateArchive``: the values, and a digest of the whole.
_VALUES: Final = "archive/data/0"
_DIGEST: Final = "archive/.data/serialization_id"


@dataclass(frozen=True)
class ImpedanceSettings:
    """Settings of the uploaded controller."""

    gains: ImpedanceGains = field(default_factory=ImpedanceGains)
    """Stiffness and damping; the defaults are those the paper's robot ran with."""
    interpolation_s: float = 0.02
    """Time in which the set point reaches a new target: two periods of a 100 Hz command, so a late one is not felt."""
    slew_rad_s: tuple[float, ...] = tuple(float(v) for v in panda.COMMAND_VELOCITY_RAD_S)
    """Fastest motion of the set point, 7: below the speed at which the robot client starts to brake."""
    watchdog_s: float = 0.05
    """Silence after which the arm brakes: five updates that did not come."""
    brake_s: float = 0.035
    """How far ahead of the arm, in its own motion, the set point is put to stop it: measured to stop it soonest."""


def _float32(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


@contextlib.contextmanager
def _undeprecated() -> Iterator[None]:
    """Mute the notice that TorchScript is deprecated: it is what the server runs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def save(module: Any) -> bytes:
    """Serialise a scripted module."""
    return module.save_to_buffer()


def load(archive: bytes) -> Any:
    """Load a scripted module.

    Raises:
      RuntimeError: the archive is not readable, or uses an operator or a class that is not known here.
    """
    with _undeprecated():
        return torch.jit.load(io.BytesIO(archive), map_location="cpu")


def script(module: torch.nn.Module) -> Any:
    """Script a module from its source."""
    with _undeprecated():
        return torch.jit.script(module.eval())


@functools.lru_cache(maxsize=8)
def controller_archive(settings: ImpedanceSettings) -> bytes:
    """The impedance controller to upload."""
    gains = {
        "Kq": settings.gains.joint_stiffness,
        "Kqd": settings.gains.joint_damping,
        "Kx": settings.gains.cartesian_stiffness,
        "Kxd": settings.gains.cartesian_damping,
    }
    module = controllers.HybridImpedance(
        {name: _float32(values) for name, values in gains.items()},
        torque_limit=_float32(hardware.TORQUE_NM.tolist()),
        slew=_float32(settings.slew_rad_s),
        interpolation_s=settings.interpolation_s,
        watchdog_s=settings.watchdog_s,
        brake_s=settings.brake_s,
    )
    return save(script(module))


@functools.lru_cache(maxsize=1)
def hold_archive() -> bytes:
    """The default controller, which holds the joints where they are."""
    return save(script(controllers.JointHold(_float32(HOLD_KQ), _float32(HOLD_KQD))))


class UpdateArchive:
    """Archives that set one parameter: scripted once, so that each further one costs only the saving."""

    def __init__(self, name: str = TARGET, size: int = panda.DOF) -> None:
        self._module = script(controllers.Parameters(name, torch.zeros(size)))

    def encode(self, value: ArrayLike) -> bytes:
        """Archive that sets the parameter to ``value``."""
        self._module.value.copy_(torch.from_numpy(np.asarray(value, dtype=np.float32)))
        return save(self._module)


def parameters(archive: bytes) -> dict[str, torch.Tensor]:
    """What an update tells the running controller.

    A new target's values are read out of its archive, as a hundred come in a second and TorchScript would compile the
    same module for each; any other archive is loaded and run.

    Raises:
      RuntimeError: as ``load``; or the archive does not run.
    """
    target = _target(archive)
    return load(archive)() if target is None else {TARGET: target}


def _target(archive: bytes) -> torch.Tensor | None:
    """Values of an archive that ``UpdateArchive`` made, or none if something else made it."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as records:
            if _checksums(records) != _target_checksums():
                return None
            return torch.frombuffer(bytearray(records.read(_VALUES)), dtype=torch.float32)
    except zipfile.BadZipFile:
        return None


def _checksums(records: zipfile.ZipFile) -> dict[str, int | None]:
    """Checksum of each record that is the same in all archives of one module."""
    return {i.filename: None if i.filename in (_VALUES, _DIGEST) else i.CRC for i in records.infolist()}


@functools.lru_cache(maxsize=1)
def _target_checksums() -> dict[str, int | None]:
    with zipfile.ZipFile(io.BytesIO(UpdateArchive().encode(np.zeros(panda.DOF)))) as records:
        return _checksums(records)
