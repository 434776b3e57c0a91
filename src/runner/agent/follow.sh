#!/bin/sh
# Shows what an agent prints, one line a step, for `agent-swarm attach`: follow.sh RUN. The runner shows the same better; this needs
# nothing but sed. Control characters go.
tail -n +1 -F "$(dirname "$0")/$1/out.jsonl" 2> /dev/null | sed -un '
  s/[[:cntrl:]]//g
  /^{/{
    /"command":"/{
      s/.*"command":"\(\([^"\\]\|\\.\)*\)".*/> \1/
      b show
    }
    /"text":"/{
      s/.*"text":"\(\([^"\\]\|\\.\)*\)".*/\1/
      b show
    }
    d
  }
  :show
  s/\\[nt]/ /g
  s/\(.\{400\}\).*/\1.../
  /./p
'
