/** The world of one command: opened for it, closed after it, its outside commands shown when that was asked for. */
import type { OnCommand } from '../exec.ts'
import { openWorld, type World } from '../runner/world.ts'
import { type Invocation, tell } from './command.ts'

/** A word as a POSIX shell reads it back. */
const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)

/** A command as one could paste it. */
export const pasteable = (program: string, argv: readonly string[]): string => [program, ...argv].map(quoted).join(' ')

/** The same with its time. */
const shown =
  (note: (text: string) => void): OnCommand =>
  ({ program, argv, milliseconds, exitCode, input }) =>
    note(
      `+ ${pasteable(program, argv)}  # ${Math.round(milliseconds)} ms${
        exitCode === 0 ? '' : `, exit ${exitCode ?? 'none'}`
      }${input ? ', with something on its stdin' : ''}`,
    )

/** `note` takes the lines of `--verbose`. */
export const withWorld = async <T>(
  invocation: Invocation,
  work: (world: World) => Promise<T>,
  note: (text: string) => void = tell,
): Promise<T> => {
  const world = openWorld(await invocation.config(), {
    interrupt: invocation.signal,
    ...(invocation.verbose ? { onCommand: shown(note) } : {}),
  })
  try {
    return await work(world)
  } finally {
    world.close()
  }
}
