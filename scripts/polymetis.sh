#!/usr/bin/env bash
# Install Polymetis on the control PC, into a conda environment "polymetis": scripts/polymetis.sh [LIBFRANKA]
#
#   scripts/polymetis.sh            the conda package, whose libfranka is 0.9.0
#   scripts/polymetis.sh 0.8.0      from source, with that libfranka
#
# docs/control_pc.md tells which libfranka a robot needs. Not run by us: it needs conda, the internet and a robot.
set -euo pipefail

libfranka=${1:-}
commit=0a01a7fa7a7c65b2f9a3aebf5e79040940daf9d2 # the last of Polymetis, February 2023
source=${POLYMETIS_SOURCE:-$PWD/fairo}

command -v conda >/dev/null || { echo "polymetis: no conda here: install Miniforge first" >&2; exit 1; }

if [[ -z $libfranka ]]; then
  conda create --yes --name polymetis -c pytorch -c fair-robotics -c aihabitat -c conda-forge python=3.8 polymetis
  exit
fi

[[ -d $source ]] || git clone https://github.com/facebookresearch/fairo "$source"
cd "$source"
git checkout --quiet "$commit"
git submodule update --init --recursive polymetis/polymetis/src/clients/franka_panda_client/third_party/libfranka
cd polymetis
conda env create --yes --name polymetis --file polymetis/environment.yml
in_environment=(conda run --no-capture-output --name polymetis)
"${in_environment[@]}" pip install --editable polymetis
"${in_environment[@]}" scripts/build_libfranka.sh "$libfranka"
"${in_environment[@]}" cmake -S polymetis -B polymetis/build -DCMAKE_BUILD_TYPE=Release -DBUILD_FRANKA=ON \
  -DBUILD_TESTS=OFF -DBUILD_DOCS=OFF
"${in_environment[@]}" cmake --build polymetis/build --parallel
