#compdef agent-swarm
# Completion of agent-swarm in zsh.
# In a folder of $fpath, before compinit runs:     agent-swarm completion zsh > ~/.zsh/completions/_agent-swarm
# Or in ~/.zshrc, after compinit:                  eval "$(agent-swarm completion zsh)"

_agent-swarm() {
  local answer files
  local -a found
  while IFS= read -r answer; do
    if [[ $answer == :files ]]; then files=yes; else found+=("$answer"); fi
  done < <(command agent-swarm completion zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null </dev/null)
  # A ticket may be typed in small letters.
  (( $#found )) && _describe agent-swarm found -M 'm:{[:lower:]}={[:upper:]}'
  [[ -n $files ]] && { compset -P "*="; _files }
}

# Loaded by compinit this file is the function's body; evaluated, it only says what it is for.
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then _agent-swarm "$@"; else compdef _agent-swarm agent-swarm; fi
