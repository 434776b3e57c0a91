#!/bin/bash
# The agent's unit, run by a login bash as the ssh user: `agent-unit.sh FOLDER`. Everything that was written elsewhere lies in files
# of the folder. What the agent prints is bounded, and the end of its program is written down.
folder=$1

# Passes at most $2 KiB on to the file $1. The rest is read and dropped, so that the agent goes on.
bounded() {
  (
    ulimit -f "$2"
    trap '' XFSZ
    exec cat > "$1" 2> /dev/null
  )
  exec cat > /dev/null
}

# shellcheck source=/dev/null
. "$folder/environment"
case $AGENT_SWARM_PROJECT in
  "~/"*) AGENT_SWARM_PROJECT=$HOME/${AGENT_SWARM_PROJECT#"~/"} ;;
esac
exec 3> >(bounded "$folder/out.jsonl" 65536)
out=$!
exec 4> >(bounded "$folder/err" 64)
err=$!
if cd "$AGENT_SWARM_PROJECT"; then
  bash "$folder/command" < "$folder/prompt" >&3 2>&4 3>&- 4>&-
  code=$?
else
  echo "the folder $AGENT_SWARM_PROJECT does not exist" >&4
  code=126
fi 2>&4
exec 3>&- 4>&-
# A program that the agent left behind may hold them open.
for _ in $(seq 50); do
  kill -0 "$out" 2> /dev/null || kill -0 "$err" 2> /dev/null || break
  sleep 0.1
done
printf '%s\n' "$code" > "$folder/exit.new" && mv "$folder/exit.new" "$folder/exit"
