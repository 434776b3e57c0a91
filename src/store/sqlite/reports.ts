/**
 * What a runner reports for the first time, as deliveries. They are stored in the transaction that records the report, so that a
 * crash loses none; what the report before said already makes none.
 */
import { DAY_MS } from '../../clock.ts'
import type { Ticket } from '../../domain.ts'
import type { Environment, Push } from '../../schema/environment.ts'
import { AGENT_ENDED, type Delivery, PUSHED } from '../port.ts'
import type { Sql } from './sql.ts'

const idOf = (ticket: Ticket, { repo, branch, commit }: Push): string => `push:${ticket}:${repo}:${branch}:${commit}`

/** Reports of one ticket in a day that have an effect. A runner that lies would make as many comments as it likes. */
const MAX_REPORTS = 300

const reportsToday = (sql: Sql, ticket: Ticket): number => {
  const count = (kind: 'push' | 'run') =>
    sql.get<{ n: number }>(
      "select count(*) as n from delivery where source = 'runner' and id >= ? and id < ? and received_at > ?",
      ...[`${kind}:${ticket}:`, `${kind}:${ticket};`, sql.clock() - DAY_MS],
    )?.n ?? 0
  return count('push') + count('run')
}

/** Pushes first, oldest first: a run's pushes come before its end. */
const reportDeliveries = (before: Environment | null, now: Environment, at: number): Delivery[] => {
  const { ticket, agent, pushes = [] } = now
  const common = { source: 'runner', lane: `runner:${ticket}`, receivedAt: at } as const
  const known = new Set(before?.pushes?.map(push => idOf(ticket, push)))
  const told = before?.agent?.state === 'ended' ? before.agent.run : null
  return [
    ...pushes
      .filter(push => !known.has(idOf(ticket, push)))
      .map(push => ({
        ...common,
        ...{ id: idOf(ticket, push), event: PUSHED },
        body: JSON.stringify({ ticket, push, agentOpens: agent?.pullRequest ?? 'none' }),
      })),
    ...(agent?.state === 'ended' && agent.run !== told
      ? [
          {
            ...common,
            ...{ id: `run:${ticket}:${agent.run}:ended`, event: AGENT_ENDED },
            body: JSON.stringify({ ticket, run: agent }),
          },
        ]
      : []),
  ]
}

/** One that is known is left as it is: nobody sent it again. */
export const acceptReports = (sql: Sql, before: Environment | null, now: Environment): void => {
  const deliveries = reportDeliveries(before, now, sql.clock())
  if (deliveries.length === 0) return
  const left = Math.max(0, MAX_REPORTS - reportsToday(sql, now.ticket))
  for (const delivery of deliveries.slice(0, left)) sql.add('delivery', delivery)
}
