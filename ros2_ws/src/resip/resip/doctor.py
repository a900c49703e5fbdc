"""What this machine has and lacks: one line a check, with a remedy (`resip doctor`).

A check is a function that returns a ``Finding``. Anything that could crash the interpreter or leave state
behind (drivers, GL contexts, DDS) is tried in a process of its own.
"""

from __future__ import annotations

import enum
import importlib.metadata
import importlib.util
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resip import real_time
from resip.errors import ResipError
from resip.polymetis.client import ARM_PORT, GRIPPER_PORT
from resip.teleop import hidraw

_PROBE_TIMEOUT_S = 60.0  # the first import of torch on a cold disk takes tens of seconds
_CONNECT_TIMEOUT_S = 1.0
_POLYMETIS_PORTS: Final = {"arm": ARM_PORT, "gripper": GRIPPER_PORT}
_SETUP: Final = "run `make setup`"


class Status(enum.Enum):
    """What a check found."""

    OK = "ok"
    ABSENT = "absent"
    """Not there; nothing that was asked for needs it."""
    BROKEN = "broken"
    """There but unusable, or missing although it is needed."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """A named check; ``needed`` marks those without which the simulated demo cannot run."""

    name: str
    run: Callable[[], Finding]
    needed: bool = False


class DoctorError(ResipError):
    """The simulated demo cannot run on this machine."""


def _probe(code: str, **environment: str) -> tuple[bool, str]:
    """Run Python code in a process of its own: whether it ended well, and its last line of output."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            env={**os.environ, **environment},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {_PROBE_TIMEOUT_S:.0f} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else f"exit status {done.returncode}"


def _from_probe(code: str, remedy: str, failed: Status = Status.BROKEN) -> Finding:
    works, detail = _probe(code)
    return Finding(Status.OK, detail) if works else Finding(failed, detail, remedy)


def check_python() -> Finding:
    """The interpreter: 3.10 for the robot side, 3.11 or newer for simulation and training."""
    detail = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < (3, 11):
        return Finding(Status.BROKEN, detail, "the simulated cell needs Python 3.11 to 3.13")
    return Finding(Status.OK, detail)


def check_ros() -> Finding:
    """Rclpy with a DDS implementation: initialise it and make a node."""
    code = (
        "import os, rclpy\n"
        "rclpy.init()\n"
        "rclpy.create_node('resip_doctor')\n"
        "from rclpy.utilities import get_rmw_implementation_identifier as rmw\n"
        "print(rmw(), 'from', 'ROS ' + os.environ['ROS_DISTRO'] if 'ROS_DISTRO' in os.environ else 'the wheels')\n"
        "rclpy.shutdown()"
    )
    return _from_probe(code, f"source your ROS 2 set-up, or {_SETUP} for the wheels")


def check_mujoco() -> Finding:
    """The simulator, 4.0 or newer."""
    code = "import mujoco, mujoco.batch; print(mujoco.__version__)"
    return _from_probe(code, f"{_SETUP}: mujoco 4.0 or newer is needed")


def check_rendering() -> Finding:
    """Off-screen GL: draw a small scene with EGL, else with OSMesa, and look at the pixels."""
    code = (
        "import mujoco\n"
        'model = mujoco.MjModel.from_xml_string(\'<mujoco><worldbody><light pos="0 0 2"/>'
        '<geom size=".3" rgba="1 0 0 1"/></worldbody></mujoco>\')\n'
        "data = mujoco.MjData(model)\n"
        "mujoco.mj_forward(model, data)\n"
        "renderer = mujoco.Renderer(model, 48, 64)\n"
        "renderer.update_scene(data)\n"
        "assert renderer.render()[..., 0].max() > 50, 'the picture is black'\n"
        "renderer.close()"
    )
    failures = []
    for backend in ("egl", "osmesa"):
        works, detail = _probe(code, MUJOCO_GL=backend, PYOPENGL_PLATFORM=backend)
        if works:
            return Finding(Status.OK, f"{backend} draws")
        failures.append(f"{backend}: {detail}")
    return Finding(Status.BROKEN, "; ".join(failures), "apt-get install -y libegl1 libgl1 libgl1-mesa-dri")


def check_furniture() -> Finding:
    """The wheel with the furniture's meshes and the arm's URDF."""
    try:
        version = importlib.metadata.version("furniture-bench")
    except importlib.metadata.PackageNotFoundError:
        return Finding(Status.BROKEN, "not installed", f"{_SETUP} (pip install --no-deps furniture-bench==0.1)")
    spec = importlib.util.find_spec("furniture_bench")
    roots = list(spec.submodule_search_locations or []) if spec else []
    if not any((Path(root) / "assets").is_dir() for root in roots):
        return Finding(
            Status.BROKEN,
            f"{version} without its assets",
            "pip install --force-reinstall --no-deps furniture-bench==0.1",
        )
    return Finding(Status.OK, version)


def check_cameras() -> Finding:
    """The RealSense driver and the cameras that it sees."""
    code = (
        "import pyrealsense2 as rs\n"
        "found = [d.get_info(rs.camera_info.name) + ' ' + d.get_info(rs.camera_info.serial_number)"
        " for d in rs.context().query_devices()]\n"
        "print(', '.join(found) or 'none')"
    )
    works, detail = _probe(code)
    if not works:
        return Finding(Status.BROKEN, detail, "apt-get install -y libusb-1.0-0; pip install pyrealsense2")
    if detail == "none":
        return Finding(Status.ABSENT, "the driver loads; no camera", "plug the RealSense into a USB 3 port")
    return Finding(Status.OK, detail)


