/**
 * The demo's agent: a shell script that does what it was told to do beforehand, in place of Claude Code or Codex. All around it is
 * the real thing: how it is started, what it is told, its clone, its pushes and its end. On synthetic machines, which are folders,
 * it runs on this host.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AgentGuest } from '../src/runner/agent/guest.ts'
import { programs } from '../src/runner/agent/programs.ts'
import { AGENT_STATE } from '../src/runner/agent/prompt.ts'
import type { ScriptedAgent } from '../src/runner/context.ts'
import type { OperatorAgent } from '../src/schema/workspace.ts'
import { followFile } from '../test/support/follow-file.ts'

const SCRIPT = `set -eu
prompt=$(cat)
task=$(printf '%s\\n' "$prompt" | sed -n '1s/^The ticket: //p')
case $prompt in
*'asks for changes'*)
  echo 'The review asks for a test: I add one.'
  echo 'A passkey of another site is refused.' >login.test.txt
  what='test the passkey of another site'
  ;;
*)
  echo "I read the ticket: $(sed -n '1s/^# //p' "$task")"
  echo 'Log in with a passkey, or with a password.' >login.txt
  what='log in with a passkey'
  ;;
esac
git add -A
git commit -q -m "$AGENT_SWARM_TICKET: $what"
git push -q origin HEAD
echo "I pushed $(git rev-parse --short=7 HEAD), $what. This is a script."
`

/** In config.yaml of the demo. */
export const agentSettings: OperatorAgent = {
  ...{ use: 'command', command: SCRIPT, prompt: 'The ticket: {task}\n', minutes: 10, rounds: 1 },
  // The demo says what its machines are.
  allowUnisolated: true,
}

/** In machines that are folders of `home`. */
export const scriptedAgent = (home: string): ScriptedAgent => {
  const running = new Map<string, ChildProcess>()
  const boot = randomUUID()
  const stop = async (run: string) => {
    const pid = running.get(run)?.pid
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
    running.delete(run)
  }
  process.on('exit', () => {
    for (const run of running.keys()) void stop(run)
  })
  const guestOf: ScriptedAgent['guestOf'] = (vmId, { address }): AgentGuest => {
    const disk = join(home, 'synthetic', vmId, 'disk')
    const state = join(disk, AGENT_STATE)
    return {
      ...{ address, state, stop, follow: followFile(state) },
      start: async (run, { words, environment, prompt, task }) => {
        const folder = join(state, run)
        const [program = 'false', ...rest] = words
        if (existsSync(folder)) return { how: 'already', boot }
        mkdirSync(folder, { recursive: true })
        writeFileSync(join(state, 'task.md'), task)
        const child = spawn(program, rest, {
          cwd: join(disk, environment.AGENT_SWARM_PROJECT?.replace(/^~\//, '') ?? '.'),
          env: {
            ...{ PATH: process.env.PATH, HOME: disk, GIT_CONFIG_SYSTEM: join(disk, 'etc/gitconfig') },
            ...environment,
          },
          stdio: ['pipe', openSync(join(folder, 'out.jsonl'), 'w'), openSync(join(folder, 'err'), 'w')],
          detached: true,
        })
        running.set(run, child)
        child.stdin?.end(prompt)
        const ended = (code: number | null) => {
          running.delete(run)
          writeFileSync(join(folder, 'exit'), `${code ?? 1}\n`)
        }
        child.on('exit', ended)
        // Without a clone there is no folder to start in.
        child.on('error', error => {
          writeFileSync(join(folder, 'err'), `${error.message}\n`)
          ended(126)
        })
        return { how: 'started', boot }
      },
      look: async run => {
        const [exit, output, errors] = ['exit', 'out.jsonl', 'err'].map(name => join(state, run, name))
        return {
          ...{ active: running.has(run), result: 'success', boot, folder: existsSync(join(state, run)) },
          exit: existsSync(`${exit}`) ? Number(readFileSync(`${exit}`, 'utf8')) : null,
          size: existsSync(`${output}`) ? statSync(`${output}`).size : 0,
          errors: existsSync(`${errors}`) ? readFileSync(`${errors}`, 'utf8').slice(-2_000) : '',
        }
      },
      stopAll: async () => {
        for (const run of running.keys()) await stop(run)
      },
    }
  }
  return { program: programs.command, guestOf }
}
