#!/usr/bin/env bash
# The paper's Fig. 4: a student on images of the teacher's rollouts, one of the demonstrations alone, and a student on
# states of the same rollouts.
#
#   scripts/study_teacher.sh TASK LEVEL      as `make study/teacher/one_leg/low` does
#
# It can be interrupted and goes on where it was. TEACHER is a run or a shipped teacher, ROLLOUTS the number of its
# episodes; DEMOS, IMAGE_UPDATES, STATE_UPDATES and EPISODES (of evaluation) shorten it.
set -euo pipefail

task=$1 level=$2
source "$(dirname "$0")/stages.sh"
rollouts=${ROLLOUTS:-150}

measure "$teacher" teacher
clone_states "$rollouts"
clone_images "data/rollouts/$task-$level-$rollouts$pushed" "rollouts-$rollouts$pushed"
collect_states
clone_images "$states" demonstrations

bars=("$results/images-demonstrations.json" "$results"/{images,states}-rollouts-"$rollouts$pushed".json "$results/teacher.json")
"$resip" figure teacher "${bars[@]}" --out "docs/images/study_teacher_$task-$level.png"
