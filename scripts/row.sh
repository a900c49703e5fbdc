#!/usr/bin/env bash
# One row of the tables of learned policies in docs/results.md: data, base, what learns on it, and the figures.
#
#   scripts/row.sh TASK LEVEL POLICY [ALGORITHM [NAME OPTION...]]      as `make row/one_leg/low/dp/residual-ppo` does
#
# What is there is not made again and what was interrupted is finished, so a row can be asked for twice. NAME tells runs
# of an algorithm apart that differ by OPTIONs. SEED is that of the training; bases are of seed 0. CHUNK is the number
# of actions that a base executes before it is asked again, where it is not the policy's own. With ROLLOUTS=N the base is
# cloned from a teacher's successes on N seeds, not from demonstrations; TEACHER is a run, or else the shipped one,
# which is pushed off its way where DISTURB_M says how far (m).
set -euo pipefail

if [[ $# -lt 3 ]]; then
  echo "give task, level and policy: make row/one_leg/low/dp" >&2
  exit 2
fi
task=$1 level=$2 policy=$3 algorithm=${4:-} name=${5:-} options=("${@:6}")
source "$(dirname "$0")/stages.sh"
seed=${SEED:-0} run=runs/$task-$level-$policy${CHUNK:+-chunk-$CHUNK}${ROLLOUTS:+-rollouts-$ROLLOUTS$pushed}
data=$states
if [[ -n ${ROLLOUTS:-} ]]; then data=data/rollouts/$task-$level-$ROLLOUTS$pushed; fi

# Control steps, and what differs from the defaults. A peg fits by a tenth of a millimetre, so corrections are small, and it
# is in within 70 steps, so what comes later need not weigh as much as where it takes 300.
settings=()
case $algorithm in
  residual-ppo) steps=2500000 settings=(--discount 0.997 --rollout-steps 256 --along-demonstrations 0.7) ;;
  residual-offpolicy) steps=250000 settings=(--along-demonstrations 0.7 --episode-steps 100) ;;
  chunk-ppo) steps=2000000 ;;
  idql) steps=1000000 ;;
esac
case $task/$algorithm in
  peg_hole/residual-ppo) steps=1500000 settings+=(--alpha 0.05 --discount 0.99) ;;
  peg_hole/residual-offpolicy)
    steps=400000 settings+=(--alpha 0.05 --noise 0.02 0.3 --along-demonstrations 0.5 --episode-steps 80)
    settings+=(--validations 8 --validation-episodes 96)
    ;;
esac
# Longer tasks and wider starts: bases seldom succeed, so corrections are held nearer to zero (docs/results.md says what
# round_table did otherwise), and episodes take hundreds of steps, in validation too.
case $task/$level in
  one_leg/med | one_leg/high | round_table/* | lamp/*)
    settings+=(--validations 5 --validation-episodes 60)
    if [[ $algorithm == residual-offpolicy ]]; then settings+=(--residual-penalty 0.2 --prior-share 0.5); fi
    ;;
esac

if [[ ! -f $run/finished ]]; then
  if [[ -n ${ROLLOUTS:-} ]]; then roll_out "$ROLLOUTS"; else collect_states; fi
  train_once "$run" bc "$data" --policy "$policy" ${CHUNK:+--action-horizon "$CHUNK"} ${ROLLOUTS:+--steps 12000}
fi
if [[ -n $algorithm ]]; then
  base=$run run=$run-$algorithm${name:+-$name}
  if [[ $seed != 0 ]]; then run=$run-seed$seed; fi
  preset=()
  if [[ $algorithm != residual-offpolicy ]]; then preset=(compact); fi
  "$resip" train "$algorithm" "$base" --dataset "$data" --steps "${STEPS:-$steps}" --seed "$seed" --threads 1 --out "$run" \
    "${preset[@]}" "${settings[@]}" "${options[@]}"
fi
mkdir -p docs/results/learned
"$resip" evaluate "$run" "${evaluate[@]}" --json "docs/results/learned/${run#runs/}.json"
