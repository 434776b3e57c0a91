/**
 * The journal, which is the audit log too: the intent before the first outside command, then how it ended. Rows outlive
 * the environment that they are about.
 */
import type { Ticket } from '../domain.ts'
import type { ActionKind, Progress, Requester } from '../schema/action.ts'
import type { Outcome } from '../schema/outcome.ts'
import type { HeartbeatRequest } from '../schema/runner-protocol.ts'
import { type Database, type Row, readJson, readRequester } from './database.ts'
import { BY_HAND } from './migrations.ts'

/**
 * What the operation resolved before it began, so that another attempt does the same. `rescued`: the work that a delete
 * saved, and where. `reached`: the point from which another attempt does not start over.
 */
export type OperationDetail = {
  name?: string
  keptAs?: string
  force?: boolean
  rescued?: string
  reached?: 'decided' | 'restored'
}
/** An operation of an action that had got as far as its detail. */
export type Attempt = { detail: OperationDetail; result: OperationRow['result'] }

export type OperationRow = {
  id: number
  actionId: string | null
  ticket: Ticket
  vmId: string | null
  kind: ActionKind
  detail: OperationDetail | null
  by: Requester
  startedAt: string
  /** Oldest first. */
  phases: Progress[]
  endedAt: string | null
  result: Outcome['result'] | 'interrupted' | null
  outcome: Outcome | null
}
export type NewOperation = Pick<OperationRow, 'actionId' | 'ticket' | 'kind' | 'by'> & {
  correlation: string | null
  at: string
}

type ManualOperation = HeartbeatRequest['manualOperations'][number]

const operationFrom = (row: Row): OperationRow => ({
  id: row.id as number,
  actionId: row.action_id as string | null,
  ticket: row.ticket as Ticket,
  vmId: row.vm_id as string | null,
  kind: row.kind as ActionKind,
  detail: readJson<OperationDetail>(row.detail),
  by: readRequester(row.asked_by),
  startedAt: row.started_at as string,
  phases: readJson<Progress[]>(row.phases) ?? [],
  endedAt: row.ended_at as string | null,
  result: row.result as OperationRow['result'],
  outcome: readJson<Outcome>(row.outcome),
})

const manualOperationFrom = (row: Row): ManualOperation => ({
  id: row.id as number,
  ticket: row.ticket as Ticket,
  kind: row.kind as ManualOperation['kind'],
  by: readRequester(row.asked_by),
  at: row.started_at as string,
})

/** Operations on tickets. Those on machines without a ticket are in machines.ts. */
export const operationQueries = ({ all, first, run }: Database) => ({
  /** Journals an intent and returns its id. */
  startOperation: ({ actionId, correlation, ticket, kind, by, at }: NewOperation): number =>
    run(
      'insert into operation (action_id, correlation, ticket, kind, asked_by, started_at) values (?, ?, ?, ?, ?, ?)',
      ...[actionId, correlation, ticket, kind, JSON.stringify(by), at],
    ),
  setDetail: (id: number, detail: OperationDetail) =>
    void run('update operation set detail = ? where id = ?', JSON.stringify(detail), id),
  addPhase: (id: number, { phase, at }: Progress) =>
    void run(
      `update operation set phases = json_insert(phases, '$[#]', json_object('phase', ?, 'at', ?)) where id = ?`,
      ...[phase, at, id],
    ),
  endOperation: (id: number, at: string, result: NonNullable<OperationRow['result']>, outcome: Outcome | null) =>
    void run(
      'update operation set ended_at = ?, result = ?, outcome = ? where id = ?',
      ...[at, result, outcome === null ? null : JSON.stringify(outcome), id],
    ),

  /** Of this action, oldest first. */
  attempts: (actionId: string): Attempt[] =>
    all('select detail, result from operation where action_id = ? and detail is not null order by id', actionId).map(
      row => ({ detail: readJson<OperationDetail>(row.detail) ?? {}, result: row.result as OperationRow['result'] }),
    ),
  /** The key of the action's ticket at its last attempt; null before its first. */
  ticketOfAction: (actionId: string): Ticket | null =>
    (first('select ticket from operation where action_id = ? order by id desc', actionId)?.ticket as
      | Ticket
      | undefined) ?? null,
  /** The outcome of an action that was finished here before: its runner died before it could report it. */
  outcomeOf: (actionId: string): Outcome | null =>
    readJson(
      first(
        `select outcome from operation where action_id = ? and result in ('done','skipped') order by id desc`,
        actionId,
      )?.outcome,
    ),
  openOperations: (ticket?: Ticket): OperationRow[] =>
    (ticket === undefined
      ? all('select * from operation where ended_at is null and ticket is not null order by id')
      : all('select * from operation where ended_at is null and ticket = ? order by id', ticket)
    ).map(operationFrom),
  /** The newest first. */
  operations: (ticket: Ticket, limit: number): OperationRow[] =>
    all('select * from operation where ticket = ? order by id desc limit ?', ticket, limit).map(operationFrom),

  /** What a person last did to each ticket by the CLI, of the last `limit` tickets. */
  manualOperations: (limit: number): ManualOperation[] =>
    all(
      `select max(id) as id, ticket, kind, asked_by, started_at from operation
       where ${BY_HAND}
       group by ticket order by id desc limit ?`,
      limit,
    ).map(manualOperationFrom),
  lastManualOperation: (ticket: Ticket): ManualOperation | null => {
    const row = first(
      `select id, ticket, kind, asked_by, started_at from operation where ticket = ? and ${BY_HAND} order by id desc limit 1`,
      ticket,
    )
    return row === undefined ? null : manualOperationFrom(row)
  },
})
