# The session of `agent-swarm attach`: a window that follows the agent, and a shell. The variable before this text: run.
folder=/var/lib/agent-swarm/agent
if ! command -v tmux > /dev/null; then
  echo 'tmux is not installed in this machine. Install it there (sudo apt-get install tmux), or open a shell: agent-swarm ssh' >&2
  exit 127
fi
window=agent-$run
if ! tmux has-session -t =agent-swarm 2> /dev/null; then
  tmux new-session -d -s agent-swarm -n "$window" "sh $folder/follow $run" && tmux new-window -d -t =agent-swarm: -n shell
elif ! tmux list-windows -t =agent-swarm -F '#W' | grep -qx "$window"; then
  tmux new-window -t =agent-swarm: -n "$window" "sh $folder/follow $run"
fi
exec tmux attach-session -t =agent-swarm
