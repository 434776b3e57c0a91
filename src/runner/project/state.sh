# shellcheck shell=sh disable=SC2154
# Says how far the project is.
#
# Set beforehand: begin, a step to begin unless it began; wait, a step to wait for, or nothing; ports, which it opens, or nothing;
# seconds, how long.
# Says `branch`, for each step that began `setup` or `start`: `<running|ended|gone> <exit> <began> <ended>`; and `listening` when
# programs listen on all of the ports.

begin=$(of "$begin_64") wait=$(of "$wait_64") ports=$(of "$ports_64") seconds=$(of "$seconds_64")

unit_of() { if [ "$1" = setup ]; then echo agent-swarm-setup.service; else echo agent-swarm-project.service; fi; }
is_active() {
  case $(systemctl show -p ActiveState --value "$(unit_of "$1")" 2>/dev/null) in
  active | activating | reloading | deactivating) return 0 ;;
  *) return 1 ;;
  esac
}

state_of() {
  if [ -f "$project_state/$1.ended" ]; then
    printf 'ended %s' "$(head -c 100 "$project_state/$1.ended")"
  elif is_active "$1"; then
    printf 'running - %s -' "$(head -c 20 "$project_state/$1.began" 2>/dev/null || date +%s)"
  elif [ -f "$project_state/$1.began" ]; then
    printf 'gone - %s -' "$(head -c 20 "$project_state/$1.began")"
  fi
}

# In the kernel's tables of sockets, 0A is the state of one that listens.
are_listening() {
  [ -n "$ports" ] || return 1
  for port in $ports; do
    grep -q ": [0-9A-F]*:$(printf '%04X' "$port") [0-9A-F]*:0000 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null || return 1
  done
}

# Programs that the step left in the background may open ports when it has ended well.
may_change() {
  if [ -f "$project_state/$1.ended" ]; then
    [ -n "$ports" ] && read -r code _ <"$project_state/$1.ended" && [ "$code" = 0 ] && ! are_listening
  else
    is_active "$1" && ! are_listening
  fi
}

main() {
  if [ -n "$begin" ] && [ -f "$project_state/$begin" ] && [ ! -f "$project_state/$begin.ended" ] && ! is_active "$begin"; then
    problem=$(systemctl start --no-block "$(unit_of "$begin")" 2>&1) || refuse "systemd: $(printf '%s' "$problem" | tail -c 1000)"
    sleep 0.2
  fi
  until=$(($(date +%s) + seconds))
  while [ -n "$wait" ] && may_change "$wait" && [ "$(date +%s)" -lt "$until" ]; do
    sleep 0.2
  done
  say branch "$(project_git symbolic-ref -q --short HEAD 2>/dev/null | head -c 300)"
  for step in setup start; do
    [ ! -f "$project_state/$step" ] || say "$step" "$(state_of "$step")"
  done
  ! are_listening || say listening yes
  echo end
}
main </dev/null
