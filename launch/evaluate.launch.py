# The launch packages come with ROS, not with pip: where there are none, their names cannot be checked.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Launch the evaluation of a protocol file: `ros2 launch resip evaluate.launch.py --show-args` lists the arguments."""

from resip.graph_launch import describe

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, then start the nodes."""
    return describe("evaluate")
