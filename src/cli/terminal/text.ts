/** Values as a person reads them. */
import type { Requester } from '../../schema/action.ts'
import type { Environment, EnvironmentStatus } from '../../schema/environment.ts'
import type { MachinePrice } from '../../schema/machine.ts'
import { ago } from '../../words.ts'
import { type Style, stripControls, type Terminal } from './output.ts'
import { type Cell, paragraph } from './table.ts'

const statusStyles = {
  creating: 'cyan',
  running: 'green',
  stopped: 'dim',
  deleting: 'cyan',
  failed: 'red',
  lost: 'red',
} as const satisfies Record<EnvironmentStatus, Style>
type Shown = Pick<Environment, 'status' | 'idle'> & {
  paused: string | null
  interruption?: Environment['interruption'] | undefined
}
export const statusCell = ({ status, paused, interruption, idle }: Shown): Cell => {
  if (interruption?.state === 'announced') return [`${status} (${interruption.by} stops it soon)`, 'yellow']
  if (interruption !== undefined) return [`${status} (by ${interruption.by})`, 'yellow']
  if (paused !== null) return [`paused (${paused})`, 'yellow']
  if (status === 'stopped' && idle?.state === 'saved') return ['stopped (memory saved)', statusStyles[status]]
  return [status, statusStyles[status]]
}

/** `Dana Example (557058:1a2b)`: an account stands behind its name; null when nobody is known. */
export const personName = ({ who, name }: { who: string | null; name?: string | null | undefined }): string | null => {
  const named = name === undefined || name === null || name === '' ? null : name
  if (who === null) return named === null ? null : stripControls(named)
  return stripControls(named === null ? who : `${named} (${who})`)
}
/** `push by ada`, `ticket moved to In Progress by Dana Example (557058:1a2b)`; without a cause, `ada (cli)`. */
export const requesterName = (by: Requester): string => {
  const person = personName(by)
  if (by.cause !== undefined) {
    const cause = by.movedTo === undefined ? by.cause : `${by.cause} to ${stripControls(by.movedTo)}`
    return person === null ? cause : `${cause} by ${person}`
  }
  return person === null ? by.via : `${person} (${by.via})`
}
/** `(push by ada)`, `by ada (cli)`. */
export const askedFor = (by: Requester): string =>
  by.cause === undefined ? `by ${requesterName(by)}` : `(${requesterName(by)})`
/** `Dana Example (jira)`: who, without why. */
export const personVia = ({ via, who, name = '' }: Requester): string => {
  const person = name === '' ? who : name
  return person === null ? via : `${stripControls(person)} (${via})`
}

/** `$0.0832/h`: what a machine costs while it runs. */
export const priceCell = (price: MachinePrice | undefined): string => {
  if (price === undefined) return '-'
  return price.usdPerHour === null ? 'unknown' : `${price.isUpperBound ? 'at most ' : ''}$${price.usdPerHour}/h`
}
/** What the prices of a table are and how old, below an empty line. Nothing where no machine has one. */
export const pricesLine = (rows: readonly { price?: MachinePrice | undefined }[], terminal: Terminal): string[] => {
  const sources = rows.flatMap(({ price }) =>
    price == null || price.at === null ? [] : [`${price.source}, ${price.at}`],
  )
  const text = `Prices are in US dollars an hour while a machine runs (${[...new Set(sources)].sort().join('; ')}). Disks, checkpoints and addresses cost besides.`
  return sources.length === 0 ? [] : ['', paragraph(text, terminal)]
}

/** Host or IP address of the machine, with its port when that is not SSH's own. */
export const address = ({ ip, ssh }: Pick<Environment, 'ip' | 'ssh'>): string =>
  ssh !== null && ssh.port !== 22 ? `${ssh.host}:${ssh.port}` : (ip ?? '-')

/** A time in the past: `3 min ago` on a terminal, ISO 8601 in a pipe. */
export const when = (time: string, now: Date, { stdout }: Pick<Terminal, 'stdout'>): string =>
  stdout.isTTY === true ? ago(Date.parse(time), now.getTime()) : time

export const size = (bytes: number | null): string => {
  if (bytes === null) return '-'
  if (bytes > 0 && bytes < 1024 ** 2) return `${Math.ceil(bytes / 1024)} KiB`
  return bytes < 1024 ** 3 ? `${Math.round(bytes / 1024 ** 2)} MiB` : `${(bytes / 1024 ** 3).toFixed(1)} GiB`
}

/** On a terminal, ids shortened to as many characters, at least 8, as tell them apart; in a pipe whole. */
export const shortIds = (ids: readonly string[], { stdout }: Pick<Terminal, 'stdout'>): ((id: string) => string) => {
  if (stdout.isTTY !== true) return id => id
  const distinct = new Set(ids).size
  for (let length = 8; length < 64; length += 1)
    if (new Set(ids.map(id => id.slice(0, length))).size === distinct) return id => id.slice(0, length)
  return id => id
}
