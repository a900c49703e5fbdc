#!/usr/bin/env bash
# Build the ROS workspace with the Python of a virtual environment: scripts/build_workspace.sh [VENV]
#
# `ros2 run` and `ros2 launch` then start the nodes in that environment.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$(realpath "${1:-.venv}")
cd ros2_ws
PATH="$venv/bin:$PATH" "$venv/bin/python" -m colcon build
