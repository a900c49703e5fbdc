"""The graph as data: which nodes a task needs, with which parameters. No ROS in here.

Two things start it: the launch files through launch_ros, and ``resip up`` as plain processes. Both take the
arguments declared here, once, with their defaults and descriptions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

from typing_extensions import Doc

from resip import spaces
from resip.errors import ResipError, UnknownNameError, check_name
from resip.policy.replay import REPLAY_PREFIX
from resip.polymetis.client import ARM_PORT, GRIPPER_PORT
from resip.tasks import GRIPPER_OPEN_M, TASKS, TIME_LIMITS_S
from resip.teleop.profile import PROFILES_OF
from resip.teleop.terminal import own_terminal
from resip.trials.evaluation import Order, format_policies, parse_policies, read_protocol

#: A graph with an operator in the policy's place, for any of the tasks.
TELEOP: Final = "teleop"
#: The graph of the task that a protocol file names, with its policies and trials.
EVALUATE: Final = "evaluate"
GRAPHS: Final = (*TASKS, TELEOP, EVALUATE)

#: A busy machine may stop the simulated cell, and its answers, for a while; on the robot a second is an eternity.
_SIM_PATIENCE: Final = {"stale_after_s": 5.0, "deadline_s": 5.0}

#: How long (wall time) commands that stop coming hold the simulated cell up.
_POLICY_RELEASE_S: Final = 2.0
_TELEOP_RELEASE_S: Final = 0.15

#: The operator says when a demonstration ends; a forgotten one ends all the same.
_DEMONSTRATION_LIMIT_S: Final = 3600.0

#: Between two frames of the simulated cameras, and of the RealSense's.
_SIM_CAMERA_PERIOD_S: Final = 0.1
_CAMERA_PERIOD_S: Final = 1 / 30

#: Nodes that keep the limits of the cell.
_LIMITED: Final = ("franka_bridge_node", "supervisor_node", "diff_ik_node", "policy_node")

#: Where trials go that are given no folder.
DEFAULT_RECORD: Final = "trials"

Parameter = bool | int | float | str


@dataclass(frozen=True)
class GraphArguments:
    """What a graph can be asked for; the same on the command line and in the launch files."""

    task: Annotated[str, Doc(f"Task, teleop or evaluate: {', '.join(GRAPHS)}.")] = "one_leg"
    robot: Annotated[Literal["sim", "polymetis"], Doc("The simulated cell, or a Franka behind a Polymetis server.")] = (
        "sim"
    )
    robot_ip: Annotated[str, Doc("Address of the control PC (robot polymetis).")] = ""
    front_serial: Annotated[str, Doc("Serial number of the front RealSense (robot polymetis).")] = ""
    wrist_serial: Annotated[str, Doc("Serial number of the wrist RealSense (robot polymetis).")] = ""
    policy: Annotated[
        str,
        Doc(
            "Folder of an exported policy, or replay:PATH.npz; empty: models/TASK. Several take turns in the trials: "
            "NAME=FOLDER,NAME=FOLDER."
        ),
    ] = ""
    trials: Annotated[
        int, Doc("Trials of each policy (teleop: demonstrations) to record before the graph ends; 0: none.")
    ] = 0
    protocol: Annotated[str, Doc("File that says which policies run how often, see docs/trials.md (evaluate).")] = ""
    order: Annotated[Order, Doc("Whose turn it is at each start: by chance and unnamed, or as listed.")] = "blind"
    stop_early: Annotated[bool, Doc("Stop as soon as two policies are told apart, see docs/trials.md.")] = False
    judge: Annotated[Literal["cell", "operator"], Doc("Who judges in simulation; on the robot the operator does.")] = (
        "cell"
    )
    starts: Annotated[str, Doc("Folder of earlier trials whose starts are laid out again; empty: new starts.")] = ""
    page_port: Annotated[
        int, Doc("Port of the page for an operator who judges or moves the robot; 0: any free one, -1: no page.")
    ] = 8100
    record: Annotated[str, Doc("Folder that the trials and their bags go to.")] = DEFAULT_RECORD
    record_raw: Annotated[bool, Doc("Record uncompressed images as well (55 MB/s from two RealSenses).")] = False
    time_limit_s: Annotated[
        float, Doc("Longest trial, in s of ROS time; 0: the task's own (teleop: as long as the operator likes).")
    ] = 0.0
    headless: Annotated[bool, Doc("Simulated cell without cameras and without GL: for replays only.")] = False
    seed: Annotated[int, Doc("Seed of the first trial; each further trial has the next one.")] = 0
    randomness: Annotated[str, Doc("How far the simulated starts are spread.")] = "low"
    random_looks: Annotated[
        bool, Doc("Lights, colours, textures and cameras of the simulated cell drawn anew for each trial.")
    ] = False
    camera_latency_s: Annotated[float, Doc("How late the simulated cameras' frames come, in s of cell time.")] = 0.0
    rtf: Annotated[float, Doc("Real-time factor of the simulated cell; 0: as fast as the graph keeps up.")] = 1.0
    arm_port: Annotated[int, Doc("Port of the arm's Polymetis server.")] = ARM_PORT
    gripper_port: Annotated[int, Doc("Port of the gripper's Polymetis server.")] = GRIPPER_PORT
    assembly: Annotated[str, Doc("Task whose parts lie in the cell (teleop).")] = "one_leg"
    source: Annotated[Literal["spacemouse", "keyboard"], Doc("What the operator moves the robot with (teleop).")] = (
        "spacemouse"
    )
    profile: Annotated[str, Doc("Speeds of the source, see docs/teleop.md; empty: the source's own (teleop).")] = ""
    rotation_frame: Annotated[
        Literal["profile", "base", "tool"], Doc("Whose axes turns are about; profile: as that says (teleop).")
    ] = "profile"
    deadman: Annotated[Literal["motion", "button"], Doc("What lets the robot move (teleop).")] = "motion"
    device: Annotated[str, Doc("Hidraw file of the SpaceMouse; empty: the first one found (teleop).")] = ""
    terminal: Annotated[str, Doc("Terminal of the operator's keys; empty: this one.")] = ""
    operator: Annotated[str, Doc("Who moves the robot or judges, for the record.")] = ""
    limits: Annotated[str, Doc("Limits file of the cell; empty: those of the simulated cell.")] = ""
    params_file: Annotated[str, Doc("ROS parameter file whose values go before those of the graph.")] = ""

    @property
    def policy_name(self) -> str:
        """What gives the targets: the policy, or the one that belongs to the task, or the operator's source."""
        if self.task == TELEOP:
            return f"{TELEOP}:{self.source}"
        return self.policy or f"models/{self.task}"

    @property
    def operator_judges(self) -> bool:
        """Whether a person says how trials end."""
        return self.judge == "operator" or self.robot != "sim"

    @property
    def cell_task(self) -> str:
        """Task whose parts lie in the cell."""
        return self.assembly if self.task == TELEOP else self.task


