/** The CLI as its users run it: whole processes, from another folder, in a pipe or on a real terminal. */
import { execFile, spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { onTerminal, quoted, type Step } from './terminal.ts'
import { until } from './wait.ts'

export const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
/** A new home has no compiled code yet, and compiling takes longer than all the rest: tests share this cache. */
export const compiled = {
  NODE_COMPILE_CACHE: resolve(import.meta.dirname, '../../node_modules/.cache/agent-swarm'),
}
export type Ran = { stdout: string; stderr: string; code: number }
type Environment = Record<string, string | undefined>

export const openProcesses = (environment: (more?: Environment) => Environment) => {
  const run = (
    program: string,
    words: string[],
    { environment: more = {}, input = '' }: { environment?: Environment; input?: string } = {},
  ): Promise<Ran> =>
    new Promise(done => {
      const child = execFile(program, words, { cwd: tmpdir(), env: environment(more) }, (error, stdout, stderr) =>
        done({ stdout, stderr, code: error === null ? 0 : ((error.code as unknown as number) ?? 1) }),
      )
      // The program may end without reading.
      child.stdin?.on('error', () => {})
      child.stdin?.end(input)
    })
  return {
    run,
    swarm: (words: string[], options?: { environment?: Environment; input?: string }) =>
      run(process.execPath, [entry, ...words], options),
    /** Runs a line in sh, in which `swarm` is the program. */
    shell: (line: string) =>
      run('sh', ['-c', `swarm() { ${quoted(process.execPath)} ${quoted(entry)} "$@"; }\n${line}`]),
    /** Starts the program, and does not wait for its end. */
    begin: (words: string[], more: Environment = {}) => {
      const child = spawn(process.execPath, [entry, ...words], {
        cwd: tmpdir(),
        env: environment(more),
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      const output = { stdout: '', stderr: '' }
      child.stdout.on('data', chunk => (output.stdout += chunk))
      child.stderr.on('data', chunk => (output.stderr += chunk))
      const ended = new Promise<Ran>(done => child.on('close', code => done({ ...output, code: code ?? 1 })))
      return {
        output,
        ended,
        says: (text: string) => until(`"${text}"`, () => output.stderr.includes(text)),
        kill: (signal: NodeJS.Signals) => child.kill(signal),
      }
    },
    terminal: (
      words: string[],
      { environment: more = {}, type = [] }: { environment?: Environment; type?: Step | Step[] } = {},
    ) => onTerminal([process.execPath, entry, ...words], environment(more), [type].flat()),
  }
}
