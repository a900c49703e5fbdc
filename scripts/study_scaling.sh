#!/usr/bin/env bash
# The paper's Fig. 5: students on states of ever more of the teacher's rollouts.
#
#   scripts/study_scaling.sh TASK LEVEL      as `make study/scaling/one_leg/low` does
#
# It can be interrupted and goes on where it was. TEACHER is a run or a shipped teacher, SIZES the numbers of its
# episodes; STATE_UPDATES and EPISODES (of evaluation) shorten it.
set -euo pipefail

task=$1 level=$2
source "$(dirname "$0")/stages.sh"

measure "$teacher" teacher
points=("$results/teacher.json")
for size in ${SIZES:-50 150 500 1500}; do
  clone_states "$size"
  points+=("$results/states-rollouts-$size$pushed.json")
done
"$resip" figure scaling "${points[@]}" --out "docs/images/study_scaling_$task-$level.png"
