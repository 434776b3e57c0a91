#!/bin/sh
# The machine's end of the link: answers each line of the runner with one line. The runner reads files by it, so a machine sends
# nothing that was not asked for.
#   beat                  -> beat
#   prefix TEXT           -> ok       what each path on the link's ports begins with
#   read OFFSET PATH      -> data SIZE BASE64    at most 32 KiB of a file of the agent
#   activity PORTS        -> activity SESSIONS CONNECTIONS LOAD    logins besides this one, and connections to the ports (3000,8080; or -)
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

# Connections as the kernel lists them: local and remote address with ports in hexadecimal, and the state. 01 is an open one; 0A waits
# for others. One that was closed stays in the list for a minute. A login at the console is none of sshd's.
activity() {
  # shellcheck disable=SC2086
  set -- "$1" ${SSH_CONNECTION:-0 0 0 0}
  consoles=$(grep -lE '^TTY=(tty|hvc)' /run/systemd/sessions/*[0-9] 2>/dev/null </dev/null | wc -l | tr -d ' ')
  read -r load _ 2>/dev/null </proc/loadavg || load=0
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null </dev/null |
    awk -v ports="$1" -v own="$3" -v ssh="$5" -v consoles="$consoles" -v load="$load" '
      function hex(port) { return sprintf("%04X", port) }
      BEGIN { n = split(ports, list, ","); for (i = 1; i <= n; i++) wanted[hex(list[i] + 0)] = 1; own = hex(own + 0); ssh = hex(ssh + 0) }
      { here = substr($2, length($2) - 3); there = substr($3, length($3) - 3) }
      $4 == "01" && here == ssh && there != own { sessions++ }
      $4 ~ /^[0-9A-F][0-9A-F]$/ && $4 != "0A" && here in wanted { connections++ }
      END { printf "activity %d %d %s\n", sessions + consoles, connections, load }'
}

echo "$PPID $boot" >"$state/link.pid"
echo "hello 1 $(cat "$library/hash" 2>/dev/null)"
while IFS= read -r line; do
  case $line in
    beat) echo beat ;;
    'activity '*) activity "${line#activity }" ;;
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
