import { STATE_CHANGING_ACTIONS } from '../../../handlers/handler.ts'
import { type Action, type CommentRef, threadOf } from '../../schema/action.ts'
import type { Outcome } from '../../schema/outcome.ts'
import { AUDIT_ROWS, type NewRequest, type Request, type Store } from '../port.ts'
import { json, type Sql } from './sql.ts'

export const STATE_CHANGES = `kind in (${STATE_CHANGING_ACTIONS.map(kind => `'${kind}'`).join(', ')})`

type Row = Pick<Request, 'id' | 'at' | 'place' | 'ticket' | 'what' | 'verdict' | 'reason'> & {
  by: string
  person: number
  line: number | null
  comment: string | null
  action: string | null
  answer: string | null
  endedAt: number | null
  ok: number | null
  outcome: string | null
}
const requestOf = (row: Row): Request => {
  const { id, at, place, line, ticket, what, verdict, reason, endedAt } = row
  const comment = json<CommentRef>(row.comment)
  return {
    ...{ id, at, place, ticket, what, verdict, reason },
    by: JSON.parse(row.by),
    person: row.person === 1,
    command: comment === null || line === null ? null : { comment, line },
    action: json<Action>(row.action),
    answer: json<Request['answer']>(row.answer),
    ended: endedAt === null ? null : { at: endedAt, ok: row.ok === 1, outcome: json<Outcome>(row.outcome) },
  }
}

const keepNewestAudited = (sql: Sql): void => {
  for (const verdict of ['refused', 'allowed'] as const) {
    const oldest = sql.get<{ seq: number }>(
      'select seq from request where audit = 1 and verdict = ? order by seq desc limit 1 offset ?',
      ...[verdict, AUDIT_ROWS],
    )
    // An allowed request may be unfinished, or be the ticket's last state change.
    const drop = verdict === 'refused' ? 'delete from request' : 'update request set audit = 0'
    if (oldest !== undefined) sql.run(`${drop} where audit = 1 and verdict = ? and seq <= ?`, verdict, oldest.seq)
  }
}

/**
 * Whether the request is the command of its line, also when the comment was edited in between: a line has one. One that was
 * refused without an answer gives way, so that the reply shows what became of the line in the end.
 */
const takeLine = (sql: Sql, { comment, line }: NonNullable<Request['command']>): boolean => {
  const holder = sql.get<{ seq: number; yields: number }>(
    `select seq, verdict = 'refused' and answer is null as yields from request where thread = ? and line = ?`,
    ...[threadOf(comment), line],
  )
  if (holder?.yields === 1)
    sql.run('update request set thread = null, line = null, comment = null where seq = ?', holder.seq)
  return holder === undefined || holder.yields === 1
}

/** True when it is new. A request without an action has ended when it is recorded. */
export const recordRequest = (sql: Sql, request: NewRequest): boolean => {
  const { id, at, by, person, place, command, ticket, what, action, verdict, reason, answer, ok } = request
  if (sql.get('select 1 as n from request where id = ?', id) !== undefined) return false
  const isOfLine = command !== null && takeLine(sql, command)
  const now = sql.clock()
  return sql.add('request', {
    ...{ id, at, recordedAt: now, person: Number(person), place, ticket, what, verdict, reason },
    by: JSON.stringify(by),
    thread: isOfLine ? threadOf(command.comment) : null,
    line: isOfLine ? command.line : null,
    comment: isOfLine ? JSON.stringify(command.comment) : null,
    kind: action?.kind ?? null,
    action: action && JSON.stringify(action),
    answer: answer && JSON.stringify(answer),
    endedAt: action === null ? now : null,
    ok: action === null ? Number(ok ?? false) : null,
    // A refusal without an answer must not show on the status comment either.
    history: Number(verdict === 'refused' && answer !== null),
    audit: Number(command !== null && verdict !== 'answered'),
  })
}

export const recordRequests = (sql: Sql, requests: readonly NewRequest[]): void => {
  for (const request of requests) recordRequest(sql, request)
  if (requests.some(({ command }) => command !== null)) keepNewestAudited(sql)
}

/** `outcome` null: its action was cancelled. Nothing happens when it was never recorded. */
export const endRequest = (sql: Sql, id: string, outcome: Outcome | null): void =>
  void sql.run(
    `update request set ended_at = ?1, ok = ?2, outcome = ?3, history = (?4 and kind <> 'status')
     where id = ?5`,
    sql.clock(),
    Number(outcome !== null && outcome.result !== 'failed'),
    outcome === null ? null : JSON.stringify(outcome),
    Number(outcome !== null && outcome.result !== 'skipped'),
    id,
  )

export const openRequests = ({ get, all }: Sql): Store['requests'] => {
  const orNull = (row: Row | undefined) => (row === undefined ? null : requestOf(row))
  return {
    get: async id => orNull(get<Row>('select * from request where id = ?', id)),
    lastStateChange: async (ticket, by) => {
      const lastBy = (person: 0 | 1) =>
        get<Row & { seq: number }>(
          `select * from request where ticket = ? and person = ? and ${STATE_CHANGES} order by at desc, seq desc limit 1`,
          ...[ticket, person],
        )
      const byPerson = lastBy(1)
      const byEvent = by === 'person' ? undefined : lastBy(0)
      if (byPerson === undefined || byEvent === undefined) return orNull(byPerson ?? byEvent)
      const isLater = byEvent.at > byPerson.at || (byEvent.at === byPerson.at && byEvent.seq > byPerson.seq)
      return requestOf(isLater ? byEvent : byPerson)
    },
    ofComment: async comment =>
      all<Row>('select * from request where thread = ? order by line', threadOf(comment)).map(requestOf),
    unfinishedComments: async (before, limit) =>
      all<{ comment: string }>(
        `select comment, max(recorded_at) as recorded from request indexed by request_unfinished
         where thread is not null and ended_at is null and recorded_at <= ?
         group by thread order by recorded desc limit ?`,
        before,
        limit,
      ).map(row => JSON.parse(row.comment)),
    history: async (ticket, limit) =>
      all<Row>(
        'select * from request where history = 1 and ticket = ? order by ended_at desc, seq desc limit ?',
        ticket,
        limit,
      ).map(requestOf),
    audit: async (ticket, limit) =>
      (ticket === null
        ? all<Row>('select * from request where audit = 1 order by seq desc limit ?', limit)
        : all<Row>('select * from request where audit = 1 and ticket = ? order by seq desc limit ?', ticket, limit)
      ).map(requestOf),
  }
}
