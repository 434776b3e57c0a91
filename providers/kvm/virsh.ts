/** Runs virsh: one command or several in a process. */
import { allow, fail } from '../../src/errors.ts'
import type { Run, RunOptions } from '../../src/exec.ts'
import { explainVirsh, isDisconnected } from './explain.ts'
import type { KvmSettings } from './settings.ts'
import { thisSystem } from './systems.ts'
import { openTalk, type Talk } from './talk.ts'

export type Command = readonly string[]
export type Answer = { stdout: string; stderr: string }

export type Virsh = ReturnType<typeof openVirsh>

const DEFAULT_DEADLINE_MS = 60_000
/** Commands in one process: virsh takes them as one argument, which may have 128 KiB. The longest sets a mark, 300 bytes. */
const BATCH = 400

export const inBatches = <T>(all: readonly T[]): T[][] =>
  Array.from({ length: Math.ceil(all.length / BATCH) }, (_, n) => all.slice(n * BATCH, (n + 1) * BATCH))

const NO_HISTORY = { VIRSH_HISTSIZE: '0' }

/** virsh splits a line of commands as a shell does. */
const quote = (word: string) => (/^[A-Za-z0-9_./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)
const lineOf = (command: Command) => command.map(quote).join(' ')
/** Commands as a person would type them. */
const typed = (commands: readonly Command[]) =>
  `virsh ${commands.map(command => command.join(' ')).join('; ')}`.slice(0, 300)

export const openVirsh = (run: Run, settings: Pick<KvmSettings, 'kvmUri'>) => {
  const explain = explainVirsh(settings)
  const failed = (doing: string, stderr: string) => explain(doing, stderr.trim().replaceAll(/^error: /gm, ''))
  /** Exit code 1 only says that something failed; `failed` says what. */
  const call = async (argv: Command, options: RunOptions) => {
    try {
      return await run('virsh', ['--connect', settings.kvmUri, '--quiet', ...argv], {
        deadline: DEFAULT_DEADLINE_MS,
        doing: 'connecting to libvirt',
        ...options,
        answers: [1],
      })
    } catch (error) {
      allow('provider-missing')(error)
      throw fail('provider-missing', 'virsh, the client of libvirt, is not installed', thisSystem().install)
    }
  }
  const callAll = (commands: readonly Command[], options: RunOptions) =>
    call([commands.map(lineOf).join('; ')], options)
  return {
    /** What virsh printed on stderr, as a failure. */
    failed,
    /** Runs one command. Returns its output. */
    run: async (command: Command, options: RunOptions = {}): Promise<string> => {
      const { stdout, stderr, exitCode } = await call(command, options)
      if (exitCode !== 0) throw failed(options.doing ?? typed([command]), stderr)
      return stdout
    },
    /**
     * Runs one command that holds a secret: virsh reads it where no other user of the host sees it, and keeps no history of it.
     * The output has the command in front.
     */
    secretly: async (command: Command, options: RunOptions & { doing: string }): Promise<string> => {
      const input = `${command.map(quote).join(' ')}\n`
      const { stdout, stderr } = await call([], { ...options, input, env: NO_HISTORY })
      if (stderr !== '') throw failed(options.doing, stderr)
      return stdout
    },
    /**
     * Runs several commands in one process, because starting a process costs more than most commands. A command that fails
     * prints nothing to `stdout`, its reason to `stderr`, and does not keep the next from running. Fails only without libvirt.
     */
    ask: async (commands: readonly Command[], options: RunOptions = {}): Promise<Answer> => {
      if (commands.length === 0) return { stdout: '', stderr: '' }
      const { stdout, stderr } = await callAll(commands, options)
      if (isDisconnected(stderr)) throw failed('connecting to libvirt', stderr)
      return { stdout, stderr }
    },
    /**
     * Lets `use` talk to one virsh, which is connected before the first command and takes each within milliseconds. It prints its
     * prompt and what it is told as well. Ends when `use` has ended, or by `signal`.
     */
    talk: async <T>(use: (talk: Talk) => Promise<T>, options: RunOptions & { deadline: number }): Promise<T> => {
      const { end, inputs, onLine, ...talk } = openTalk(lineOf)
      // It keeps no file of its commands.
      const ran = call([], { ...options, inputs, onLine, env: NO_HISTORY }).finally(end)
      ran.catch(() => {})
      try {
        return await use(talk)
      } finally {
        end()
        await ran.catch(() => {})
      }
    },
    /** Runs all commands in one process, and fails when any of them failed. Returns their output. */
    all: async (commands: readonly Command[], options: RunOptions = {}): Promise<string> => {
      const { stdout, stderr } = await callAll(commands, options)
      if (/^error: /m.test(stderr)) throw failed(options.doing ?? typed(commands), stderr)
      return stdout
    },
  }
}
