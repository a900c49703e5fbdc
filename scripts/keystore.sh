#!/usr/bin/env bash
# Keys and permissions of every node, for a secured graph: scripts/keystore.sh FOLDER. Needs a sourced ROS with sros2.
#
# ROS_DOMAIN_ID is part of the permissions: set it to the graph's.
set -euo pipefail

keystore=${1:?usage: scripts/keystore.sh FOLDER}
policy=$(realpath "$(dirname "$0")/../ros2_ws/src/resip/policies/resip.xml")

command -v ros2 >/dev/null || { echo "keystore: no ros2 here: source a ROS distribution first" >&2; exit 1; }

ros2 security create_keystore "$keystore"
grep -oP 'enclave path="\K[^"]+' "$policy" | while read -r enclave; do
  ros2 security create_enclave "$keystore" "$enclave"
  ros2 security create_permission "$keystore" "$enclave" "$policy"
done
chmod -R go= "$keystore"
