/**
 * Stand-ins for systemctl, loginctl, journalctl, launchctl and schtasks: shell scripts on a PATH, with their state in a folder. Each
 * writes down how it was called.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** `$state`: a folder. A file `broken-<program>` there holds what it prints before it fails. */
const HEAD = `state=$(dirname "$0")/../state
name=$(basename "$0")
echo "$name $*" >>"$state/calls"
[ ! -e "$state/broken-$name" ] || { cat "$state/broken-$name" >&2; exit 1; }
`

const SCRIPTS = {
  // The words of systemctl 252 that are used; a unit is known once it was enabled.
  systemctl: `${HEAD}
[ "$1" != --user ] || { shift; [ -n "$XDG_RUNTIME_DIR" ] || { echo 'Failed to connect to bus: No medium found' >&2; exit 1; }; }
case $1 in
  daemon-reload) ;;
  enable) touch "$state/enabled" ;;
  restart) [ -e "$state/ends-at-once" ] && echo exit-code >"$state/result" || echo 4711 >"$state/running" ;;
  disable) rm -f "$state/enabled" "$state/running" ;;
  show)
    echo LoadState=loaded
    [ -e "$state/running" ] && echo ActiveState=active || echo ActiveState=inactive
    [ -e "$state/enabled" ] && echo UnitFileState=enabled || echo UnitFileState=
    echo "MainPID=$(cat "$state/running" 2>/dev/null || echo 0)"
    echo NRestarts=2
    echo "Result=$(cat "$state/result" 2>/dev/null || echo success)" ;;
  *) echo "Unknown command verb $1." >&2; exit 1 ;;
esac
`,
  loginctl: `${HEAD}
[ "$1" = enable-linger ] || { echo "Unknown command verb $1." >&2; exit 1; }
mkdir -p "$state/root/var/lib/systemd/linger"
touch "$state/root/var/lib/systemd/linger/$2"
`,
  journalctl: `${HEAD}
echo 'the first line'
case " $* " in *' --follow '*) exec sleep 600 ;; esac
`,
  // A service that was booted out is gone only at the second look: until then, a bootstrap is refused.
  launchctl: `${HEAD}
case $1 in
  bootout)
    [ -e "$state/loaded" ] || { echo 'Boot-out failed: 3: No such process' >&2; exit 3; }
    mv "$state/loaded" "$state/settling" ;;
  enable) ;;
  kickstart) [ "$2" = -k ] && [ -e "$state/loaded" ] || { echo 'Could not find service' >&2; exit 113; } ;;
  bootstrap)
    [ ! -e "$state/settling" ] || { rm "$state/settling"; echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5; }
    touch "$state/loaded" ;;
  print)
    [ -e "$state/loaded" ] || { echo "Could not find service \\"$2\\" in domain" >&2; exit 113; }
    printf '%s = {\\n\\tstate = running\\n\\truns = 3\\n\\tpid = 4711\\n\\tlast exit code = 1\\n\\tdomain = {\\n\\t\\tstate = other\\n\\t}\\n}\\n' "$2" ;;
  *) echo "Unrecognized subcommand: $1" >&2; exit 64 ;;
esac
`,
  // Words of its columns are in the language of the system.
  schtasks: `${HEAD}
case $1 in
  /Create) touch "$state/task"; cp "$5" "$state/task.xml" ;;
  /Run) touch "$state/task-runs" ;;
  /End) [ -e "$state/task-runs" ] || { echo 'FEHLER: Die Aufgabe wird nicht ausgeführt.' >&2; exit 1; }; rm "$state/task-runs" ;;
  /Delete) rm "$state/task" || { echo 'FEHLER: Das System kann die angegebene Datei nicht finden.' >&2; exit 1; } ;;
  /Query)
    [ -e "$state/task" ] || { echo 'FEHLER: Das System kann die angegebene Datei nicht finden.' >&2; exit 1; }
    [ -e "$state/task-runs" ] && last=267009 || last=1
    echo "\\"HOST\\",\\"\\\\agent-swarm-up\\",\\"N/A\\",\\"Wird ausgeführt\\",\\"29.11.2026\\",\\"$last\\"" ;;
  *) echo 'FEHLER: Ungültige Syntax.' >&2; exit 1 ;;
esac
`,
  getent: `${HEAD}
[ "$3" = swarmbot ] || exit 2
echo 'swarmbot:x:998:998::/var/lib/swarmbot:/usr/sbin/nologin'
`,
}

export const openServiceSystems = () => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-services-'))
  const [bin, state] = [join(folder, 'bin'), join(folder, 'state')]
  for (const path of [bin, state]) mkdirSync(path)
  for (const [name, script] of Object.entries(SCRIPTS)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}`)
    chmodSync(join(bin, name), 0o755)
  }
  const calls = join(state, 'calls')
  return {
    bin,
    /** In place of `/` for what the systems keep outside of the person's home. */
    root: join(state, 'root'),
    file: (name: string) => join(state, name),
    /** How the programs were called since the last look. */
    calls: (): string[] => {
      const lines = existsSync(calls) ? readFileSync(calls, 'utf8').trim().split('\n') : []
      rmSync(calls, { force: true })
      return lines
    },
    /** From now on, it prints this and fails; null mends it. */
    breaks: (program: string, text: string | null): void => {
      if (text === null) rmSync(join(state, `broken-${program}`))
      else writeFileSync(join(state, `broken-${program}`), `${text}\n`)
    },
    close: () => rmSync(folder, { recursive: true, force: true }),
  }
}
