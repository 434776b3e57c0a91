/** The one door to other programs. */
import { once } from 'node:events'
import { createWriteStream, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import type { Duplex, Readable, Writable } from 'node:stream'
import type { Options, Result } from 'execa'
import { type Explain, explainBy, fail } from './errors.ts'
import { beginCommand } from './running-commands.ts'
import { newMark, settled } from './settle.ts'
import { programFile, variableIn, WINDOWS_VARIABLES } from './windows.ts'

export type RunOptions = {
  /** Milliseconds until the whole process group is ended; 60,000 by default. */
  deadline?: number
  /** Written to the program's standard input. */
  input?: string
  /** Instead of `input`: texts that are written to it as they come. */
  inputs?: AsyncIterable<string>
  signal?: AbortSignal | undefined
  /** What its standard error means. */
  explain?: Explain
  /** Added to the environment variables that programs may see. */
  env?: Record<string, string>
  /** Exit codes besides 0 that are an answer, not a failure. */
  answers?: readonly number[]
  /** What was being done, for failures; by default the command line. */
  doing?: string
  /** Standard output goes unchanged into this new file (0600) and is not returned. More than `limit` bytes is a failure. */
  into?: { file: string; limit: number }
  /** Characters of standard output, and of standard error, that are read; more is a failure. 16 Mi by default. */
  maxOutput?: number
  /** Called with each line of standard output as the program prints it, without its end and cut after 1,000 characters. */
  onLine?: (line: string) => void
  /** What each process of the program may take, for a program that reads what a guest sent. Not on Windows. */
  limits?: { memoryBytes: number; cpuSeconds: number; fileBytes: number }
}
type Ran = { stdout: string; stderr: string; exitCode: number; milliseconds: number }
export type Run = (program: string, argv: readonly string[], options?: RunOptions) => Promise<Ran>

/** Called after each command: for `--verbose`, and for benchmarks that subtract the hypervisor's time. */
export type OnCommand = (command: {
  program: string
  argv: readonly string[]
  milliseconds: number
  exitCode: number | null
  /** Whether it had standard input. */
  input: boolean
}) => void

type Environment = Readonly<Record<string, string | undefined>>

const DEFAULT_DEADLINE_MS = 60_000
/** Milliseconds between SIGTERM and SIGKILL. */
const FORCE_KILL_AFTER_MS = 2_000
const MAX_OUTPUT = 16 * 1024 * 1024
/** Characters of standard error in a failure: the reason is at its end. */
const MAX_MESSAGE = 4_000
/** The variables that every program may see; none holds a credential. A provider's programs see those of its description besides. */
const PASSED_ON = ['PATH', 'HOME', 'USER', 'LOGNAME', 'TMPDIR', 'SystemRoot']

/** What a program on a person's terminal sees besides: how to draw, and the person's language. */
const ON_TERMINAL = [
  ...['TERM', 'COLORTERM', 'NO_COLOR', 'LANG', 'LANGUAGE', 'LC_ALL', 'LC_CTYPE', 'LC_MESSAGES', 'LC_TIME'],
  ...['LC_COLLATE', 'LC_NUMERIC', 'TZ', 'SHELL', 'EDITOR', 'VISUAL', 'PAGER'],
]

/**
 * Sets limits that the program and all that it starts inherit, and becomes the program: POSIX has no other way to begin under
 * limits. Memory is what a process allocates (RLIMIT_DATA); files that it maps are the kernel's to drop. A stricter limit stays.
 */
const WITH_LIMITS = `limit() { ulimit "$1" "$2" 2>/dev/null || [ "$(ulimit "$1")" != unlimited ] || { echo "cannot limit the program" >&2; exit 126; }; }
limit -c 0; limit -d "$1"; limit -t "$2"; limit -f "$3"; shift 3; exec "$@"`

/** The command line that starts the program under its limits. The shell's text is constant; the rest are its arguments. */
const limited = (
  program: string,
  argv: readonly string[],
  limits: RunOptions['limits'],
): [program: string, argv: readonly string[]] => {
  if (limits === undefined || process.platform === 'win32') return [program, argv]
  const { memoryBytes, cpuSeconds, fileBytes } = limits
  // In KiB, seconds, and blocks of 512 bytes.
  const values = [memoryBytes / 1024, cpuSeconds, fileBytes / 512].map(value => String(Math.ceil(value)))
  return ['/bin/sh', ['-c', WITH_LIMITS, 'sh', ...values, program, ...argv]]
}

/** Passes bytes on until there are more than `limit`, then calls `onExcess`. */
const limitBytes = (limit: number, onExcess: () => void) => {
  let bytes = 0
  return {
    binary: true,
    transform: function* (chunk: unknown) {
      bytes += (chunk as Uint8Array).length
      if (bytes > limit) onExcess()
      else yield chunk
    },
  } as const
}

const MAX_LINE = 1_000

/** Passes bytes on, and calls `onLine` with each line of them. Keeps no more of a line than it shows. */
const showLines = (onLine: (line: string) => void, most = MAX_LINE) => {
  const decoder = new TextDecoder()
  let line = ''
  const take = (text: string) => {
    const [first = '', ...more] = text.split('\n')
    line = (line + first).slice(0, most)
    for (const next of more) {
      onLine(line)
      line = next.slice(0, most)
    }
  }
  return {
    binary: true,
    transform: function* (chunk: unknown) {
      take(decoder.decode(chunk as Uint8Array, { stream: true }))
      yield chunk
    },
    final: function* () {
      take(decoder.decode())
      if (line !== '') onLine(line)
      yield* []
    },
  } as const
}

/** The general variables and these. On Windows, a program is not looked for in the current folder, which may be anybody's. */
export const pick = (
  environment: Environment,
  names: readonly string[],
  platform: NodeJS.Platform = process.platform,
): Record<string, string> =>
  Object.fromEntries([
    ...(platform === 'win32' ? [['NoDefaultCurrentDirectoryInExePath', '1']] : []),
    ...[...PASSED_ON, ...(platform === 'win32' ? WINDOWS_VARIABLES : []), ...names].flatMap(name => {
      const value = variableIn(environment, name, platform)
      return value === undefined ? [] : [[name, value]]
    }),
  ])

/** The C locale: the tables of what a tool's messages mean are in English. */
const visibleEnvironment = (environment: Environment, names: readonly string[]): Record<string, string> => ({
  ...pick(environment, names),
  LC_ALL: 'C',
})

/** A shell's exit status: 128 plus the signal's number for a program that a signal ended. */
const exitStatus = (ran: { exitCode?: number | undefined; signal?: NodeJS.Signals | undefined }): number =>
  ran.exitCode ?? (ran.signal === undefined ? 1 : 128 + constants.signals[ran.signal])

const notInstalled = (program: string, doing?: string) =>
  fail(
    'provider-missing',
    `${doing === undefined ? '' : `${doing}: `}${program} is not installed`,
    process.platform === 'win32' && program.startsWith('ssh')
      ? 'Install the optional feature "OpenSSH Client" of Windows.'
      : `Install ${program}.`,
  )

/** The program as it is started here. */
const fileOf = (program: string, environment: Environment): string =>
  programFile(program, environment, process.platform)

const cannotBeEnded = (program: string, doing: string) =>
  fail(
    'timeout',
    `${doing}: ${program} hangs, and SIGKILL does not end it`,
    'It may wait for a disk or a mount that does not answer: check these (dmesg, mount).',
  )

/** Loaded with the first command: importing it takes longer than Node's own start. */
const loadExeca = async () => (await import('execa')).execa

const explainNothing = explainBy([])

/** Throws unless the program ended well. */
const check = (program: string, doing: string, options: RunOptions, ran: Result, isTooLong: boolean): void => {
  const {
    into,
    deadline = DEFAULT_DEADLINE_MS,
    answers = [],
    explain = explainNothing,
    maxOutput = MAX_OUTPUT,
  } = options
  if (isTooLong) throw fail('refused', `${doing}: it printed more than ${into?.limit} bytes`)
  if (ran.isMaxBuffer) throw fail('refused', `${doing}: it printed more than ${maxOutput} characters`)
  if (ran.isCanceled) throw fail('cancelled', `${doing}: cancelled`)
  if (ran.timedOut)
    throw fail('timeout', `${doing}: no answer within ${deadline / 1000} s`, `Check whether ${program} hangs.`)
  // With limits it is the shell that does not find it.
  if (ran.code === 'ENOENT' || (options.limits !== undefined && ran.exitCode === 127))
    throw notInstalled(program, doing)
  if (into !== undefined && ran.code === 'ENOSPC')
    throw fail('disk-full', `${doing}: the disk of ${into.file} is full`, 'Free disk space and try again.')
  // A program may end well although its output could not be written.
  const isUnwritten = into !== undefined && ran.failed && ran.exitCode === 0
  if (ran.exitCode !== undefined && !isUnwritten && [0, ...answers].includes(ran.exitCode)) return
  const message = String(ran.stderr ?? '')
    .trim()
    .slice(-MAX_MESSAGE)
  throw explain(doing, message || ran.shortMessage || 'it ended without a message')
}

/**
 * Opens the door. `environment` is the process's, as the configuration read it; `passOn` names the variables that programs
 * may see besides the general ones; `interrupt` is the person's Ctrl-C.
 */
export const openRun =
  (
    environment: Environment,
    {
      onCommand = () => {},
      interrupt,
      passOn = [],
    }: { onCommand?: OnCommand; interrupt?: AbortSignal; passOn?: readonly string[] } = {},
  ): Run =>
  async (program, argv, options = {}) => {
    const { into, input, signal, deadline = DEFAULT_DEADLINE_MS, maxOutput = MAX_OUTPUT, onLine } = options
    const tooLong = new AbortController()
    // Ctrl-C ends the commands that run now, not those that undo them afterwards.
    const signals = [signal, interrupt?.aborted ? undefined : interrupt, tooLong.signal].filter(
      each => each !== undefined,
    )
    const mark = newMark()
    const execaOptions = {
      reject: false,
      extendEnv: false,
      env: { ...visibleEnvironment(environment, passOn), ...options.env, ...mark },
      killDescendants: true,
      timeout: Math.ceil(deadline),
      forceKillAfterDelay: FORCE_KILL_AFTER_MS,
      maxBuffer: maxOutput,
      ...(input === undefined ? { stdin: options.inputs ?? 'ignore' } : { input }),
      cancelSignal: AbortSignal.any(signals),
      ...(into === undefined
        ? onLine === undefined
          ? {}
          : { stdout: showLines(onLine) }
        : { stdout: [limitBytes(into.limit, () => tooLong.abort()), { file: into.file }], buffer: { stdout: false } }),
    } satisfies Options
    const execa = await loadExeca()
    if (into !== undefined) writeFileSync(into.file, '', { mode: 0o600, flag: 'wx' })
    const start = performance.now()
    const late = AbortSignal.timeout(Math.ceil(deadline))
    const child = execa(...limited(fileOf(program, environment), argv, options.limits), execaOptions)
    const ending = AbortSignal.any([late, ...signals])
    // The disk may be slow.
    const end = beginCommand(program, argv, deadline)
    const terms = { mark, ending, graceMs: FORCE_KILL_AFTER_MS, isSlow: into !== undefined }
    const ran = await settled(child, terms).finally(end)
    const milliseconds = performance.now() - start
    onCommand({ program, argv, milliseconds, exitCode: ran?.exitCode ?? null, input: input !== undefined })
    const doing = options.doing ?? [program, ...argv].join(' ').slice(0, 300)
    if (ran === null) throw cannotBeEnded(program, doing)
    // It ended, and what it left behind went on writing into the file.
    const timedOut = ran.timedOut || (into !== undefined && late.aborted)
    check(program, doing, options, { ...ran, timedOut }, tooLong.signal.aborted)
    return { stdout: String(ran.stdout ?? ''), stderr: ran.stderr, exitCode: ran.exitCode ?? 1, milliseconds }
  }

/**
 * Starts a program that outlives this process, with its output in the file `output`. It sees the general variables and those of
 * `passOn`. `ended` gives its exit code if it ends before us.
 */
export const detachProgram = async (
  environment: Environment,
  program: string,
  argv: readonly string[],
  { output, passOn }: { output: string; passOn: readonly string[] },
): Promise<{ pid: number; ended: Promise<number> }> => {
  const execa = await loadExeca()
  const file = createWriteStream(output, { mode: 0o600 })
  await once(file, 'open')
  const child = execa(fileOf(program, environment), argv, {
    ...{ reject: false, extendEnv: false, env: pick(environment, passOn) },
    ...{ detached: true, cleanup: false },
    ...{ stdin: 'ignore', stdout: file, stderr: file },
  })
  child.nodeChildProcess.unref()
  if (child.pid === undefined) throw fail('unknown', `starting ${program}: ${(await child).shortMessage}`)
  return { pid: child.pid, ended: child.then(ran => ran.exitCode ?? 1) }
}

/**
 * Runs a program on our own terminal or pipes, without a deadline: a person's shell. It sees the general variables, those of a
 * terminal, and `more`. Returns its exit code.
 */
export const attachProgram = async (
  environment: Environment,
  program: string,
  argv: readonly string[],
  more: Readonly<Record<string, string>> = {},
): Promise<number> => {
  const execa = await loadExeca()
  const env = { ...pick(environment, ON_TERMINAL), ...more }
  const ran = await execa(fileOf(program, environment), argv, {
    ...{ reject: false, extendEnv: false, env, stdio: 'inherit' },
  })
  if (ran.code === 'ENOENT') throw notInstalled(program)
  return exitStatus(ran)
}

/** Characters of a line of a program that is watched. */
const MAX_WATCHED = 10_000

/**
 * Runs a program until it ends or `signal` ends it, without a deadline. Calls `onLine` with each line of its standard output, and
 * `onError` with each of its standard error, both cut: a machine may have written either. Returns its exit code.
 */
export const watchProgram = async (
  environment: Environment,
  program: string,
  argv: readonly string[],
  { signal, onLine, onError }: { signal: AbortSignal; onLine: (line: string) => void; onError: (line: string) => void },
): Promise<number> => {
  const execa = await loadExeca()
  const mark = newMark()
  const child = execa(fileOf(program, environment), argv, {
    ...{ reject: false, extendEnv: false, env: { ...visibleEnvironment(environment, []), ...mark } },
    ...{ stdin: 'ignore', buffer: false },
    ...{ stdout: showLines(onLine, MAX_WATCHED), stderr: showLines(onError, MAX_WATCHED) },
    ...{ cancelSignal: signal, forceKillAfterDelay: FORCE_KILL_AFTER_MS },
  })
  child.stdout.resume()
  child.stderr.resume()
  const ran = await settled(child, { mark, ending: signal, graceMs: FORCE_KILL_AFTER_MS })
  if (ran === null) throw cannotBeEnded(program, program)
  if (ran.code === 'ENOENT') throw notInstalled(program)
  return exitStatus(ran)
}

export type StreamedProgram = {
  stdin: Writable
  stdout: Readable
  /** The program's descriptor 3, both ways: what it asks us, and our answers. All that it starts has it too. */
  channel: Duplex
  /** `stderr` is cut. `isEnded`: we ended it, or its deadline did. Does not throw. */
  ended: Promise<{ exitCode: number; stderr: string; isEnded: boolean }>
}

/**
 * Starts a program with streams. It sees the general variables and `env`. The deadline (0: none), the limits and `signal` hold for
 * all that it starts; it ends with this process. Whoever calls this reads `stdout` to its end.
 */
export const streamProgram = async (
  environment: Environment,
  program: string,
  argv: readonly string[],
  {
    env = {},
    deadline,
    limits,
    signal,
  }: Required<Pick<RunOptions, 'deadline' | 'limits'>> & Pick<RunOptions, 'env'> & { signal: AbortSignal },
): Promise<StreamedProgram> => {
  const execa = await loadExeca()
  const mark = newMark()
  const child = execa(...limited(fileOf(program, environment), argv, limits), {
    ...{ reject: false, extendEnv: false, env: { ...visibleEnvironment(environment, []), ...env, ...mark } },
    ...{ stdio: ['pipe', 'pipe', 'pipe', 'pipe'], encoding: 'buffer', buffer: false },
    ...{ killDescendants: true, timeout: deadline, forceKillAfterDelay: FORCE_KILL_AFTER_MS, cancelSignal: signal },
  })
  const { stdin, stdout, stderr, stdio } = child.nodeChildProcess
  if (stdin === null || stdout === null || stderr === null) throw notInstalled(program)
  let message = ''
  stderr.on('data', chunk => {
    message = `${message}${chunk}`.slice(-MAX_MESSAGE)
  })
  const ending = deadline === 0 ? signal : AbortSignal.any([AbortSignal.timeout(deadline), signal])
  const ended = settled(child, { mark, ending, graceMs: FORCE_KILL_AFTER_MS, isSlow: true }).then(ran => ({
    ...{ exitCode: ran === null ? 1 : exitStatus(ran), stderr: message.trim() },
    isEnded: ran === null || ran.isCanceled || ran.timedOut,
  }))
  return { stdin, stdout, channel: stdio[3] as Duplex, ended }
}

/** Whether a process with this id runs, ours or another user's. */
export const isProcessAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
