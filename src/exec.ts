/** The one door to other programs. */
import { once } from 'node:events'
import { createWriteStream, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { fail } from './errors.ts'
import type { FailureKind } from './schema/failure.ts'

/** What a program's stderr means: the first pattern that matches gives kind and remedy, and plain words (`says`) in its place. One table for each program. */
export type Explain = readonly (readonly [pattern: RegExp, kind: FailureKind, remedy?: string, says?: string])[]

export type RunOptions = {
  /** Milliseconds until the whole process group is ended. Every command has one. */
  deadline?: number
  /** Given to the program's standard input. */
  input?: string
  signal?: AbortSignal
  explain?: Explain
  /** Added to the allow-listed environment. */
  env?: Record<string, string>
  /** Exit codes other than 0 that are an answer and no failure. */
  answers?: readonly number[]
  /** What a failure says was being done; by default the command line. */
  doing?: string
  /** Its output goes as it is into this new file (0600), and is not returned. Fails when there are more bytes than `limit`. */
  into?: { file: string; limit: number }
}
type Ran = { stdout: string; stderr: string; exitCode: number; milliseconds: number }
export type Run = (program: string, argv: readonly string[], options?: RunOptions) => Promise<Ran>

/** Called with each command that ended: for `--verbose`, and for what hypervisor time a bench subtracts. */
export type OnCommand = (command: {
  program: string
  argv: readonly string[]
  milliseconds: number
  exitCode: number | null
  /** Whether something was on its standard input. */
  input: boolean
}) => void

const DEADLINE = 60_000
/** Characters of stderr in a failure: its end says why. */
const MOST_SAID = 4_000
/** What outside programs may see of our environment: no credential is among it. */
const PASSED_ON = [
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'TMPDIR',
  'XDG_RUNTIME_DIR',
  // Where the libvirt of one user keeps what it knows.
  'XDG_CONFIG_HOME',
  'XDG_CACHE_HOME',
  'SystemRoot',
  'LIBVIRT_DEFAULT_URI',
  'TART_HOME',
]

/** Passes bytes on up to a number of them; `onMore` is called for each that is not passed on. */
const upTo = (limit: number, onMore: () => void) => {
  let seen = 0
  return {
    binary: true,
    transform: function* (chunk: unknown) {
      seen += (chunk as Uint8Array).length
      if (seen > limit) onMore()
      else yield chunk
    },
  } as const
}

const passedOn = (environment: Readonly<Record<string, string | undefined>>) =>
  Object.fromEntries(PASSED_ON.flatMap(name => (environment[name] === undefined ? [] : [[name, environment[name]]])))

/** As a shell tells it: 128 and the signal for one that a signal ended. */
const exitStatus = (ran: { exitCode?: number | undefined; signal?: NodeJS.Signals | undefined }): number =>
  ran.exitCode ?? (ran.signal === undefined ? 1 : 128 + constants.signals[ran.signal])

/** What a program said while it was `doing` something, as a failure. */
export const explained = (doing: string, said: string, explain: Explain) => {
  const [, kind, remedy, says] = explain.find(([pattern]) => pattern.test(said)) ?? [null, 'unknown' as const]
  return fail(kind, `${doing}: ${says ?? said}`, remedy ?? null)
}

/** Opens the door. `environment` is what config.ts read of the process's environment. */
export const openRun =
  (
    environment: Readonly<Record<string, string | undefined>>,
    { onCommand = () => {}, interrupt }: { onCommand?: OnCommand; interrupt?: AbortSignal } = {},
  ): Run =>
  async (program, argv, options = {}) => {
    const deadline = options.deadline ?? DEADLINE
    const began = performance.now()
    // What runs when the person presses Ctrl-C is ended; what undoes it afterwards is not.
    const tooMuch = new AbortController()
    const signals = [options.signal, interrupt?.aborted ? undefined : interrupt, tooMuch.signal].filter(
      signal => signal !== undefined,
    )
    // Loaded with the first command: it takes longer to import than Node takes to start.
    const { execa } = await import('execa')
    const { into } = options
    if (into !== undefined) writeFileSync(into.file, '', { mode: 0o600, flag: 'wx' })
    const ran = await execa(program, argv, {
      reject: false,
      extendEnv: false,
      env: { ...passedOn(environment), LC_ALL: 'C', ...options.env },
      // A grandchild that holds stdout would keep us waiting past the deadline.
      killDescendants: true,
      timeout: Math.ceil(deadline),
      forceKillAfterDelay: 2_000,
      maxBuffer: 16 * 1024 * 1024,
      ...(options.input === undefined ? { stdin: 'ignore' } : { input: options.input }),
      cancelSignal: AbortSignal.any(signals),
      ...(into === undefined
        ? {}
        : {
            stdout: [upTo(into.limit, () => tooMuch.abort()), { file: into.file }],
            buffer: { stdout: false },
          }),
    })
    const milliseconds = performance.now() - began
    onCommand({ program, argv, milliseconds, exitCode: ran.exitCode ?? null, input: options.input !== undefined })
    const doing = options.doing ?? [program, ...argv].join(' ').slice(0, 300)
    if (tooMuch.signal.aborted) throw fail('refused', `${doing}: it printed more than ${into?.limit} bytes`)
    if (ran.isCanceled) throw fail('cancelled', `${doing}: cancelled`)
    if (ran.timedOut) {
      throw fail('timeout', `${doing}: no answer within ${deadline / 1000} s`, `Is ${program} hanging? Try it by hand.`)
    }
    if (ran.code === 'ENOENT')
      throw fail('provider-missing', `${doing}: ${program} is not installed`, `Install ${program}.`)
    if (into !== undefined && ran.code === 'ENOSPC')
      throw fail('disk-full', `${doing}: the disk of ${into.file} is full`, 'Make room, and try it again.')
    // A program may end well while its output could not be written.
    const unwritten = into !== undefined && ran.failed && ran.exitCode === 0
    if (ran.exitCode === undefined || unwritten || (ran.exitCode !== 0 && !options.answers?.includes(ran.exitCode))) {
      const said = ran.stderr.trim().slice(-MOST_SAID) || ran.shortMessage || 'it ended without a word'
      throw explained(doing, said, options.explain ?? [])
    }
    return { stdout: ran.stdout ?? '', stderr: ran.stderr, exitCode: ran.exitCode, milliseconds }
  }

/** Starts a program that outlives us, its output in the file `output`. `ended` settles when it ends while we are still here. */
export type Detach = (
  program: string,
  argv: readonly string[],
  output: string,
) => Promise<{ pid: number; ended: Promise<number> }>

export const openDetach =
  (environment: Readonly<Record<string, string | undefined>>): Detach =>
  async (program, argv, output) => {
    const { execa } = await import('execa')
    const file = createWriteStream(output, { mode: 0o600 })
    await once(file, 'open')
    const child = execa(program, argv, {
      reject: false,
      extendEnv: false,
      env: environment,
      detached: true,
      cleanup: false,
      stdin: 'ignore',
      stdout: file,
      stderr: file,
    })
    child.nodeChildProcess.unref()
    if (child.pid === undefined) throw fail('unknown', `starting ${program}: ${(await child).shortMessage}`)
    return { pid: child.pid, ended: child.then(ran => ran.exitCode ?? 1) }
  }

/** Runs a program on our own terminal or pipes, without a deadline: a person's shell. Returns its exit code. */
export type Attach = (program: string, argv: readonly string[], env?: Record<string, string>) => Promise<number>

export const openAttach =
  (environment: Readonly<Record<string, string | undefined>>): Attach =>
  async (program, argv, env = {}) => {
    const { execa } = await import('execa')
    const ran = await execa(program, argv, {
      reject: false,
      extendEnv: false,
      env: { ...environment, ...env },
      stdio: 'inherit',
    })
    if (ran.code === 'ENOENT') throw fail('provider-missing', `${program} is not installed`, `Install ${program}.`)
    return exitStatus(ran)
  }

/**
 * Runs a program beside us until it ends, or until `signal` ends it, without a deadline. Each line of its stdout is handed
 * over as it comes, its stderr is ours. Returns its exit code.
 */
export type Watch = (
  program: string,
  argv: readonly string[],
  told: { signal: AbortSignal; onLine: (line: string) => void },
) => Promise<number>

export const openWatch =
  (environment: Readonly<Record<string, string | undefined>>): Watch =>
  async (program, argv, { signal, onLine }) => {
    const { execa } = await import('execa')
    const child = execa(program, argv, {
      reject: false,
      extendEnv: false,
      env: { ...passedOn(environment), LC_ALL: 'C' },
      stdin: 'ignore',
      stderr: 'inherit',
      buffer: false,
      cancelSignal: signal,
      forceKillAfterDelay: 2_000,
    })
    const lines = async () => {
      for await (const line of child) onLine(String(line))
    }
    // What broke the lines off is told by how the program ended.
    const [ran] = await Promise.all([child, lines().catch(() => {})])
    if (ran.code === 'ENOENT') throw fail('provider-missing', `${program} is not installed`, `Install ${program}.`)
    return exitStatus(ran)
  }
