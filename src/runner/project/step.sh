#!/bin/bash -l
# Runs the step $1 of the project, setup or start, as the ssh user: by its unit, or by hand. Its output goes into a log of at most
# twice MAX_LOG bytes, and how it ended into <step>.ended: exit status, begin and end in seconds since 1970.
state=/var/lib/agent-swarm
own=$state/project
MAX_LOG=5000000

step=${1-}
case $step in setup | start) ;; *) echo "usage: ${0##*/} setup|start" >&2; exit 2 ;; esac
[ -f "$own/$step" ] || { echo "the project has no $step" >&2; exit 2; }
folder=$(cat "$own/folder") || exit 1
log=$state/$step.log

# The older half of a long log is replaced.
keep() {
  while stdbuf -o0 head -c "$MAX_LOG" >"$log" && [ "$(stat -c %s "$log")" -ge "$MAX_LOG" ]; do mv -f "$log" "$log.1"; done
}

rm -f "$own/$step.ended" "$log.1"
began=$(date +%s)
printf '%s\n' "$began" >"$own/$step.began"
exec 3> >(keep)
keeper=$!
limit=()
[ "$step" != setup ] || limit=(timeout -k 10 "$(cat "$own/minutes")m")
(
  cd "$folder" || exit 1
  # shellcheck disable=SC1091
  . "$own/env"
  exec "${limit[@]}" bash -eo pipefail "$own/$step"
) </dev/null >&3 2>&1 3>&-
code=$?
exec 3>&-
# What was left in the background may hold the log open: the step has ended all the same.
for _ in {1..20}; do kill -0 "$keeper" 2>/dev/null || break; sleep 0.1; done
printf '%s %s %s\n' "$code" "$began" "$(date +%s)" >"$own/$step.ended.new" && mv -f "$own/$step.ended.new" "$own/$step.ended"
exit "$code"
