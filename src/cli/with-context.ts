/** The runner's context for one command. */
import { commandLine } from '../command-line.ts'
import { openRunnerContext, type RunnerContext } from '../runner/context.ts'
import { type Invocation, printNote } from './terminal/output.ts'

/** Closes the context after `work`. `note` prints the lines of `--verbose`. */
export const withRunnerContext = async <T>(
  invocation: Invocation,
  work: (context: RunnerContext) => Promise<T>,
  note: (text: string) => void = text => printNote(text, invocation.terminal),
): Promise<T> => {
  const context = openRunnerContext(await invocation.config(), {
    interrupt: invocation.signal,
    platform: invocation.terminal.platform,
    ...(invocation.verbose ? { onCommand: command => note(commandLine(command)) } : {}),
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
