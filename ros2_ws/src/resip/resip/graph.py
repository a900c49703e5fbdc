"""The graph as data: which nodes a task needs, with which parameters. No ROS in here.

Two things start it: the launch files through launch_ros, and ``resip up`` as plain processes. Both take the
arguments declared here, once, with their defaults and descriptions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

from typing_extensions import Doc

from resip import spaces
from resip.errors import ResipError, UnknownNameError, check_name
from resip.policy.replay import REPLAY_PREFIX
from resip.polymetis.client import ARM_PORT, GRIPPER_PORT

TASKS: Final = ("one_leg",)

#: A busy machine may stop the simulated cell for a while; on the robot a second is an eternity.
_SIM_STALE_AFTER_S: Final = 5.0

Parameter = bool | int | float | str


@dataclass(frozen=True)
class GraphArguments:
    """What a graph can be asked for; the same on the command line and in the launch files."""

    task: Annotated[str, Doc(f"Task: {', '.join(TASKS)}.")] = "one_leg"
    robot: Annotated[Literal["sim", "polymetis"], Doc("The simulated cell, or a Franka behind a Polymetis server.")] = (
        "sim"
    )
    robot_ip: Annotated[str, Doc("Address of the control PC (robot polymetis).")] = ""
    front_serial: Annotated[str, Doc("Serial number of the front RealSense (robot polymetis).")] = ""
    wrist_serial: Annotated[str, Doc("Serial number of the wrist RealSense (robot polymetis).")] = ""
    policy: Annotated[str, Doc("Folder of an exported policy, or replay:PATH.npz; empty: models/TASK.")] = ""
    trials: Annotated[int, Doc("Trials to run and record before the graph ends; 0: none, it runs on.")] = 0
    record: Annotated[str, Doc("Folder that the trials and their bags go to.")] = "trials"
    record_raw: Annotated[bool, Doc("Record uncompressed images as well (55 MB/s from two RealSenses).")] = False
    time_limit_s: Annotated[float, Doc("Longest trial, in s of ROS time.")] = 70.0
    headless: Annotated[bool, Doc("Simulated cell without cameras and without GL: for replays only.")] = False
    seed: Annotated[int, Doc("Seed of the first trial; each further trial has the next one.")] = 0
    randomness: Annotated[str, Doc("How far the simulated starts are spread.")] = "low"
    rtf: Annotated[float, Doc("Real-time factor of the simulated cell; 0: as fast as the graph keeps up.")] = 1.0
    arm_port: Annotated[int, Doc("Port of the arm's Polymetis server.")] = ARM_PORT
    gripper_port: Annotated[int, Doc("Port of the gripper's Polymetis server.")] = GRIPPER_PORT
    params_file: Annotated[str, Doc("ROS parameter file whose values go before those of the graph.")] = ""

    @property
    def policy_name(self) -> str:
        """The policy, or the one that belongs to the task."""
        return self.policy or f"models/{self.task}"


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


#: Node whose end is the end of a graph with trials, and whose status is the graph's.
TRIAL_NODE: Final = "trial_node"


def graph(arguments: GraphArguments) -> list[NodeSpec]:
    """Nodes of a task, in the order to start them.

    Raises:
      ResipError: an unknown task, something missing for the robot, or arguments that exclude each other.
    """
    _check(arguments)
    nodes = _cell(arguments) if arguments.robot == "sim" else _cameras(arguments)
    nodes += [
        _node("franka_bridge_node", **_bridge_parameters(arguments)),
        _node("diff_ik_node"),
        _node("policy_node", policy=arguments.policy_name, seed=arguments.seed),
    ]
    if arguments.trials:
        nodes.append(_trials(arguments))
    if arguments.robot == "sim":
        nodes = [spec if spec.name == "sim_cell" else _on_cell_time(spec) for spec in nodes]
    return nodes


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
    check_name("task", arguments.task, TASKS)
    check_name("robot", arguments.robot, argument_choices("robot"))
    if arguments.robot == "polymetis":
        for name in ("robot_ip", "front_serial", "wrist_serial"):
            if not getattr(arguments, name):
                raise ResipError(f"robot polymetis needs {name}: {argument_help()[name]}")
    if arguments.trials < 0:
        raise ResipError(f"trials is {arguments.trials}: give the number of trials to run, or 0")
    if arguments.rtf < 0:
        raise ResipError(f"rtf is {arguments.rtf}: give a real-time factor, or 0 for as fast as possible")
    if arguments.headless and not arguments.policy_name.startswith(REPLAY_PREFIX):
        raise ResipError("headless leaves the policy without images: give it policy replay:PATH.npz")


def _node(name: str, **parameters: Parameter) -> NodeSpec:
    return NodeSpec(name, f"resip.nodes.{name}", parameters)


def _on_cell_time(spec: NodeSpec) -> NodeSpec:
    return dataclasses.replace(spec, parameters={**spec.parameters, "use_sim_time": True})


def _cell(arguments: GraphArguments) -> list[NodeSpec]:
    return [
        _node(
            "sim_cell",
            task=arguments.task,
            seed=arguments.seed,
            randomness=arguments.randomness,
            rtf=arguments.rtf,
            images=not arguments.headless,
            arm_port=arguments.arm_port,
            gripper_port=arguments.gripper_port,
        )
    ]


def _cameras(arguments: GraphArguments) -> list[NodeSpec]:
    serials = {"front": arguments.front_serial, "wrist": arguments.wrist_serial}
    return [
        NodeSpec(f"{name}_camera", "resip.nodes.camera_node", {"camera": name, "serial": serials[name]})
        for name in spaces.CAMERAS
    ]


def _bridge_parameters(arguments: GraphArguments) -> dict[str, Parameter]:
    ports: dict[str, Parameter] = {"arm_port": arguments.arm_port, "gripper_port": arguments.gripper_port}
    if arguments.robot == "sim":
        return ports | {"host": "127.0.0.1", "stamp_source": "robot", "stale_after_s": _SIM_STALE_AFTER_S}
    return ports | {"host": arguments.robot_ip}


def _trials(arguments: GraphArguments) -> NodeSpec:
    return _node(
        TRIAL_NODE,
        task=arguments.task,
        robot=arguments.robot,
        policy=arguments.policy_name,
        randomness=arguments.randomness,
        n=arguments.trials,
        seed=arguments.seed,
        time_limit_s=arguments.time_limit_s,
        out_dir=arguments.record,
        record_raw=arguments.record_raw,
        images=not arguments.headless,
    )
