/** The CLI as its users run it: whole processes, from another folder, with a home of their own, in a pipe or on a terminal. */
import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { until } from './wait.ts'

const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
export type Ran = { stdout: string; stderr: string; code: number }
type Typed = { prompt: string; text: string }
type Options = { environment?: Record<string, string>; input?: string }

/** A word as sh reads it. */
const quoted = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`

export const openCli = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-cli-'))
  const environment = (more: Record<string, string> = {}) => ({
    PATH: process.env.PATH,
    HOME: home,
    AGENT_SWARM_HOME: join(home, 'state'),
    AGENT_SWARM_PROVIDER: 'synthetic',
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
    swarm,
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
    /** On a terminal of 100 columns and 40 rows (util-linux' script); both streams are one. Each text is typed when its prompt has come. */
    terminal: (
      words: string[],
      { environment: more = {}, type }: { environment?: Record<string, string>; type?: Typed | Typed[] } = {},
    ) =>
      new Promise<{ screen: string; code: number }>(done => {
        const command = `stty cols 100 rows 40; exec ${[process.execPath, entry, ...words].map(quoted).join(' ')}`
        const child = spawn('script', ['-qec', command, '/dev/null'], {
          cwd: tmpdir(),
          env: { ...environment(more), TERM: 'xterm-256color', SHELL: '/bin/sh' },
          stdio: ['pipe', 'pipe', 'ignore'],
        })
        let screen = ''
        const steps = [type ?? []].flat()
        /** What came before was answered. */
        let seen = 0
        child.stdout.on('data', chunk => {
          screen += chunk
          const [step] = steps
          if (step === undefined || !screen.slice(seen).includes(step.prompt)) return
          steps.shift()
          seen = screen.length
          child.stdin.write(step.text)
        })
        child.on('close', code => done({ screen: screen.replaceAll('\r\n', '\n'), code: code ?? 1 }))
      }),
    close: () => rmSync(home, { recursive: true, force: true }),
  }
}
