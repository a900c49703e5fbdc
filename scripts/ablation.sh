#!/usr/bin/env bash
# What a residual owes to its scale alpha, to the length of the base's chunks, and to being shown the base's action.
#
#   scripts/ablation.sh TASK LEVEL POLICY ALGORITHM      as `make ablation/one_leg/low/dp/residual-ppo` does
#
# Each run differs in one setting from the first, which has those of the row of that name. STEPS is the length of all;
# all are measured as they are at their end. It can be interrupted and goes on where it was.
set -euo pipefail

if [[ $# != 4 ]]; then
  echo "give task, level, policy and algorithm: make ablation/one_leg/low/dp/residual-ppo" >&2
  exit 2
fi
row=("$(dirname "$0")/row.sh" "$1" "$2" "$3" "$4")
export STEPS=${STEPS:-500000}

# train and measure NAME OPTION...
measured() {
  "${row[@]}" "short$1" --validations 1 --validation-episodes 8 "${@:2}"
}

measured ""
for alpha in ${ALPHAS-0.03 0.3}; do
  measured "-alpha-$alpha" --alpha "$alpha"
done
for chunk in ${CHUNKS-4 16}; do
  CHUNK=$chunk measured ""
done
measured -blind --no-sees-base-action
