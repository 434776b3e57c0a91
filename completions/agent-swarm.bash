# Completion of agent-swarm in bash 3.2 and newer.
# In ~/.bashrc:     eval "$(agent-swarm completion bash)"
# Or loaded on demand, where the package bash-completion is installed:
#     agent-swarm completion bash > ~/.local/share/bash-completion/completions/agent-swarm

# The words are passed on as arguments, and the candidates are only copied. compgen -W would evaluate them.
_agent_swarm() {
  local candidate
  COMPREPLY=()
  while IFS= read -r candidate; do
    if [ "$candidate" = :files ]; then
      # compopt came with bash 4.
      type compopt >/dev/null 2>&1 && compopt -o filenames
      while IFS= read -r candidate; do COMPREPLY+=("$candidate"); done < <(compgen -f -- "$2")
    else
      COMPREPLY+=("$candidate")
    fi
  done < <(command agent-swarm completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null </dev/null)
}
complete -F _agent_swarm agent-swarm
