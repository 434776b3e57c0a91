# shellcheck shell=sh disable=SC2154,SC2015
# Puts setup and start, their environment and what runs them into the machine.
#
# Set beforehand: runner, the script step.sh; env, lines that export variables; setup and start, shell commands or nothing;
# minutes, the deadline of setup; shell, the script profile.sh; again, 1 when steps that ran for something else have not begun.

units=$root/etc/systemd/system
SETUP=agent-swarm-setup.service
START=agent-swarm-project.service

# The commands $2 of the step $1; none when it is empty.
write_step() {
  if [ -n "$2" ]; then
    of "$2" | write_own "$project_state/$1" 700
  else
    as_user rm -f "$project_state/$1"
  fi
}

unit() {
  cat <<UNIT
[Unit]
Description=$2 of the project (agent-swarm)
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
User=$user
ExecStart=/bin/bash -l $library/project-step $1
KillMode=control-group
TimeoutStopSec=20
$3
UNIT
}

# What the steps run for: the commit that is checked out, and the plan.
wanted() {
  printf '%s\n' "$(project_git rev-parse -q --verify HEAD)" "$env_64" "$setup_64" "$start_64" | sha256sum | cut -d ' ' -f 1
}

forget_others() {
  made=$(cat "$project_state/made" 2>/dev/null)
  if [ -n "$made" ] && [ "$made" != "$(wanted)" ]; then
    for unit in "$SETUP" "$START"; do systemctl stop "$unit" 2>/dev/null; done
    as_user rm -f "$project_state/setup.began" "$project_state/setup.ended" "$project_state/start.began" "$project_state/start.ended"
  fi
}

main() {
  minutes=$(of "$minutes_64")
  make_state
  of "$runner_64" | sed "s|/var/lib/agent-swarm|$state|g" | write_file "$library/project-step" 755 &&
    printf '%s\n' "$folder" | write_own "$project_state/folder" 600 &&
    of "$env_64" | write_own "$project_state/env" 600 &&
    write_step setup "$setup_64" && write_step start "$start_64" &&
    of "$shell_64" | sed "s|/var/lib/agent-swarm|$state|g" | write_file "$root/etc/profile.d/agent-swarm-project.sh" 644 &&
    unit setup Setup "RuntimeMaxSec=$((minutes * 60 + 120))" | write_file "$units/$SETUP" 644 &&
    {
      # Programs that start left in the background go on when its own shell has ended.
      unit start Start 'RemainAfterExit=yes'
      printf '\n[Install]\nWantedBy=multi-user.target\n'
    } | write_file "$units/$START" 644 || refuse 'our files cannot be written in the machine'
  [ "$(of "$again_64")" != 1 ] || forget_others
  [ -e "$project_state/made" ] && [ "$(of "$again_64")" != 1 ] || wanted | write_own "$project_state/made" 600
  printf '%s\n' "$minutes" | write_own "$project_state/minutes" 600
  systemctl daemon-reload || refuse 'systemd in the machine did not take our units'
  if [ -n "$start_64" ]; then systemctl enable -q "$START"; else systemctl disable -q "$START" 2>/dev/null; fi
  say installed yes
  echo end
}
main </dev/null
