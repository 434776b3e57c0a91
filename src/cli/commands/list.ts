import { type Listing, listEnvironments, type RunnerContext } from '../../runner/context.ts'
import { poolStandings, readyText } from '../../runner/pool/standing.ts'
import type { Output } from '../json.ts'
import { type Invocation, printJson, printNote, type RunCommand, type Terminal } from '../terminal/output.ts'
import { draw } from '../terminal/redraw.ts'
import { table } from '../terminal/table.ts'
import { address, personVia, priceCell, pricesLine, size, statusCell, when } from '../terminal/text.ts'
import { withRunnerContext } from '../with-context.ts'

type Listed = Listing['environments'][number]

/** localeCompare takes longer for 1,000 rows than all the rest. */
const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
/** The largest and the oldest first. Equal ones stay in the order of tickets, in which they come. */
const orders: Readonly<Record<string, (a: Listed, b: Listed) => number>> = {
  provider: (a, b) => compare(a.provider, b.provider),
  state: (a, b) => compare(a.status, b.status),
  age: (a, b) => compare(a.createdAt, b.createdAt),
  checkpoints: (a, b) => b.checkpoints.length - a.checkpoints.length,
  disk: (a, b) => (b.usage?.diskBytes ?? 0) - (a.usage?.diskBytes ?? 0),
  by: (a, b) => compare(personVia(a.createdBy), personVia(b.createdBy)),
}

const toJson = (listed: Listed): Output<'list'>[number] => {
  const { ticket, provider, vmId, ip, status, baseImage, createdAt, usage, price, paused, ssh, checkpoints } = listed
  const { interruption, attempt = null } = listed
  return {
    ...{ ticket, provider, vmId, ip, status, baseImage, createdAt, diskBytes: usage?.diskBytes ?? null, paused, ssh },
    checkpoints: checkpoints.map(({ name }) => name),
    attempt,
    ...(price === undefined ? {} : { price }),
    ...(interruption === undefined ? {} : { interruption }),
  }
}

const listTable = (rows: readonly Listed[], now: Date, terminal: Terminal): string => {
  const hasPrices = rows.some(({ price }) => price !== undefined)
  const made = table(
    [
      { title: 'TICKET', whole: true },
      'PROVIDER',
      { title: 'STATE', whole: true },
      { title: 'ADDRESS', whole: true },
      'CREATED',
      'CHECKPOINTS',
      { title: 'DISK', whole: true },
      ...(hasPrices ? ['PRICE'] : []),
      'CREATED BY',
    ],
    rows.map(row => [
      row.ticket,
      row.provider,
      statusCell(row),
      address(row),
      when(row.createdAt, now, terminal),
      String(row.checkpoints.length),
      size(row.usage?.diskBytes ?? null),
      ...(hasPrices ? [priceCell(row.price)] : []),
      personVia(row.createdBy),
    ]),
    terminal,
  )
  return [made, ...pricesLine(rows, terminal)].join('\n')
}

/** The machines that the flags choose, in their order, and how many there are without a filter. */
const look = async (context: RunnerContext, { flags, terminal }: Invocation) => {
  const { environments, unread } = await listEnvironments(context, { usage: true })
  for (const { message } of unread)
    printNote(`${message}\nIts machines are shown with their last known state.`, terminal)
  const rows = environments.filter(
    ({ status, provider }) =>
      (flags.status === undefined || status === flags.status) &&
      (flags.provider === undefined || provider === flags.provider),
  )
  const order = orders[String(flags.sort)]
  return { total: environments.length, rows: order === undefined ? rows : rows.sort(order) }
}

export const run: RunCommand = invocation =>
  withRunnerContext(invocation, async context => {
    const { flags, json, terminal } = invocation
    if (json && flags.watch !== true) {
      printJson<'list'>((await look(context, invocation)).rows.map(toJson), terminal)
      return 0
    }
    await draw(invocation, async () => {
      const { total, rows } = await look(context, invocation)
      const ready = poolStandings(context).filter(pool => pool.ready > 0 && pool.wanted > 0)
      const below = ready.length === 0 ? '' : `\n${ready.map(readyText).join(', ')}`
      if (rows.length > 0) return `${listTable(rows, context.clock(), terminal)}${below}`
      const text =
        total === 0
          ? `No machines. Create one: agent-swarm create <TICKET>${below}`
          : `No machines match (${total} without the filter).`
      if (flags.watch === true) return text
      printNote(text, terminal)
      return ''
    })
    return 0
  })
