#!/usr/bin/env bash
# Make the virtual environment VENV with what resip needs: scripts/setup.sh [VENV [PART]]
#
#   all       (default) both halves, DDS from wheels, and what the tests need
#   training  simulation and learning, without ROS
#   robot     the nodes, on the ROS distribution of this machine
#
# Quick when nothing changed since the last complete run; a run that was cut short starts over.
# PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${1:-.venv} part=${2:-all}
case $part in
  all) packages=("ros2_ws/src/resip[ros,realsense,dev]" "training[gpu,lerobot,usd]") ;;
  training) packages=(ros2_ws/src/resip "training[gpu,lerobot,usd]") ;;
  robot) packages=("ros2_ws/src/resip[realsense]") ;;
  *) echo "resip setup: no part is called $part: choose all, training or robot" >&2; exit 1 ;;
esac
inputs=(constraints.txt scripts/setup.sh ros2_ws/src/resip/{setup.py,setup.cfg,pyproject.toml} training/{setup.py,pyproject.toml})

say() { echo "resip setup: $*"; }
fail() { say "$*" >&2; exit 1; }

suitable() { # is "$1" a Python that every dependency supports?
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if suitable "$candidate"; then echo "$candidate"; return; fi
  done
  [[ -z ${PYTHON:-} ]] || fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13"
}

python_package() { # the system package of a suitable Python with its venv module
  # Ubuntu 22.04's own python3 is 3.10, which mujoco 4 does not support; it has a 3.11 beside it
  if [[ -n $python ]]; then "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
  elif grep -q '^VERSION_ID="22.04"' /etc/os-release; then echo python3.11-venv
  else echo python3-venv; fi
}

missing_packages() { # one name a line
  local libraries
  if [[ -z $python ]] || ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then python_package; fi
  libraries=$(/sbin/ldconfig -p)
  [[ $part == training ]] || grep -q 'libusb-1\.0\.so\.0' <<<"$libraries" || echo libusb-1.0-0
  [[ $part != robot ]] || return 0
  # rendering: EGL with a driver (Mesa's software one will do), or OSMesa
  if ! grep -q 'libOSMesa\.so' <<<"$libraries"; then
    grep -q 'libEGL\.so\.1' <<<"$libraries" || echo libegl1
    grep -Eq 'libGL\.so\.1|libOpenGL\.so\.0' <<<"$libraries" || echo libgl1
    grep -q 'libEGL_nvidia\.so' <<<"$libraries" || compgen -G '/usr/lib/x86_64-linux-gnu/dri/*swrast*' >/dev/null ||
      echo libgl1-mesa-dri
  fi
}

check_system() {
  local missing
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    fail "these system packages are missing; install them and run this again:
    sudo apt-get update && sudo apt-get install -y ${missing[*]}"
  fi
  say "installing the system packages ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  python=$(find_python)
}

fingerprint() { { pwd; echo "$part"; "$venv/bin/python" -VV; cat "${inputs[@]}"; } | sha256sum; }

complete() {
  [[ -f $venv/.resip-complete && ! -f $venv/.resip-unfinished ]] && "$venv/bin/python" -c '' 2>/dev/null &&
    [[ $(fingerprint) == "$(<"$venv/.resip-complete")" ]]
}

make_venv() {
  if [[ -f $venv/.resip-unfinished ]] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    [[ ! -e $venv || -f $venv/.resip-unfinished || -f $venv/pyvenv.cfg || -z $(ls -A "$venv") ]] ||
      fail "$venv exists and is no virtual environment: move it away, or choose another with VENV=..."
    rm -rf "$venv"
    mkdir -p "$venv"
    touch "$venv/.resip-unfinished"
    "$python" -m venv "${venv_options[@]}" "$venv"
  fi
  touch "$venv/.resip-unfinished"
}

constraints() { # the file of pins
  # the distribution's messages were built for its numpy, so that stays
  if [[ $part == robot ]]; then grep -v '^numpy==' constraints.txt >"$venv/constraints.txt"; echo "$venv/constraints.txt"
  else echo constraints.txt; fi
}

install() {
  local pip=("$venv/bin/python" -m pip --disable-pip-version-check install --constraint "$(constraints)")
  [[ -t 1 ]] || pip+=(-qq)
  say "installing into $venv: a few minutes the first time"
  "${pip[@]}" --quiet pip setuptools
  "${pip[@]}" "${packages[@]/#/--editable=}"
  [[ $part != robot ]] || return 0
  # the furniture's meshes and the arm's URDF; its own requirements pin gym 0.21, which no longer installs
  "${pip[@]}" --quiet --no-deps furniture-bench
}

venv_options=()
if [[ $part == robot ]]; then
  [[ -n ${ROS_DISTRO:-} ]] || fail "no ROS is sourced: run \`source /opt/ros/DISTRIBUTION/setup.bash\` and this again"
  venv_options=(--system-site-packages) # rclpy and colcon are the system's
  : "${PYTHON:=/usr/bin/python3}"       # the one that the distribution was built for
fi
python=$(find_python)
check_system
if ! complete; then
  make_venv
  install
  fingerprint >"$venv/.resip-complete"
  rm "$venv/.resip-unfinished"
  say "$venv is ready"
fi
