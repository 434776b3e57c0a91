/** Each outside command in the log, with the correlation of the action that ran it. */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { OnCommand } from '../exec.ts'
import type { Log } from '../log.ts'

const current = new AsyncLocalStorage<Log>()

/** Commands that run within `work` are logged to `log`. */
export const withCommandLog = <T>(log: Log, work: () => T): T => current.run(log, work)

export const logCommands =
  (log: Log): OnCommand =>
  ({ program, argv, milliseconds, exitCode }) =>
    (current.getStore() ?? log).debug(
      { program, argv: argv.join(' ').slice(0, 500), milliseconds: Math.round(milliseconds), exitCode },
      'command',
    )
