#!/usr/bin/env bash
# The paper's Fig. 8: where the actions and states of a simulated and of a real data set are.
#
#   scripts/study_coverage.sh SIM REAL      as `make study/coverage SIM=data/rendered REAL=data/cell` does
set -euo pipefail

if [[ $# != 2 ]]; then
  echo "give two data sets: make study/coverage SIM=DIR REAL=DIR" >&2
  exit 2
fi
sim=$1 real=$2 resip=${BIN:-.venv/bin}/resip
name=coverage_$(basename "$sim")_$(basename "$real")
mkdir -p docs/results/studies
"$resip" data coverage "$sim" "$real" --json "docs/results/studies/$name.json"
"$resip" figure coverage "docs/results/studies/$name.json" --out "docs/images/study_$name.png"
