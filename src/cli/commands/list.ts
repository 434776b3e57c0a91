import type { Listing } from '../../runner/context.ts'
import { listEnvironments } from '../../runner/context.ts'
import type { Output } from '../json.ts'
import {
  address,
  age,
  asked,
  columns,
  printJson,
  printNote,
  type RunCommand,
  size,
  stateCell,
} from '../terminal/output.ts'
import { draw } from '../terminal/redraw.ts'
import { withRunnerContext } from '../with-context.ts'

type Listed = Listing['environments'][number]

/** localeCompare takes longer for 1,000 rows than all the rest. */
const text = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
/** The largest and the oldest first; what is equal stays in the order of tickets, which they come in. */
const orders: Readonly<Record<string, (a: Listed, b: Listed) => number>> = {
  provider: (a, b) => text(a.provider, b.provider),
  state: (a, b) => text(a.status, b.status),
  age: (a, b) => text(a.createdAt, b.createdAt),
  checkpoints: (a, b) => b.checkpoints.length - a.checkpoints.length,
  disk: (a, b) => (b.usage?.diskBytes ?? 0) - (a.usage?.diskBytes ?? 0),
  by: (a, b) => text(asked(a.createdBy), asked(b.createdBy)),
}

export const run: RunCommand = invocation =>
  withRunnerContext(invocation, async world => {
    const { flags } = invocation
    const order = orders[String(flags.sort)]
    const wanted = (one: Listed) =>
      (flags.status === undefined || one.status === flags.status) &&
      (flags.provider === undefined || one.provider === flags.provider)
    const look = async () => {
      const { environments, unread } = await listEnvironments(world, { usage: true })
      for (const one of unread) printNote(`${one.message}\nIts environments are shown as they were known last.`)
      const shown = environments.filter(wanted)
      return { all: environments.length, shown: order === undefined ? shown : shown.sort(order) }
    }
    if (invocation.json && flags.watch !== true) {
      const { shown } = await look()
      printJson<'list'>(
        shown.map((one): Output<'list'>[number] => ({
          ticket: one.ticket,
          provider: one.provider,
          vmId: one.vmId,
          ip: one.ip,
          status: one.status,
          baseImage: one.baseImage,
          createdAt: one.createdAt,
          diskBytes: one.usage?.diskBytes ?? null,
          ssh: one.ssh,
          checkpoints: one.checkpoints.map(checkpoint => checkpoint.name),
        })),
      )
      return 0
    }
    await draw(invocation, async () => {
      const { all, shown } = await look()
      if (shown.length === 0) {
        const none =
          all === 0
            ? 'There are no environments. Make one: agent-swarm create <TICKET>'
            : `No environment is as asked for; without a filter: ${all}.`
        if (flags.watch === true) return none
        printNote(none)
        return ''
      }
      const now = world.clock()
      return columns([
        ['TICKET', 'PROVIDER', 'STATE', 'ADDRESS', 'AGE', 'CHECKPOINTS', 'DISK', 'CREATED BY'],
        ...shown.map(one => [
          one.ticket,
          one.provider,
          stateCell(one.status),
          address(one),
          age(one.createdAt, now),
          String(one.checkpoints.length),
          size(one.usage?.diskBytes ?? null),
          asked(one.createdBy),
        ]),
      ])
    })
    return 0
  })
