#!/usr/bin/env bash
# Runs a command with ROS, the workspace and the virtual environment in place.
set -eo pipefail # not -u: the scripts of ROS read variables that may be unset
source /opt/ros/jazzy/setup.bash
source /resip/ros2_ws/install/setup.bash
export PATH="/opt/resip/bin:$PATH"
exec "$@"