@dataclass(frozen=True)
class NodeSpec:
    """One node of a graph: a module with ``main``, which is also the executable of the same name."""

    name: str
    module: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    required: bool = True
    """Whether the graph ends when this node does."""

    @property
    def executable(self) -> str:
        """Name that ``ros2 run resip`` knows the module by."""
        return self.module.rpartition(".")[2]

    @property
    def enclave(self) -> str:
        """Whose keys and permissions the node has, where DDS is secured: see policies/resip.xml."""
        return f"/resip/{self.name}"


#: Node whose end is the end of a graph with trials, and whose status is the graph's.
TRIAL_NODE: Final = "trial_node"


def graph(arguments: GraphArguments) -> list[NodeSpec]:
    """Nodes of a task, in the order to start them.

    Raises:
      ResipError: an unknown task, something missing for the robot, or arguments that exclude each other.
    """
    arguments = resolve(arguments)
    _check(arguments)
    nodes = _cell(arguments) if arguments.robot == "sim" else _cameras(arguments)
    nodes += [
        _node("franka_bridge_node", **_bridge_parameters(arguments)),
        _supervisor(arguments),
        _node("diff_ik_node"),
        _operator(arguments) if arguments.task == TELEOP else _policy(arguments),
    ]
    if arguments.trials:
        nodes.append(_trials(arguments))
    nodes = [_with_limits(spec, arguments.limits) if spec.name in _LIMITED else spec for spec in nodes]
    if arguments.robot == "sim":
        nodes = [spec if spec.name == "sim_cell" else _on_cell_time(spec) for spec in nodes]
    return nodes


