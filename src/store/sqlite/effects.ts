/** The effects of a decision, besides its actions, messages and requests. */
import type { Effect } from '../port.ts'
import { allowCommit, pullRequestDecided, pullRequestReady } from './pull-requests.ts'
import { cancelDeletes } from './queue.ts'
import { renameTicket } from './rename-ticket.ts'
import { unschedule } from './scheduled.ts'
import type { Sql } from './sql.ts'
import { ticketDecided } from './tickets.ts'

type Apply = { [Kind in Effect['kind']]: (sql: Sql, effect: Extract<Effect, { kind: Kind }>) => void }

const apply: Apply = {
  schedule: (sql, { ticket, delivery }) => {
    const { receivedAt: at, source, id, event, lane, body } = delivery
    sql.put('scheduled', { ticket }, { at, source, id, event, lane, body })
  },
  unschedule: (sql, { ticket, before }) => void unschedule(sql, ticket, before),
  'cancel-deletes': (sql, { ticket, before }) => cancelDeletes(sql, ticket, before),
  'allow-commit': (sql, { pullRequest, commit }) => allowCommit(sql, pullRequest, commit),
  'pull-request-decided': (sql, { pullRequest, state }) => pullRequestDecided(sql, pullRequest, state),
  'pull-request-ready': (sql, { pullRequest, ready }) => pullRequestReady(sql, pullRequest, ready),
  'ticket-decided': (sql, { ticket, state }) => ticketDecided(sql, ticket, state),
  'change-reported': (sql, { change, delivery }) =>
    void sql.add('reported_change', { id: change, delivery, at: sql.clock() }),
  'rename-ticket': (sql, { from, to }) => renameTicket(sql, from, to),
}

export const applyEffect = (sql: Sql, effect: Effect): void =>
  // The table's type gives each kind its own effect.
  (apply[effect.kind] as (sql: Sql, effect: Effect) => void)(sql, effect)
