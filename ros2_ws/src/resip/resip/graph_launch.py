# The launch packages come with ROS, not with pip: where there are none, their names cannot be checked.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The graph as launch_ros actions: the only place that imports the launch packages, which no pip registry has."""

from __future__ import annotations

import dataclasses
from typing import Any

from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from resip.errors import ResipError
from resip.graph import (
    TRIAL_NODE,
    GraphArguments,
    NodeSpec,
    argument_choices,
    argument_help,
    arguments_from_strings,
    graph,
)


def describe(task: str) -> LaunchDescription:
    """Launch description of a task: every argument of ``GraphArguments``, then its nodes."""
    arguments = [f for f in dataclasses.fields(GraphArguments) if f.name != "task"]
    declared = [_declare(f.name, f.default) for f in arguments]

    def start(context: LaunchContext) -> list[Any]:
        """Turn the arguments into the nodes' actions."""
        values = {f.name: LaunchConfiguration(f.name).perform(context) for f in arguments}
        try:
            chosen = arguments_from_strings({"task": task, **values})
            return [action for spec in graph(chosen) for action in _actions(spec, chosen.params_file)]
        except ResipError as error:
            raise SystemExit(f"resip: error: {error}") from None

    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def _declare(name: str, default: Any) -> DeclareLaunchArgument:
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return DeclareLaunchArgument(
        name, default_value=text, description=argument_help()[name], choices=list(argument_choices(name)) or None
    )


def _actions(spec: NodeSpec, params_file: str) -> list[Any]:
    """The node, and what its end means for the others."""
    node = Node(
        package="resip",
        executable=spec.executable,
        name=spec.name,
        ros_arguments=["--enclave", spec.enclave],
        parameters=[*([params_file] if params_file else []), dict(spec.parameters)],
        output="screen",
        emulate_tty=True,
    )
    if not spec.required:
        return [node]

    def on_exit(event: ProcessExited, context: LaunchContext) -> list[Any]:
        """End the graph when a required node has ended, and say which."""
        if context.is_shutdown:
            return []
        if spec.name == TRIAL_NODE and event.returncode == 0:
            return [EmitEvent(event=Shutdown(reason="the trials are done"))]
        raise ResipError(f"{spec.name} ended with status {event.returncode}, and the graph with it")

    return [node, RegisterEventHandler(OnProcessExit(target_action=node, on_exit=on_exit))]
