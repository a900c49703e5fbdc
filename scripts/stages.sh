# What rows and studies of learned policies do alike. Sourced by their scripts, with `task` and `level` set.
#
# What is there is not made again, and what was interrupted is finished: every stage may be asked for twice.

resip=${BIN:-.venv/bin}/resip
states=data/states/$task-$level
evaluate=(--episodes "${EPISODES:-200}" --seed 780000 --randomness "$level" --threads 1)

# DISTURB_M: mean size (m) of pushes off the teacher's way, while it is rolled out
pushed=${DISTURB_M:+-disturbed}

# of studies
teacher=${TEACHER:-models/${task}_teacher}
students=runs/studies/$task-$level
results=docs/results/studies/$task-$level

# 50 demonstrations without images, in $states
collect_states() {
  "$resip" collect "$task" --randomness "$level" --demos "${DEMOS:-50}" --seed 10000 --no-images --threads 1 --out "$states"
}

# train_once RUN COMMAND...   unless RUN is finished
train_once() {
  if [[ ! -f $1/finished ]]; then
    "$resip" train "${@:2}" --out "$1"
    touch "$1/finished"
  fi
}

# roll_out N   the teacher's successes on N seeds, into data/rollouts/TASK-LEVEL-N, or -N-disturbed
roll_out() {
  "$resip" rollout "$teacher" --episodes "$1" --randomness "$level" ${DISTURB_M:+--disturb-m "$DISTURB_M"} --threads 1 \
    --out "data/rollouts/$task-$level-$1$pushed"
}

# clone_states N   the student on states of N rollouts, and its success
clone_states() {
  local student=states-rollouts-$1$pushed
  roll_out "$1"
  train_once "$students/$student" bc "data/rollouts/$task-$level-$1$pushed" --policy dp --steps "${STATE_UPDATES:-20000}"
  measure "$students/$student" "$student"
}

# clone_images SET NAME   the student on images of the episodes in SET, as the cell looks to the cameras, and its success
clone_images() {
  "$resip" render "$1" --every never --out "data/images/$task-$level-$2"
  train_once "$students/images-$2" distill --sim "data/images/$task-$level-$2" --steps "${IMAGE_UPDATES:-16000}"
  measure "$students/images-$2" "images-$2"
}

# measure CHECKPOINT NAME   its success, into $results/NAME.json
measure() {
  local figures=$students/$2-${EPISODES:-200}.json
  mkdir -p "$students" "$results"
  if [[ ! -f $figures ]]; then
    "$resip" evaluate "$1" "${evaluate[@]}" --json "$figures"
  fi
  cp "$figures" "$results/$2.json"
}
