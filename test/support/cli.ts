/**
 * The CLI with a home of its own. `swarm` and `terminal` call its `main` in this process, with a pipe or a terminal in memory;
 * `processes` starts whole processes, for what only those show.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { main } from '../../src/cli/main.ts'
import type { Terminal } from '../../src/cli/terminal/output.ts'
import { readConfig } from '../../src/config/config.ts'
import { openRegistry, type Registry } from '../../src/registry/registry.ts'
import { openRunnerContext, requireEnvironment } from '../../src/runner/context.ts'
import { compiled, openProcesses, type Ran } from './cli-processes.ts'
import { CTRL_C, CTRL_D, type Step } from './terminal.ts'
import { until } from './wait.ts'

export { compiled }

type Environment = Record<string, string | undefined>
type Size = { columns: number; rows: number }

/** A pipe, or with `size` a terminal of 256 colors. `screen` is all output, in order. */
const openTestTerminal = (env: Environment, size: Size | null, steps: readonly Step[], platform = process.platform) => {
  const output = { stdout: '', stderr: '', screen: '' }
  const listeners = new Set<() => void>()
  const stdin = Object.assign(new PassThrough(), { isTTY: size !== null }) as unknown as Terminal['stdin'] & PassThrough
  const left = [...steps]
  let read = 0
  const interrupt = () => {
    for (const listener of [...listeners]) listener()
  }
  const type = (text: string) => {
    if (text === CTRL_C) interrupt()
    else if (text === CTRL_D) stdin.end()
    else stdin.write(text)
  }
  const takeSteps = () => {
    for (let [step] = left; step !== undefined && output.screen.includes(step.prompt, read); [step] = left) {
      read = output.screen.indexOf(step.prompt, read) + step.prompt.length
      left.shift()
      step.does?.()
      if (step.text !== undefined) type(step.text)
    }
  }
  const stream = (name: 'stdout' | 'stderr') => ({
    ...(size === null ? {} : { isTTY: true, ...size }),
    write: (text: string) => {
      output[name] += text
      output.screen += text
      takeSteps()
    },
  })
  const terminal: Terminal = {
    ...{ stdin, stdout: stream('stdout'), stderr: stream('stderr'), env, platform },
    on: (_, listener) => listeners.add(listener),
    off: (_, listener) => listeners.delete(listener),
  }
  return { terminal, output, interrupt }
}

export const openCli = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-cli-'))
  const environment = (more: Environment = {}): Environment => ({
    PATH: process.env.PATH,
    HOME: home,
    AGENT_SWARM_HOME: join(home, 'state'),
    AGENT_SWARM_PROVIDER: 'synthetic',
    ...compiled,
    ...more,
  })
  /** Starts a command in a pipe, and does not wait for its end. */
  const begin = (words: string[], more: Environment = {}, steps: readonly Step[] = [], platform = process.platform) => {
    const { terminal, output, interrupt } = openTestTerminal(environment(more), null, steps, platform)
    const ended = main(words, terminal).then((code): Ran => ({ code, stdout: output.stdout, stderr: output.stderr }))
    return {
      output,
      interrupt,
      ended,
      says: (text: string) => until(`"${text}"`, () => output.screen.includes(text)),
    }
  }
  const swarm = (words: string[], more: Environment = {}): Promise<Ran> => begin(words, more).ended
  return {
    home,
    environment,
    begin,
    swarm,
    /** A command on a host with another system. */
    swarmOn: (platform: NodeJS.Platform, words: string[], more: Environment = {}): Promise<Ran> =>
      begin(words, more, [], platform).ended,
    json: async (words: string[], more: Environment = {}) => {
      const { stdout } = await swarm([...words, '--json'], more)
      return JSON.parse(stdout)
    },
    /** Runs a command on a terminal. Each step waits for its prompt. */
    terminal: async (
      words: string[],
      {
        environment: more = {},
        type = [],
        columns = 100,
      }: { environment?: Environment; type?: Step | Step[]; columns?: number } = {},
    ): Promise<{ screen: string; code: number }> => {
      const env = environment({ TERM: 'xterm-256color', LC_ALL: 'C.UTF-8', ...more })
      const { terminal, output } = openTestTerminal(env, { columns, rows: 40 }, [type].flat())
      const code = await main(words, terminal)
      return { code, screen: output.screen }
    },
    /** Runs a script in the ticket's machine, and returns its stdout. */
    inside: async (ticket: string, script: string): Promise<string> => {
      const context = openRunnerContext(await readConfig({}, environment()))
      try {
        const { provider, vmId } = requireEnvironment(context, ticket)
        const result = await (await context.provider(provider)).runInGuest?.(vmId, script)
        return result?.stdout ?? ''
      } finally {
        context.close()
      }
    },
    /** Writes to the registry what another process or an earlier time would have written. */
    know: (work: (registry: Registry) => void) => {
      const registry = openRegistry(join(home, 'state', 'registry.db'))
      try {
        work(registry)
      } finally {
        registry.close()
      }
    },
    processes: openProcesses(environment),
    close: () => rmSync(home, { recursive: true, force: true }),
  }
}
