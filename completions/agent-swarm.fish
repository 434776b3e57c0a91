# Completion of agent-swarm in fish 3 and newer.
#     agent-swarm completion fish > ~/.config/fish/completions/agent-swarm.fish

function __agent_swarm_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -e words[1]
    set -l word (commandline --current-token --cut-at-cursor)
    for candidate in (command agent-swarm completion fish -- $words "$word" 2>/dev/null </dev/null)
        if test "$candidate" = :files
            __fish_complete_path "$word"
        else
            printf '%s\n' "$candidate"
        end
    end
end
complete --command agent-swarm --no-files --arguments '(__agent_swarm_complete)'
