/** The world of one command: opened for it, closed after it, its outside commands shown when that was asked for. */
import type { OnCommand } from '../exec.ts'
import { openRunnerContext, type RunnerContext } from '../runner/context.ts'
import { type Invocation, printNote } from './terminal/output.ts'

/** A word as a POSIX shell reads it back. */
const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)

/** A command as one could paste it. */
export const shellCommand = (program: string, argv: readonly string[]): string =>
  [program, ...argv].map(quoted).join(' ')

/** The same with its time. */
const shown =
  (note: (text: string) => void): OnCommand =>
  ({ program, argv, milliseconds, exitCode, input }) =>
    note(
      `+ ${shellCommand(program, argv)}  # ${Math.round(milliseconds)} ms${
        exitCode === 0 ? '' : `, exit ${exitCode ?? 'none'}`
      }${input ? ', with something on its stdin' : ''}`,
    )

/** `note` takes the lines of `--verbose`. */
export const withRunnerContext = async <T>(
  invocation: Invocation,
  work: (world: RunnerContext) => Promise<T>,
  note: (text: string) => void = printNote,
): Promise<T> => {
  const world = openRunnerContext(await invocation.config(), {
    interrupt: invocation.signal,
    ...(invocation.verbose ? { onCommand: shown(note) } : {}),
  })
  try {
    return await work(world)
  } finally {
    world.close()
  }
}
