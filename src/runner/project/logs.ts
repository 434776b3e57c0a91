/** The logs of setup and start in a machine. Outside text: nothing of it moves a cursor. */
import type { Target } from '../operation.ts'
import { answered, askGuest, type Guest, shown } from './guest.ts'

export const LOGS = ['setup', 'start'] as const
export type LogName = (typeof LOGS)[number]

/** Bytes of each that are read. */
const MAX_BYTES = 65_536
/** Characters of each in the answer to a person elsewhere. */
const MAX_LAST = 6_000
const LAST_LINES = 40

/** The end of each log that is there. */
export const readLogs = async (
  guest: Guest,
  path: string,
  names: readonly LogName[],
  signal: AbortSignal,
): Promise<{ name: LogName; text: string }[]> => {
  const variables = { path, names: names.join(' '), bytes: String(MAX_BYTES) }
  const answer = await askGuest(guest, 'logs.sh', { variables }, { signal })
  return names.flatMap(name => {
    const text = answered(answer, name)
    return text === null ? [] : [{ name, text: shown(text, MAX_BYTES) }]
  })
}

/** What follows the last `most` lines' begin. */
export const lastOf = (text: string, most: number): string => text.split('\n').slice(-most).join('\n')

/** The last lines of setup and start, each under its name. */
export const lastLines = async (target: Target): Promise<string> => {
  const project = target.context.registry.project(target.row.ticket)
  if (project === null) return 'This machine has no project, and so no logs.'
  const logs = await readLogs(target, project.path, LOGS, target.caller.signal)
  if (logs.length === 0) return 'There are no logs of setup and start yet.'
  return logs
    .map(({ name, text }) => `== ${name} ==\n${lastOf(text, LAST_LINES).slice(-MAX_LAST) || '(empty)'}`)
    .join('\n\n')
}
