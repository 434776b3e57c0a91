/** What a command of the CLI is given, and how it speaks. */
import type { Config } from '../../config/config.ts'
import { isTicket, parseCheckpointName, type Ticket } from '../../domain.ts'
import { fail } from '../../errors.ts'
import type { Requester } from '../../schema/action.ts'
import type { Environment, EnvironmentStatus } from '../../schema/environment.ts'
import type { Failure } from '../../schema/failure.ts'
import type { Output, outputs } from '../json.ts'

// An import of node:util reads every member, and so loads all that they stand for.
const { styleText } = process.getBuiltinModule('node:util')

export type Invocation = {
  words: string[]
  flags: Record<string, string | boolean | undefined>
  /** File, environment and the flags that set something. */
  config(): Promise<Config>
  /** Ends when the person presses Ctrl-C, or the system asks us to end. */
  signal: AbortSignal
  json: boolean
  /** Nothing but data and errors. */
  quiet: boolean
  /** Each outside command is shown. */
  verbose: boolean
}
/** Returns the exit code. */
export type RunCommand = (invocation: Invocation) => Promise<number>

export const print = (text: string) => void process.stdout.write(`${text}\n`)
/** What it prints is named as a type, `printJson<'list'>(rows)`, and is of the form that is documented for that command. */
export const printJson = <Name extends keyof typeof outputs = never>(value: NoInfer<Output<Name>>) =>
  print(JSON.stringify(value, null, 2))
/** Outside text that moves no cursor, sets no colour and hides nothing. */
export const stripControls = (text: string) => text.replaceAll(/[\p{Cc}\p{Cf}]/gu, '?')
export const printNote = (text: string) => void process.stderr.write(`${text}\n`)
/** An error as a person reads it: which command, what went wrong, what to do. */
export const printFailure = (command: string, { message, remedy }: Failure) =>
  printNote(
    `${styleText('red', `agent-swarm ${command}:`, { stream: process.stderr })} ${message}${remedy === null ? '' : `\n${remedy}`}`,
  )

export const ticketArgument = (text: string | undefined): Ticket => {
  const ticket = (text ?? '').toUpperCase()
  if (!isTicket(ticket)) throw fail('usage', `"${text ?? ''}" is no ticket`, 'A ticket is a Jira key, as DROP-2100.')
  return ticket
}

export const checkpointArgument = (text: string): string => {
  const name = parseCheckpointName(text)
  if (name === null)
    throw fail(
      'usage',
      `"${text}" is no checkpoint name`,
      'Letters, digits and hyphens, at most 41, beginning with a letter or a digit.',
    )
  return name
}

type Style = Parameters<typeof styleText>[0]
/** Text, and how it looks on a terminal. */
type Cell = string | readonly [text: string, style: Style]
const textOf = (cell: Cell) => (typeof cell === 'string' ? cell : cell[0])

/** Each style is asked for once: a thousand questions take as long as Node takes to start. */
const painter = () => {
  const known = new Map<Style, string[]>()
  return (text: string, style: Style): string => {
    const [before = '', after = ''] =
      known.get(style) ?? styleText(style, PLACE, { stream: process.stdout }).split(PLACE)
    known.set(style, [before, after])
    return `${before}${text}${after}`
  }
}
const PLACE = '\0'

/** Columns of text as wide as they need to be. A table library takes 160 ms for 1,000 rows: longer than all the rest. */
export const columns = (rows: readonly (readonly Cell[])[]): string => {
  const widths: number[] = []
  for (const row of rows)
    row.forEach((cell, at) => {
      const { length } = textOf(cell)
      if (length > (widths[at] ?? 0)) widths[at] = length
    })
  const paint = painter()
  const shown = (row: readonly Cell[]) => {
    let line = ''
    row.forEach((cell, at) => {
      const last = at === row.length - 1
      const padded = last ? textOf(cell) : textOf(cell).padEnd(widths[at] ?? 0)
      line += `${typeof cell === 'string' ? padded : paint(padded, cell[1])}${last ? '' : '  '}`
    })
    return line
  }
  return rows.map(shown).join('\n')
}

const stateStyles = {
  creating: 'cyan',
  running: 'green',
  stopped: 'dim',
  deleting: 'cyan',
  failed: 'red',
  lost: 'red',
} as const satisfies Record<EnvironmentStatus, Style>
export const stateCell = (status: EnvironmentStatus): Cell => [status, stateStyles[status]]

/** `ada (github)` */
export const asked = ({ via, who }: Requester): string => (who === null ? via : `${who} (${via})`)

/** Where it is; with its port where that is not SSH's own. */
export const address = ({ ip, ssh }: Pick<Environment, 'ip' | 'ssh'>): string =>
  ssh !== null && ssh.port !== 22 ? `${ssh.host}:${ssh.port}` : (ip ?? '-')

/** `3d`, `2h`, `5m`, `10s`. */
export const age = (since: string, now: Date): string => {
  const seconds = Math.max(0, Math.round((now.getTime() - Date.parse(since)) / 1000))
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`
  return `${Math.floor(seconds / 86_400)}d`
}

export const size = (bytes: number | null): string => {
  if (bytes === null) return '-'
  if (bytes > 0 && bytes < 1024 ** 2) return `${Math.ceil(bytes / 1024)} KiB`
  return bytes < 1024 ** 3 ? `${Math.round(bytes / 1024 ** 2)} MiB` : `${(bytes / 1024 ** 3).toFixed(1)} GiB`
}
