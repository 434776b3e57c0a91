/** The CLI as its users run it: whole processes, from another folder, with a home of their own, in a pipe or on a terminal. */
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { openRegistry, type Registry } from '../../src/registry/registry.ts'
import { onTerminal, quoted, type Step } from './terminal.ts'
import { until } from './wait.ts'

const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
/** A home of its own has no compiled code yet, which takes longer than all the rest: it is kept for every home. */
export const compiled = {
  NODE_COMPILE_CACHE: resolve(import.meta.dirname, '../../node_modules/.cache/agent-swarm'),
}
export type Ran = { stdout: string; stderr: string; code: number }
type Options = { environment?: Record<string, string>; input?: string }

export const openCli = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-cli-'))
  const environment = (more: Record<string, string> = {}) => ({
    PATH: process.env.PATH,
    HOME: home,
    AGENT_SWARM_HOME: join(home, 'state'),
    AGENT_SWARM_PROVIDER: 'synthetic',
    ...compiled,
    ...more,
  })
  const run = (program: string, words: string[], { environment: more = {}, input = '' }: Options = {}): Promise<Ran> =>
    new Promise(done => {
      const child = execFile(program, words, { cwd: tmpdir(), env: environment(more) }, (error, stdout, stderr) =>
        done({ stdout, stderr, code: error === null ? 0 : ((error.code as unknown as number) ?? 1) }),
      )
      // It may end without reading.
      child.stdin?.on('error', () => {})
      child.stdin?.end(input)
    })
  const swarm = (words: string[], options?: Options) => run(process.execPath, [entry, ...words], options)
  return {
    home,
    run,
    swarm,
    /** Writes to the registry what another machine or an earlier time would have. */
    know: (work: (registry: Registry) => void) => {
      const registry = openRegistry(join(home, 'state', 'registry.db'))
      try {
        work(registry)
      } finally {
        registry.close()
      }
    },
    /** A line as a shell reads it, in which `swarm` is the program. */
    shell: (line: string) =>
      run('sh', ['-c', `swarm() { ${quoted(process.execPath)} ${quoted(entry)} "$@"; }\n${line}`]),
    json: async (words: string[]) => JSON.parse((await swarm(words)).stdout),
    /** Begun and not waited for: `heard` is what it wrote so far. */
    begin: (words: string[], more: Record<string, string> = {}) => {
      const child = spawn(process.execPath, [entry, ...words], {
        cwd: tmpdir(),
        env: environment(more),
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      const heard = { stdout: '', stderr: '' }
      child.stdout.on('data', chunk => (heard.stdout += chunk))
      child.stderr.on('data', chunk => (heard.stderr += chunk))
      const ended = new Promise<Ran>(done => child.on('close', code => done({ ...heard, code: code ?? 1 })))
      return {
        heard,
        ended,
        says: (text: string) => until(`it says "${text}"`, () => heard.stderr.includes(text)),
        kill: (signal: NodeJS.Signals) => child.kill(signal),
      }
    },
    terminal: (
      words: string[],
      { environment: more = {}, type = [] }: { environment?: Record<string, string>; type?: Step | Step[] } = {},
    ) => onTerminal([process.execPath, entry, ...words], environment(more), [type].flat()),
    close: () => rmSync(home, { recursive: true, force: true }),
  }
}
