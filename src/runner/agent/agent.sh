#!/bin/sh
# shellcheck disable=SC2154 # The runner writes these variables before this text.
# Starts, looks at and stops the agent of a machine, as root. The variables before this text: verb, run, user; for start also seconds,
# sessions, session, and write_files, a function.
root=${AGENT_SWARM_GUEST_ROOTS:-}
state=$root/var/lib/agent-swarm/agent
folder=$state/$run
unit=agent-swarm-agent-$run
id "$user" > /dev/null 2>&1 || user=$(id -un)
home=${root:-$(getent passwd "$user" | cut -d: -f6)}

boot() { cat /proc/sys/kernel/random/boot_id; }
active() { systemctl show "$unit" -p ActiveState | cut -d= -f2; }

start() {
  case $(active) in
    active | activating | deactivating) echo already && boot && return ;;
  esac
  if [ -e "$folder/out.jsonl" ]; then
    echo already && boot
    return
  fi
  mkdir -p "$folder"
  if [ -n "$session" ]; then
    case $sessions in
      home/*) where=$home/${sessions#home/} ;;
      *) where=$state/$sessions ;;
    esac
    if ! find "$where" -name "*$session*" -print 2> /dev/null | grep -q .; then
      echo no-session && boot
      return
    fi
  fi
  write_files
  chown -R "$user" "$state"
  systemctl reset-failed 'agent-swarm-agent-*' 2> /dev/null || true
  # RuntimeMaxSec is the second line of defence: the runner ends the agent first. It follows the file `exit`, which is empty but for
  # a line feed when the unit ended before it was written.
  systemd-run --quiet --unit="$unit" --uid="$user" --property=KillMode=control-group --property=RuntimeMaxSec="$seconds" \
    --property=ExecStopPost="/bin/sh -c 'test -s $folder/exit || echo >$folder/exit'" --property=TimeoutStopSec=10 --property=WorkingDirectory="$home" /bin/bash -l "$folder/unit" "$folder" < /dev/null
  echo started && boot
}

look() {
  echo "active=$(active)"
  echo "result=$(systemctl show "$unit" -p Result | cut -d= -f2)"
  echo "exit=$(head -c 10 "$folder/exit" 2> /dev/null | tr -dc 0-9)"
  echo "size=$(stat -c %s "$folder/out.jsonl" 2> /dev/null || echo 0)"
  [ -d "$folder" ] && echo folder=yes || echo folder=no
  echo "boot=$(boot)"
  echo "errors=$(tail -c 2000 "$folder/err" 2> /dev/null | base64 | tr -d '\n')"
}

case $verb in
  start) start ;;
  look) look ;;
  stop) systemctl stop "$unit" 2> /dev/null || true ;;
  stop-all) systemctl stop 'agent-swarm-agent-*' 2> /dev/null || true ;;
esac
