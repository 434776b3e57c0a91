# Completion of agent-swarm in bash 3.2 and newer.
# For every new shell, in ~/.bashrc:     eval "$(agent-swarm completion bash)"
# Or loaded when needed, where the package bash-completion is installed:
#     agent-swarm completion bash > ~/.local/share/bash-completion/completions/agent-swarm

# What is typed is passed on as it is, and what comes back is compared and copied: nothing is evaluated, so no compgen -W.
_agent_swarm() {
  local answer
  COMPREPLY=()
  while IFS= read -r answer; do
    if [ "$answer" = :files ]; then
      # compopt came with bash 4.
      type compopt >/dev/null 2>&1 && compopt -o filenames
      while IFS= read -r answer; do COMPREPLY+=("$answer"); done < <(compgen -f -- "$2")
    else
      COMPREPLY+=("$answer")
    fi
  done < <(command agent-swarm completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null </dev/null)
}
complete -F _agent_swarm agent-swarm
