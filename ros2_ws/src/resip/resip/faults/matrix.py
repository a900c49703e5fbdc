"""The faults, one by one, in graphs that run: `resip faults`.

Time to hold is cell time, from the fault to the fingertip at rest, measured on the simulated arm's true motion. The
cell waits for a slow machine, so the figures do not depend on how busy it is.
"""

from __future__ import annotations

import dataclasses
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from geometry_msgs.msg import PoseStamped
from rich.console import Console
from sensor_msgs.msg import JointState

from resip import topics
from resip.errors import check_name
from resip.faults import motion
from resip.faults.measure import hold
from resip.faults.report import Result
from resip.graph import TELEOP, GraphArguments, NodeSpec, graph
from resip.nodes import faulty_cell, faulty_spacemouse
from resip.nodes.fault_rig import Rig, RigError
from resip.policy.replay import save_actions
from resip.recording.reader import Bag, BagError
from resip.spaces import CONTROL_PERIOD_S
from resip.trials import records

#: The fingertip has gone at such a speed for half a second before a fault is put in.
_SPEEDS_M_S: Final = (0.05, 0.13)
#: Cell time that is watched after a fault, and after it has ended.
_WATCHED_S: Final = 1.5
_CAMERA_PERIOD_S: Final = 0.034  # 30 Hz in whole steps of the physics
#: A cell that soon gives up waiting for a node, for those that are killed.
_IMPATIENT: Final = {"sim_cell": {"patience_s": 4.0}}
_FULL_DISK_BYTES: Final = 400_000
_NEVER: Final = float("inf")
_NO_FAULT: Final = faulty_cell.NONE


@dataclass(frozen=True)
class Fault:
    """One row of the matrix.

    Attributes:
      name: for people, and of the cell's order.
      cause: words, one of which the reason of the stop has.
      begin: puts it in; the cell time at which it began.
      end: takes it away.
      go: has what moves the arm move it.
      mendable: whether the robot can be armed again in the same graph.
    """

    name: str
    cause: tuple[str, ...]
    begin: Callable[[Rig], float]
    end: Callable[[Rig], None] = lambda rig: None
    go: Callable[[Rig], None] = lambda rig: rig.ask(topics.POLICY_START)
    mendable: bool = True


@dataclass(frozen=True)
class Setting:
    """A graph and the faults that are put into it, one after the other."""

    name: str
    arguments: GraphArguments
    faults: tuple[Fault, ...]
    changes: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    file_limit_bytes: dict[str, int] = dataclasses.field(default_factory=dict)


def _ordered(name: str, *cause: str) -> Fault:
    """A fault that the cell puts in."""
    return Fault(name, cause, lambda rig: rig.order(name), _end_order)


def _end_order(rig: Rig) -> None:
    rig.order(_NO_FAULT)


def _of_policy(name: str, *cause: str) -> Fault:
    """A fault of the policy: it begins with the first tick that has no sound target."""

    def begin(rig: Rig) -> float:
        """Order it and wait for the stop; it began when the target after the last sound one was due."""
        rig.order(name)
        rig.wait_for(lambda: rig.stopped, f"the stop: {name}")
        return rig.last_target_s + CONTROL_PERIOD_S

    return Fault(name, cause, begin, _end_order)


def _no_frames(name: str) -> Fault:
    """A fault that keeps frames back: it begins when the first that does not come is due."""

    def begin(rig: Rig) -> float:
        """Order it and wait for the stop, which the silence after the last frame brought about."""
        rig.order(name)
        rig.wait_for(lambda: rig.stopped, f"the stop: {name}")
        return rig.last_frame_s(missing_s=2 * _CAMERA_PERIOD_S) + _CAMERA_PERIOD_S

    return Fault(name, ("front camera: missing",), begin, _end_order)