def check_gpu() -> Finding:
    """A CUDA device that torch can use."""
    code = (
        "import torch\n"
        "print(torch.__version__, torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'CPU only')"
    )
    works, detail = _probe(code)
    if not works:
        return Finding(Status.BROKEN, detail, f"{_SETUP}: torch does not import")
    if detail.endswith("CPU only"):
        return Finding(Status.ABSENT, f"torch {detail}", "only training at scale wants one")
    return Finding(Status.OK, f"torch {detail}")


def check_real_time() -> Finding:
    """The right to real-time scheduling, which the nodes between camera and arm use on a real robot."""
    code = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10)); print('granted')"
    remedy = (
        "give your user `rtprio 50` and `memlock unlimited` in /etc/security/limits.conf (docs/robot.md); "
        "simulation does without"
    )
    finding = _from_probe(code, remedy, Status.ABSENT)
    share = real_time.share()
    if finding.status is not Status.OK or share == 1.0:
        return finding
    remedy = "`sysctl -w kernel.sched_rt_runtime_us=-1` (docs/robot.md); simulation does without"
    return Finding(Status.ABSENT, f"granted, for {share:g} s of each second: on a busy machine the robot stops", remedy)


def check_spacemouse(devices: Path = hidraw.SYSFS) -> Finding:
    """A SpaceMouse among the HID devices, and the right to read it."""
    found = hidraw.spacemice(devices)
    if not found:
        return Finding(Status.ABSENT, "no SpaceMouse", "only teleoperation wants one, and a keyboard will do")
    detail = f"{found[0].name} at {found[0].node}"
    if not os.access(found[0].node, os.R_OK):
        return Finding(Status.BROKEN, f"{detail}: no permission", hidraw.PERMISSION_REMEDY)
    return Finding(Status.OK, detail)


def check_models(folder: Path) -> Finding:
    """The exported policies: each loads, is the one that its manifest describes, and gives its golden output."""
    found = sorted(path.parent for path in folder.glob("*/manifest.json"))
    if not found:
        return Finding(Status.BROKEN, f"no model under {folder.resolve()}", "run in the repository, or give --models")
    for model in found:
        works, detail = _probe(f"from resip.policy import artefact; artefact.check_model({str(model)!r})")
        if not works:
            return Finding(Status.BROKEN, detail.partition("ResipError: ")[2] or detail, "restore the model's folder")
    return Finding(Status.OK, ", ".join(model.name for model in found))


def check_robot(address: str) -> Finding:
    """The Polymetis servers at ``address``: whether both ports accept a connection."""
    silent = []
    for part, port in _POLYMETIS_PORTS.items():
        try:
            socket.create_connection((address, port), timeout=_CONNECT_TIMEOUT_S).close()
        except OSError as error:
            silent.append(f"{part} server {address}:{port}: {error}")
    if silent:
        return Finding(Status.BROKEN, "; ".join(silent), "start the Polymetis servers on the control PC")
    return Finding(Status.OK, f"arm and gripper servers answer at {address}")


def checks(models: Path, robot_ip: str | None) -> list[Check]:
    """Every check, in the order of the report; the robot is asked for only where its address is given."""
    listed = [
        Check("Python", check_python, needed=True),
        Check("ROS 2", check_ros, needed=True),
        Check("MuJoCo", check_mujoco, needed=True),
        Check("rendering", check_rendering, needed=True),
        Check("furniture", check_furniture, needed=True),
        Check("models", lambda: check_models(models), needed=True),
        Check("cameras", check_cameras),
        Check("GPU", check_gpu),
        Check("SpaceMouse", check_spacemouse),
        Check("real time", check_real_time),
    ]
    if robot_ip is not None:
        listed.append(Check("robot", lambda: check_robot(robot_ip), needed=True))
    return listed


def examine(models: Path, robot_ip: str | None = None, json_file: Path | None = None) -> list[tuple[Check, Finding]]:
    """Run every check and print one line for each.

    Args:
      models: folder of the exported policies.
      robot_ip: address of the control PC, None to leave the robot alone.
      json_file: where to write the findings as JSON as well.

    Raises:
      DoctorError: something that the simulated demo (or the robot that was asked for) needs is broken.
    """
    console = Console()
    results = []
    with console.status("looking"):
        for check in checks(models, robot_ip):
            results.append((check, check.run()))
    console.print(_table(results))
    if json_file is not None:
        json_file.write_text(json.dumps([_as_json(check, finding) for check, finding in results], indent=2) + "\n")
    broken = [check.name for check, finding in results if check.needed and finding.status is not Status.OK]
    if broken:
        raise DoctorError(f"needed and not usable here: {', '.join(broken)} (the remedies are above)")
    return results


def _as_json(check: Check, finding: Finding) -> dict[str, Any]:
    return {"name": check.name, "needed": check.needed, **asdict(finding), "status": finding.status.value}


def _table(results: list[tuple[Check, Finding]]) -> Table:
    colours = {Status.OK: "green", Status.ABSENT: "yellow", Status.BROKEN: "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for check, finding in results:
        status = f"[{colours[finding.status]}]{finding.status.value}[/]"
        remedy = f" [dim]->[/] {escape(finding.remedy)}" if finding.remedy else ""
        table.add_row(check.name, status, escape(finding.detail) + remedy)
    return table
