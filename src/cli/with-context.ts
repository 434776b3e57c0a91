/** The runner's context for one command. */
import type { OnCommand } from '../exec.ts'
import { openRunnerContext, type RunnerContext } from '../runner/context.ts'
import { type Invocation, printNote } from './terminal/output.ts'

/** A word as a POSIX shell reads it back. */
const shellWord = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)

/** A command line ready to paste. */
export const shellCommand = (program: string, argv: readonly string[]): string =>
  [program, ...argv].map(shellWord).join(' ')

const showCommand =
  (note: (text: string) => void): OnCommand =>
  ({ program, argv, milliseconds, exitCode, input }) => {
    const status = exitCode === 0 ? '' : `, exit ${exitCode ?? 'none'}`
    const withInput = input ? ', with input on stdin' : ''
    note(`+ ${shellCommand(program, argv)}  # ${Math.round(milliseconds)} ms${status}${withInput}`)
  }

/** Closes the context after `work`. `note` prints the lines of `--verbose`. */
export const withRunnerContext = async <T>(
  invocation: Invocation,
  work: (context: RunnerContext) => Promise<T>,
  note: (text: string) => void = text => printNote(text, invocation.terminal),
): Promise<T> => {
  const context = openRunnerContext(await invocation.config(), {
    interrupt: invocation.signal,
    ...(invocation.verbose ? { onCommand: showCommand(note) } : {}),
  })
  // Loaded by the commands that bring a project alone.
  context.projectAccess = async (machine, use) =>
    (await import('./project-access.ts')).openProjectAccess(context)(machine, use)
  try {
    return await work(context)
  } finally {
    context.close()
  }
}