def _killed(name: str, node: str, *cause: str) -> Fault:
    def begin(rig: Rig) -> float:
        """End the node; a policy's end begins to matter when its next target is due."""
        began_s = rig.order(faulty_cell.PAUSE)
        rig.kill(node)
        rig.order(_NO_FAULT)
        return began_s if node != "policy_node" else rig.last_target_s + CONTROL_PERIOD_S

    return Fault(name, cause, begin, mendable=False)


def _second_publisher(topic: str, kind: Any) -> Fault:
    ends: list[Callable[[], None]] = []

    def begin(rig: Rig) -> float:
        """Have a second node publish."""
        ends.append(rig.intrude(topic, kind))
        return rig.now_s

    return Fault(f"second publisher on {topic}", ("more than one publisher",), begin, lambda rig: ends.pop()())


def _full_disk(rig: Rig) -> float:
    rig.wait_for(lambda: rig.write_failed_s is not None, "the full disk")
    return rig.write_failed_s or 0.0


def _stuck_gripper(rig: Rig) -> float:
    """It is known to be stuck when a motion lasts longer than any can."""
    rig.order("gripper stuck")
    rig.wait_for(lambda: "gripper" in rig.status[topics.ROBOT_STATUS].get("reason", ""), "the stuck gripper")
    return rig.now_s


def _unplug(flag: Path) -> Fault:
    pushed = faulty_spacemouse.pushed_file(flag)

    def go(rig: Rig) -> None:
        """Start with the cap at rest, then push it."""
        pushed.unlink(missing_ok=True)
        rig.pass_time(0.5)
        rig.ask(topics.POLICY_START)
        pushed.touch()

    def begin(rig: Rig) -> float:
        """Pull the plug."""
        began_s = rig.now_s
        flag.touch()
        return began_s

    def end(rig: Rig) -> None:
        """Plug it in again, its cap at rest."""
        pushed.unlink()
        flag.unlink()
        rig.pass_time(1.5)  # found again

    return Fault("SpaceMouse unplugged", ("unplugged", "SpaceMouse"), begin, end, go)


CAMERAS: Final = (
    _ordered("camera freeze", "front camera is frozen"),
    _no_frames("camera drops nine frames of ten"),
    _ordered("camera frames out of order", "front camera: its stamps went back"),
    _ordered("camera frames twice", "front camera: a stamp came twice"),
    _ordered("camera clock jumps", "front camera: its stamps are"),
    _no_frames("camera vanishes and returns"),
    _of_policy("policy nan", "not finite"),
    _of_policy("policy slow", "the next one is not ready", "nothing has come from"),
)
ROBOT: Final = (
    _second_publisher(topics.TARGET_POSE, PoseStamped),
    _second_publisher(topics.JOINT_COMMAND, JointState),
    _ordered("server stalled", "robot state", "has not advanced"),
    _ordered("server refuses updates", "refuses every update"),
    _ordered("hard limit or reflex", "robot state", "ended the controller"),
    _ordered("server killed and restarted", "server was lost", "was restarted", "robot state"),
    Fault("gripper stuck", ("gripper: stuck",), _stuck_gripper, _end_order),
    Fault(
        "stop by the operator",
        ("the operator stopped",),
        lambda rig: (rig.now_s, rig.call(topics.STOP))[0],
    ),
)

#: Those of the quick form whose time does not depend on how fast the machine is.
SHORT: Final = ("server stalled", "server refuses updates", "server killed and restarted")


