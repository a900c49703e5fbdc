"""Where a figure comes from: the command, the machine, and how long it took."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch

_CPU_INFO: Final = Path("/proc/cpuinfo")  # Linux; elsewhere only the architecture is known


def command_line() -> str:
    """The command that this process carries out, as it would be typed."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def machine(device: str = "cpu") -> str:
    """Processor and number of cores; the GPU too if that is where something ran."""
    cpu = f"{os.cpu_count()} cores of {_processor()}"
    return f"{torch.cuda.get_device_name(device)}, {cpu}" if device.startswith("cuda") else cpu


def circumstances(began_s: float, device: str = "cpu") -> dict[str, Any]:
    """What every recorded result says of its making.

    Args:
      began_s: ``time.monotonic()`` when the measurement began.
      device: where it ran.
    """
    wall_s = round(time.monotonic() - began_s, 1)
    return {"wall_s": wall_s, "machine": machine(device), "command": command_line()}


def _processor() -> str:
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]} ({platform.machine()})" if models else platform.machine()
