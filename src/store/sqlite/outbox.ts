import { type Ticket, ticketOf } from '../../domain.ts'
import { MAX_WAIT_MS, type Message, type MessageBody, type OutboxRow, type Store } from '../port.ts'
import type { Sql } from './sql.ts'

/** What a person waits for. */
const ANSWERS: readonly MessageBody['kind'][] = ['reaction', 'reply', 'jira-note', 'jira-waiting']
const [ANSWER, OTHER] = [0, 1]

/** The repository where the message is published first; null in Jira. */
const repositoryOf = (sql: Sql, body: MessageBody): string | null => {
  const ofTicket = (ticket: Ticket) =>
    sql.get<{ repo: string }>('select repo from pull_request where ticket = ? order by repo, number limit 1', ticket)
      ?.repo
  switch (body.kind) {
    case 'status':
      return ofTicket(body.ticket) ?? ''
    case 'agent-ended':
      return ofTicket(ticketOf(body.ticket)) ?? null
    case 'reaction':
    case 'outdated-reply':
    case 'open-pull-request':
      return body.repo
    case 'reply':
      return 'repo' in body.comment ? body.comment.repo : null
    case 'unlinked':
    case 'rounds-over':
      return body.pullRequest.repo
    default:
      return null
  }
}

/** The side, its installation, and the repository. */
const laneOf = (sql: Sql, body: MessageBody): string => {
  const repo = repositoryOf(sql, body)
  if (repo === null) return 'jira'
  const installation = sql.get<{ id: number }>('select id from installation where repo = ?', repo)?.id
  return `github:${installation ?? ''}:${repo}`
}

/** `correlation`: the delivery that caused them. */
export const putMessages = (sql: Sql, messages: readonly Message[], correlation: string | null): void => {
  for (const { key, body } of messages) {
    const text = JSON.stringify(body)
    const lane = laneOf(sql, body)
    const replaced = sql.run(
      `update outbox set body = ?, lane = ?, version = version + 1, correlation = coalesce(?, correlation), attempt = 0,
         not_before = 0, reason = null
       where key = ?`,
      ...[text, lane, correlation, key],
    )
    if (replaced > 0) continue
    const urgency = ANSWERS.includes(body.kind) ? ANSWER : OTHER
    sql.run(
      'insert into outbox (body, lane, urgency, correlation, key, created_at) values (?, ?, ?, ?, ?, ?)',
      ...[text, lane, urgency, correlation, key, sql.clock()],
    )
  }
}

/** One step in an index for each. */
const lanesOf = (sql: Sql): string[] => {
  const lanes: string[] = []
  for (let last = ''; ; ) {
    const next = sql.get<{ lane: string }>('select lane from outbox where lane > ? order by lane limit 1', last)
    if (next === undefined) return lanes
    last = next.lane
    lanes.push(last)
  }
}

/** A wait longer than MAX_WAIT_MS comes from a clock that was set back since: it is over. */
const endWrongWaits = (sql: Sql): void => {
  const latest = sql.get<{ at: number | null }>('select max(not_before) as at from outbox')?.at ?? 0
  const most = sql.clock() + MAX_WAIT_MS
  if (latest > most) sql.run('update outbox set not_before = 0 where not_before > ?', most)
}

/**
 * Whether it is the reaction of a command that has ended (src/store/messages.ts), and the reply has not said that yet: people who
 * see 🚀 read the reply. A reply that cannot be published holds it back for MOST_HELD attempts.
 */
const MOST_HELD = 4
const IS_BEFORE_REPLY = `(key glob 'reaction:*:done' and exists (
  select 1 from outbox reply
  where reply.key = 'reply:github:' || substr(outbox.key, 10, length(outbox.key) - 14) and reply.attempt < ${MOST_HELD}))`

const due = (sql: Sql, limit: number, resting: readonly string[]): OutboxRow[] => {
  endWrongWaits(sql)
  const lanes = lanesOf(sql).filter(lane => !resting.some(name => lane === name || lane.startsWith(`${name}:`)))
  return [ANSWER, OTHER].flatMap(urgency =>
    lanes
      .flatMap(lane =>
        sql.all<Omit<OutboxRow, 'body'> & { body: string }>(
          `select seq, key, lane, body, version, attempt, correlation from outbox
           where lane = ? and urgency = ? and not_before <= ? and not ${IS_BEFORE_REPLY} order by not_before, seq limit ?`,
          ...[lane, urgency, sql.clock(), limit],
        ),
      )
      .sort((one, other) => one.seq - other.seq)
      .map(row => ({ ...row, isAnswer: urgency === ANSWER, body: JSON.parse(row.body) })),
  )
}

export const openOutbox = (sql: Sql): Store['outbox'] => ({
  put: async messages => sql.transaction(() => putMessages(sql, messages, null)),
  has: async key => sql.get('select 1 as n from outbox where key = ?', key) !== undefined,
  due: async (limit, resting = []) => due(sql, limit, resting),
  ack: async ({ seq, version }) => void sql.run('delete from outbox where seq = ? and version = ?', seq, version),
  postpone: async (seq, at, reason) =>
    void sql.run('update outbox set attempt = attempt + 1, not_before = ?, reason = ? where seq = ?', at, reason, seq),
  drop: async seq => void sql.run('delete from outbox where seq = ?', seq),
  nextDueAt: async () => {
    endWrongWaits(sql)
    return (
      sql.get<{ at: number | null }>('select min(not_before) as at from outbox where not_before > ?', sql.clock())
        ?.at ?? null
    )
  },
})