def settings(folder: Path, short: bool = False) -> list[Setting]:
    """Every graph of the matrix, with its faults; of the short form, one with a few."""
    some = GraphArguments(arm_port=_free_port(), gripper_port=_free_port())
    blind = replace(some, headless=True, policy=_circle(folder))
    if short:
        return [Setting("robot", blind, tuple(fault for fault in ROBOT if fault.name in SHORT))]
    seeing = replace(some, policy=str(motion.write_policy(folder / "policy")))
    cameras = {
        "sim_cell": {"camera_hz": 1 / _CAMERA_PERIOD_S, "release_after_s": 0.5},
        "supervisor_node": {"camera_period_s": _CAMERA_PERIOD_S},
    }
    teleop = replace(some, task=TELEOP, headless=True)
    recorded = replace(blind, trials=1, record=str(folder / "trials"))
    alone = [
        Setting(f"killed {node}", blind, (_killed(name, node, *cause),), _IMPATIENT)
        for name, node, *cause in (
            ("policy crashes", "policy_node", "policy: missing", "policy: dead"),
            ("inverse kinematics killed", "diff_ik_node", "inverse kinematics: missing", "inverse kinematics: dead"),
            ("bridge killed", "franka_bridge_node", "robot state"),
            ("supervisor killed", "supervisor_node", "the supervisor's process has ended"),
        )
    ]
    return [
        Setting("cameras", seeing, CAMERAS, cameras),
        Setting("robot", blind, ROBOT),
        *alone,
        Setting("spacemouse", teleop, (_unplug(folder / "unplugged"),)),
        Setting("recorder", recorded, (_killed("recorder killed (-9)", "trial_node", "recorder"),), _IMPATIENT),
        Setting(
            "disk",
            replace(recorded, record=str(folder / "full")),
            (Fault("disk full while recording", ("cannot write",), _full_disk, mendable=False),),
            file_limit_bytes={"trial_node": _FULL_DISK_BYTES},
        ),
    ]


def _circle(folder: Path) -> str:
    """Policy that replays the circle."""
    path = folder / "circle.npz"
    save_actions(path, motion.circle(120.0))
    return f"replay:{path}"


def run(names: Sequence[str] = (), short: bool = False, folder: Path | None = None) -> list[Result]:
    """Put the faults in and measure.

    Args:
      names: of the settings wanted; all by default.
      short: a few of them, in half a minute.
      folder: for logs and bags; a temporary one by default.

    Raises:
      RigError: a graph did not start.
      UnknownNameError: no such setting.
    """
    with _folder(folder) as place:
        wanted = settings(place, short)
        for name in names:
            check_name("setting", name, [setting.name for setting in wanted] + [*_REFUSED])
        results = [r for setting in wanted if not names or setting.name in names for r in _run(setting, place)]
        if not short:
            results += [_refused(name, place) for name in _REFUSED if not names or name in names]
        return results


def _run(setting: Setting, place: Path) -> Iterator[Result]:
    nodes = [_changed(spec, setting) for spec in graph(setting.arguments)]
    environment = {"RESIP_UNPLUGGED": str(place / "unplugged")}
    rig = Rig(nodes, place / "logs" / setting.name.replace(" ", "_"), environment, setting.file_limit_bytes)
    try:
        if not setting.arguments.trials:
            rig.wait_for(lambda: rig.status[topics.ROBOT_STATUS].get("gripper_connected") == "true", "the robot")
            rig.ask(topics.ARM)
            setting.faults[0].go(rig)
        for fault in setting.faults:
            try:
                rig.wait_for(lambda: _moves(rig), f"motion before: {fault.name}")
                result = _measure(rig, fault)
            except RigError as error:
                result = Result(fault.name, _NEVER, _NEVER, _NEVER, 0.0, str(error), named=False, rearmed=False)
            if setting.name == "recorder":
                result = replace(result, note=_recovered(place / "trials", result.began_s))
            _tell(result)
            yield result
    finally:
        rig.close()


def _measure(rig: Rig, fault: Fault) -> Result:
    speed_m_s = float(rig.speeds_m_s().mean())
    began_s = fault.begin(rig)
    rig.wait_for(lambda: rig.now_s >= began_s + _WATCHED_S, "the hold")
    reason = _reason(rig)
    fault.end(rig)
    if fault.mendable:
        fault.go(rig)  # what moves the arm comes back, and still nothing moves
    rig.pass_time(_WATCHED_S)
    held = hold(*rig.motion(began_s - 0.2), began_s)
    rearmed = _rearms(rig, fault) if fault.mendable else None
    named = any(words in reason for words in fault.cause)
    result = Result(fault.name, held.time_s, held.path_m, held.drift_m, speed_m_s, reason, named, rearmed)
    return replace(result, began_s=began_s)


