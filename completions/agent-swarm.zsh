#compdef agent-swarm
# Completion of agent-swarm in zsh.
# In a folder of $fpath, before compinit runs:     agent-swarm completion zsh > ~/.zsh/completions/_agent-swarm
# Or in ~/.zshrc, after compinit:                  eval "$(agent-swarm completion zsh)"

_agent-swarm() {
  local candidate files
  local -a candidates
  while IFS= read -r candidate; do
    if [[ $candidate == :files ]]; then files=yes; else candidates+=("$candidate"); fi
  done < <(command agent-swarm completion zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null </dev/null)
  # A ticket may be typed in lower case.
  (( $#candidates )) && _describe agent-swarm candidates -M 'm:{[:lower:]}={[:upper:]}'
  [[ -n $files ]] && { compset -P "*="; _files }
}

# compinit loads this file as the body of the function; eval only registers the function.
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then _agent-swarm "$@"; else compdef _agent-swarm agent-swarm; fi