def resolve(arguments: GraphArguments) -> GraphArguments:
    """Arguments with what their protocol file says, and with the task's own time limit where none is given.

    Raises:
      ResipError: the file is missing or wrong, or an argument says what is the file's to say.
    """
    if not arguments.protocol:
        if arguments.task == EVALUATE:
            raise ResipError(f"evaluate needs protocol: {argument_help()['protocol']}")
        own_s = TIME_LIMITS_S.get(arguments.task, 0.0)
        return dataclasses.replace(arguments, time_limit_s=arguments.time_limit_s or own_s)
    path = Path(arguments.protocol)
    protocol = read_protocol(path)
    told = {
        "task": protocol.task,
        "policy": format_policies(protocol.policies),
        "trials": protocol.n,
        "seed": protocol.seed,
        "randomness": protocol.randomness,
        "time_limit_s": protocol.time_limit_s or TIME_LIMITS_S.get(protocol.task, 0.0),
        "order": protocol.order,
        "stop_early": protocol.stop_early,
        "starts": protocol.starts,
    }
    for name, value in told.items():
        given = getattr(arguments, name)
        silent = given == EVALUATE if name == "task" else given == getattr(type(arguments), name)
        if given != value and not silent:
            raise ResipError(f"{name} is {given!r} here and {value!r} in {path}: leave it out")
    # the same command goes on where it was cut off, so it has a folder of its own
    record = str(Path(DEFAULT_RECORD) / path.stem) if arguments.record == DEFAULT_RECORD else arguments.record
    return dataclasses.replace(arguments, **told, record=record, protocol="")


def argument_help() -> dict[str, str]:
    """Description of every argument, by name."""
    hints = get_type_hints(GraphArguments, include_extras=True)
    return {f.name: get_args(hints[f.name])[1].documentation for f in dataclasses.fields(GraphArguments)}


def argument_choices(name: str) -> tuple[str, ...]:
    """Valid values of an argument, where they are few; else empty."""
    return get_args(get_type_hints(GraphArguments)[name])


def arguments_from_strings(values: Mapping[str, str]) -> GraphArguments:
    """Arguments from text, as launch files get them: ``trials:=3``, ``headless:=true``.

    Raises:
      ResipError: an unknown name, or text that is no value of that argument.
    """
    hints = get_type_hints(GraphArguments)
    for name in values:
        check_name("argument", name, hints)
    return GraphArguments(**{name: _from_text(name, hints[name], text) for name, text in values.items()})


def _from_text(name: str, kind: Any, text: str) -> Any:
    choices = get_args(kind)
    if choices:
        check_name(name, text, choices)
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UnknownNameError(f"value of {name}", text, ("true", "false"))
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise ResipError(f"{name}: {text!r} is no {'whole ' if kind is int else ''}number") from None


def _check(arguments: GraphArguments) -> None:
    check_name("task", arguments.task, GRAPHS)
    check_name("assembly", arguments.assembly, TASKS)
    check_name("robot", arguments.robot, argument_choices("robot"))
    if arguments.robot == "polymetis":
        for name in ("robot_ip", "front_serial", "wrist_serial"):
            if not getattr(arguments, name):
                raise ResipError(f"robot polymetis needs {name}: {argument_help()[name]}")
    if arguments.trials < 0:
        raise ResipError(f"trials is {arguments.trials}: give the number of trials to run, or 0")
    if arguments.rtf < 0:
        raise ResipError(f"rtf is {arguments.rtf}: give a real-time factor, or 0 for as fast as possible")
    if not 0 <= arguments.camera_latency_s <= 1:
        raise ResipError(f"camera_latency_s is {arguments.camera_latency_s}: give 0 to 1 s")
    if arguments.task == TELEOP:
        _check_teleop(arguments)
        return
    policies = parse_policies(arguments.policy_name)
    if arguments.stop_early and len(policies) != 2:
        raise ResipError(f"stop_early compares two policies, got {len(policies)}: {', '.join(policies)}")
    if len(policies) > 1 and not arguments.trials:
        raise ResipError("several policies take turns in trials: give their number as trials, or one policy")
    if arguments.headless and not all(path.startswith(REPLAY_PREFIX) for path in policies.values()):
        raise ResipError("headless leaves the policy without images: give it policy replay:PATH.npz")


def _check_teleop(arguments: GraphArguments) -> None:
    if arguments.policy:
        raise ResipError(f"teleop takes no policy, got {arguments.policy!r}: the operator is in its place")
    check_name("source", arguments.source, PROFILES_OF)
    if arguments.profile:
        check_name(f"profile of the {arguments.source}", arguments.profile, PROFILES_OF[arguments.source])
    if arguments.source == "keyboard" and arguments.deadman == "button":
        raise ResipError("a terminal does not tell held keys: deadman button needs source spacemouse")


def _node(name: str, **parameters: Parameter) -> NodeSpec:
    return NodeSpec(name, f"resip.nodes.{name}", parameters)


def _on_cell_time(spec: NodeSpec) -> NodeSpec:
    return dataclasses.replace(spec, parameters={**spec.parameters, "use_sim_time": True})


