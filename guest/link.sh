#!/bin/sh
# The machine's end of the link: answers each line of the runner with one line. The runner reads files by it, so a machine sends
# nothing that was not asked for.
#   beat                  -> beat
#   prefix TEXT           -> ok       what each path on the link's ports begins with
#   read OFFSET PATH      -> data SIZE BASE64    at most 32 KiB of a file of the agent
# `link.sh free` ends the link before this one, when its sshd still holds the ports: after a restore it does not know that its
# connection is gone.
set -u
state=${AGENT_SWARM_STATE:-/var/lib/agent-swarm}
library=$(dirname "$0")
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo unknown)

if [ "${1-}" = free ]; then
  # shellcheck disable=SC2034
  read -r pid at rest 2>/dev/null <"$state/link.pid" || exit 0
  case $pid in '' | *[!0-9]*) exit 0 ;; esac
  # Another boot gives the number to another program.
  [ "$at" = "$boot" ] || exit 0
  case $(ps -o comm= -p "$pid" 2>/dev/null || cat "/proc/$pid/comm" 2>/dev/null) in
    *sshd*) kill "$pid" ;;
  esac
  exit 0
fi

echo "$PPID $boot" >"$state/link.pid"
echo "hello 1 $(cat "$library/hash" 2>/dev/null)"
while IFS= read -r line; do
  case $line in
    beat) echo beat ;;
    'prefix '*)
      echo "${line#prefix }" >"$state/link-prefix"
      echo ok
      ;;
    'read '*)
      rest=${line#read }
      offset=${rest%% *}
      file=$state/agent/${rest#* }
      size=$({ wc -c <"$file"; } 2>/dev/null | tr -d ' ')
      printf 'data %s ' "${size:-0}"
      [ "${size:-0}" -le "$offset" ] || tail -c "+$((offset + 1))" "$file" | head -c 32768 | base64 | tr -d '\n'
      echo
      ;;
    *) echo unknown ;;
  esac
done
