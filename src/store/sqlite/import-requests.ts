/**
 * Earlier versions had four tables for what is one record of requests now: `asked` (states that were asked for), `command` (the
 * commands of comments), `operation` (the history of a ticket) and `audit`. Each row becomes a request that answers the queries
 * that its table answered.
 */
import type { Ticket } from '../../domain.ts'
import type { Action, ActionKind, CommentRef, Requester } from '../../schema/action.ts'
import type { Outcome } from '../../schema/outcome.ts'
import { bareAction } from './runners.ts'
import { type Cells, json, type Sql } from './sql.ts'
import { translate } from './translate.ts'

type Asked = { actionId: string; ticket: Ticket; kind: ActionKind; askedBy: string; at: number; person: number }
type Command = {
  thread: string
  line: number
  comment: string
  at: number
  actionId: string | null
  action: string | null
  said: string | null
  outcome: string | null
  ok: number | null
  endedAt: number | null
}
type Operation = {
  what: string
  by: Requester
  at: number
  result: 'done' | 'failed' | 'refused'
  said: string | null
  seconds: number | null
}
/** The action in the queue, which is in today's words already. */
type Queued = { payload: string; state: string; outcome: string | null; endedAt: number | null }
type Ending = { endedAt: number | null; ok: number | null; outcome: string | null }

/** The action as a command would ask for it. */
const wordsOf = (action: Action): string => {
  if (action.kind === 'delete') return action.force ? 'delete --force' : 'delete'
  return 'name' in action && action.name !== null ? `${action.kind} ${action.name}` : action.kind
}

const placeOf = (comment: CommentRef | null, id: string, ticket: Ticket): string => {
  if (comment !== null) return 'repo' in comment ? `${comment.repo}#${comment.number}` : comment.ticket
  const via = id.slice(0, id.indexOf(':'))
  return via === 'cli' || via === 'clock' ? via : ticket
}

const endingOf = (command: Command | undefined, queued: Queued | undefined, at: number): Ending => {
  if (command !== undefined) {
    const { ok, outcome } = command
    return {
      endedAt: ok === null ? null : (command.endedAt ?? command.at),
      ok,
      outcome: outcome && translate(outcome),
    }
  }
  // Its action ended long ago.
  if (queued === undefined) return { endedAt: at, ok: 1, outcome: null }
  const { state, outcome, endedAt } = queued
  return { endedAt, outcome, ok: endedAt === null ? null : Number(state === 'done') }
}

const importAction = (
  sql: Sql,
  request: { id: string; at: number; by: Requester; person: number; action: Action },
  command: Command | undefined,
  queued: Queued | undefined,
): void => {
  const { id, at, by, person, action } = request
  sql.add('request', {
    ...{ id, at, recordedAt: command?.at ?? at, by: JSON.stringify(by), person, ticket: action.ticket },
    place: placeOf(json<CommentRef>(command?.comment), id, action.ticket),
    ...{ thread: command?.thread ?? null, line: command?.line ?? null, comment: command?.comment ?? null },
    ...{ what: wordsOf(action), kind: action.kind, action: JSON.stringify(action), verdict: 'allowed' },
    ...endingOf(command, queued, at),
  })
}

const ASKED = 'select action_id, ticket, kind, asked_by, at, coalesce(person, 0) as person from asked'
const importActions = (sql: Sql, former: Sql, commands: readonly Command[]): void => {
  const byAction = new Map(commands.map(command => [command.actionId, command]))
  for (const { actionId: id, ticket, kind, askedBy, at, person } of former.all<Asked>(ASKED)) {
    const by = JSON.parse(askedBy) as Requester
    const command = byAction.get(id)
    byAction.delete(id)
    const queued =
      sql.get<Queued>('select payload, state, outcome, ended_at from ended_action where id = ?', id) ??
      sql.get<Queued>('select payload, state, null as outcome, null as ended_at from action where id = ?', id)
    const text = (command?.action && translate(command.action)) ?? queued?.payload ?? null
    const action = json<Action>(text) ?? bareAction({ kind, ticket, by, at: new Date(at).toISOString() })
    if (action !== null) importAction(sql, { id, at, by, person, action }, command, queued)
  }
  // Of these, only the command was still known.
  for (const [id, command] of byAction) {
    if (id === null || command.action === null) continue
    const action = JSON.parse(translate(command.action)) as Action
    importAction(sql, { id, at: command.at, by: action.by, person: 1, action }, command, undefined)
  }
}

/** Commands that were answered without an action. */
const ANSWERS = `
  select thread || ':' || line as id, at, at as recorded_at, 1 as person, thread, line, comment, '' as what,
    json_object('via', iif(comment ->> '$.repo' is null, 'jira', 'github'), 'who', null) as by,
    coalesce(comment ->> '$.repo' || '#' || (comment ->> '$.number'), comment ->> '$.ticket') as place,
    'answered' as verdict, said as answer, coalesce(ended_at, at) as ended_at, coalesce(ok, 1) as ok
  from command where action_id is null`

/** A repository's name has a slash; a ticket has none. */
const AUDIT = `
  select id, at, at as recorded_at, 1 as person, place, ticket, what, coalesce(verdict, 'refused') as verdict, reason,
    json_object('via', iif(place like '%/%', 'github', 'jira'), 'who', nullif(who, 'nobody')) as by,
    at as ended_at, coalesce(verdict = 'allowed', 0) as ok, 1 as audit
  from audit order by seq`

const importOperation = (sql: Sql, seq: number, ticket: Ticket, operation: Operation): void => {
  const { what, by, at, result, said, seconds } = operation
  const outcome = {
    done: () => ({
      ...{ result: 'done', summary: what, environment: null, seconds: seconds ?? 0 },
      ...(said === null ? {} : { rescued: said }),
    }),
    failed: () => ({
      result: 'failed',
      failure: { kind: 'unknown', message: said ?? '', remedy: null },
      environment: null,
    }),
    refused: () => null,
  }[result]() as Outcome | null
  sql.add('request', {
    ...{ id: `operation:${seq}`, at, recordedAt: at, by: JSON.stringify(by), person: 0, place: ticket, ticket, what },
    ...{ verdict: result === 'refused' ? 'refused' : 'allowed', reason: result === 'refused' ? said : null },
    ...{ endedAt: at, ok: Number(result === 'done'), outcome: outcome && JSON.stringify(outcome), history: 1 },
  })
}

export const importRequests = (sql: Sql, former: Sql): void => {
  importActions(sql, former, former.all<Command>('select * from command where action_id is not null'))
  for (const query of [ANSWERS, AUDIT]) for (const row of former.all<Cells>(query)) sql.add('request', { ...row })
  for (const { seq, ticket, body } of former.all<{ seq: number; ticket: Ticket; body: string }>(
    'select seq, ticket, body from operation order by seq',
  ))
    importOperation(sql, seq, ticket, JSON.parse(body))
}