def _reason(rig: Rig) -> str:
    """Why the arm holds, as the supervisor says it; as the bridge does where the supervisor is dead."""
    safety, robot = rig.status[topics.SAFETY_STATUS], rig.status[topics.ROBOT_STATUS]
    return safety.get("reason") or robot.get("reason") or rig.status[topics.IK_STATUS].get("message", "")


def _rearms(rig: Rig, fault: Fault) -> bool:
    """Whether the arm moves again after arming, and only then."""
    rig.ask(topics.POLICY_STOP)
    rig.ask(topics.ARM)
    fault.go(rig)
    rig.wait_for(lambda: _moves(rig), "motion after arming again")
    return True


def _moves(rig: Rig) -> bool:
    slowest_m_s, fastest_m_s = _SPEEDS_M_S
    speeds_m_s = rig.speeds_m_s()
    return bool(np.all(speeds_m_s > slowest_m_s) and np.all(speeds_m_s < fastest_m_s))


def _recovered(directory: Path, killed_s: float) -> str:
    """What the bag of a recorder holds that was killed."""
    try:
        bag = Bag(records.trial_directory(directory, 0))
        times_s = [record.log_time_ns / 1e9 for record in bag.records()]
    except BagError as error:
        return f"bag lost: {error}"
    return f"bag readable: {len(times_s)} messages, the newest from {killed_s - max(times_s):.2f} s before the kill"


#: Graphs with a node that refuses to start: the arm cannot be armed, and nothing moves at all.
_REFUSED: Final = ("wrong model", "parameter out of bounds", "limits file out of bounds")


def _refused(name: str, place: Path) -> Result:
    ports = {"arm_port": _free_port(), "gripper_port": _free_port()}
    arguments = replace(GraphArguments(headless=True, policy=_circle(place)), **ports)
    nodes = {spec.name: spec for spec in graph(arguments)}
    node, parameter, value = {
        "wrong model": ("policy_node", "policy", str(motion.write_policy(place / "spoilt", spoilt=True))),
        "parameter out of bounds": ("diff_ik_node", "target_timeout_s", 99.0),
        "limits file out of bounds": ("franka_bridge_node", "limits_file", str(_wrong_limits(place))),
    }[name]
    nodes[node] = replace(nodes[node], parameters={**nodes[node].parameters, parameter: value})
    rig = Rig(list(nodes.values()), place / "logs" / name.replace(" ", "_"))
    try:
        rig.wait_for(lambda: rig.ended(node) is not None, f"the end of {node}")
        rig.wait_for(lambda: rig.now_s > 0.0, "the cell")
        answer = rig.call(topics.ARM)
        rig.pass_time(_WATCHED_S)
        reason = rig.log(node).strip().splitlines()[-1].replace(f"{place}/", "")
        held = hold(*rig.motion(0.0), 0.0)
        words = {"wrong model": "policy.pt", "parameter out of bounds": "target_timeout_s"}.get(name, "max_step_m")
        named = rig.ended(node) == 1 and words in reason and not answer.success
        result = Result(name, held.time_s, held.path_m, held.drift_m, 0.0, f"{reason}; {answer.message}", named, None)
        _tell(result)
        return result
    finally:
        rig.close()


def _wrong_limits(place: Path) -> Path:
    path = place / "limits.yaml"
    path.write_text("max_step_m: 9.0\n")
    return path


def _changed(spec: NodeSpec, setting: Setting) -> NodeSpec:
    return replace(spec, parameters={**spec.parameters, **setting.changes.get(spec.name, {})})


def _tell(result: Result) -> None:
    verdict = "ok" if result.ok else "NOT OK"
    held = f"held after {result.time_to_hold_s * 1e3:.0f} ms, then moved by {result.drift_m * 1e3:.1f} mm"
    Console(highlight=False).print(f"{result.fault}: {verdict}, {held}: {result.reason}", soft_wrap=True)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    made = Path(tempfile.mkdtemp(prefix="resip_faults_"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
