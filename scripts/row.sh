#!/usr/bin/env bash
# One row of the tables of learned policies in docs/results.md: data, base, what learns on it, and the figures.
#
#   scripts/row.sh TASK LEVEL POLICY [ALGORITHM [NAME OPTION...]]      as `make row/one_leg/low/dp/residual-ppo` does
#
# What is there is not made again and what was interrupted is finished, so a row can be asked for twice. NAME tells runs
# of an algorithm apart that differ by OPTIONs. SEED is that of the training; bases are of seed 0. CHUNK is the number
# of actions that a base executes before it is asked again, where it is not the policy's own.
set -euo pipefail

task=$1 level=$2 policy=$3 algorithm=${4:-} name=${5:-} options=("${@:6}")
source "$(dirname "$0")/stages.sh"
seed=${SEED:-0} run=runs/$task-$level-$policy${CHUNK:+-chunk-$CHUNK}

# control steps, and what differs from the defaults: a peg fits by a tenth of a millimetre, so corrections are small
case $algorithm in
  residual-ppo) steps=3000000 options=(--discount 0.997 --rollout-steps 256 --along-demonstrations 0.7 "${options[@]}") ;;
  residual-offpolicy) steps=250000 options=(--along-demonstrations 0.7 --episode-steps 100 "${options[@]}") ;;
  chunk-ppo) steps=2000000 ;;
  idql) steps=1000000 ;;
esac
if [[ $task == peg_hole && $algorithm == residual-* ]]; then
  options=(--alpha 0.05 "${options[@]}")
  steps=$((steps * 4 / 5))
fi
if [[ $task == peg_hole && $algorithm == residual-offpolicy ]]; then
  options=(--noise 0.02 0.3 --along-demonstrations 0.5 --episode-steps 80 "${options[@]}")
fi

if [[ ! -f $run/finished ]]; then
  collect_states
  train_once "$run" bc "$states" --policy "$policy" ${CHUNK:+--action-horizon "$CHUNK"}
fi
if [[ -n $algorithm ]]; then
  base=$run run=$run-$algorithm${name:+-$name}
  if [[ $seed != 0 ]]; then run=$run-seed$seed; fi
  preset=()
  if [[ $algorithm != residual-offpolicy ]]; then preset=(compact); fi
  "$resip" train "$algorithm" "$base" --dataset "$states" --steps "${STEPS:-$steps}" --seed "$seed" --threads 1 --out "$run" \
    "${preset[@]}" "${options[@]}"
fi
mkdir -p docs/results/learned
"$resip" evaluate "$run" "${evaluate[@]}" --json "docs/results/learned/${run#runs/}.json"
