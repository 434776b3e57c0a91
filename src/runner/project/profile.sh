# shellcheck shell=sh disable=SC1091
# Written by agent-swarm: shells of the project's user begin in the project, with its environment.
if [ -O /var/lib/agent-swarm/project/env ]; then
  . /var/lib/agent-swarm/project/env
  [ "$PWD" != "$HOME" ] || cd "$(cat /var/lib/agent-swarm/project/folder)" 2>/dev/null || :
fi