def _with_limits(spec: NodeSpec, limits_file: str) -> NodeSpec:
    return dataclasses.replace(spec, parameters={**spec.parameters, "limits_file": limits_file})


def _cell(arguments: GraphArguments) -> list[NodeSpec]:
    return [
        _node(
            "sim_cell",
            task=arguments.cell_task,
            seed=arguments.seed,
            randomness=arguments.randomness,
            rtf=arguments.rtf,
            images=not arguments.headless,
            random_looks=arguments.random_looks,
            camera_latency_s=arguments.camera_latency_s,
            arm_port=arguments.arm_port,
            gripper_port=arguments.gripper_port,
            # an operator's targets come and go: the cell must not stand still when they go
            release_after_s=_TELEOP_RELEASE_S if arguments.task == TELEOP else _POLICY_RELEASE_S,
        )
    ]


def _cameras(arguments: GraphArguments) -> list[NodeSpec]:
    serials = {"front": arguments.front_serial, "wrist": arguments.wrist_serial}
    return [
        NodeSpec(f"{name}_camera", "resip.nodes.camera_node", {"camera": name, "serial": serials[name]})
        for name in spaces.CAMERAS
    ]


def _bridge_parameters(arguments: GraphArguments) -> dict[str, Parameter]:
    own: dict[str, Parameter] = {
        "arm_port": arguments.arm_port,
        "gripper_port": arguments.gripper_port,
        "gripper_open_m": GRIPPER_OPEN_M[arguments.cell_task],
    }
    if arguments.robot == "sim":
        return own | {"host": "127.0.0.1", "stamp_source": "robot", **_SIM_PATIENCE}
    return own | {"host": arguments.robot_ip}


def _supervisor(arguments: GraphArguments) -> NodeSpec:
    """The supervisor; cameras that nobody looks at send nothing, and nothing is expected of them."""
    policies = parse_policies(arguments.policy_name).values()
    looks = arguments.task != TELEOP and not all(path.startswith(REPLAY_PREFIX) for path in policies)
    watched = not arguments.headless and (looks or arguments.trials > 0)
    period_s = _SIM_CAMERA_PERIOD_S if arguments.robot == "sim" else _CAMERA_PERIOD_S
    return _node("supervisor_node", cameras=watched, camera_period_s=period_s)


def _policy(arguments: GraphArguments) -> NodeSpec:
    folders = parse_policies(arguments.policy_name).values()
    return _node("policy_node", policy=",".join(folders), seed=arguments.seed)


def _operator(arguments: GraphArguments) -> NodeSpec:
    """The node in the policy's place; what is left to its own defaults is not set."""
    chosen = {"device": arguments.device, "profile": arguments.profile}
    if arguments.source == "keyboard":
        chosen["terminal"] = arguments.terminal or own_terminal()
        if not chosen["terminal"]:
            raise ResipError("the keyboard is read from a terminal, and there is none: start this in one, or name it")
    return _node(
        "spacemouse_node",
        source=arguments.source,
        rotation_frame=arguments.rotation_frame,
        deadman=arguments.deadman,
        **{name: value for name, value in chosen.items() if value},
    )


def _trials(arguments: GraphArguments) -> NodeSpec:
    teleop = arguments.task == TELEOP
    spec = _node(
        TRIAL_NODE,
        task=arguments.cell_task,
        robot=arguments.robot,
        policy=arguments.policy_name,
        randomness=arguments.randomness,
        n=arguments.trials,
        seed=arguments.seed,
        time_limit_s=_DEMONSTRATION_LIMIT_S if teleop else arguments.time_limit_s,
        out_dir=arguments.record,
        record_raw=arguments.record_raw,
        images=not arguments.headless,
        operator=arguments.operator,
    )
    if teleop:
        parameters = {**spec.parameters, "page_port": arguments.page_port}
        return NodeSpec(TRIAL_NODE, "resip.nodes.session_node", parameters)
    return _node(TRIAL_NODE, **spec.parameters, **_evaluation(arguments))


def _evaluation(arguments: GraphArguments) -> dict[str, Parameter]:
    """What a set of a policy's trials has beyond a session's."""
    parameters: dict[str, Parameter] = {
        "order": arguments.order,
        "stop_early": arguments.stop_early,
        "random_looks": arguments.random_looks,
        "camera_latency_s": arguments.camera_latency_s,
        "judge": arguments.judge,
        "starts": arguments.starts,
    }
    if arguments.operator_judges:
        parameters |= {"page_port": arguments.page_port, "terminal": arguments.terminal or own_terminal()}
    return parameters
