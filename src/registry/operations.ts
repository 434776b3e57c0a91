/**
 * The journal, which is the audit log too: the intent before the first outside command, then how it ended. Rows outlive
 * the environment that they are about.
 */
import type { Ticket } from '../domain.ts'
import { checkName } from '../errors.ts'
import type { ActionKind, Progress, Requester } from '../schema/action.ts'
import type { OperationDetail, OperationRow } from '../schema/operation.ts'
import type { Outcome } from '../schema/outcome.ts'
import type { ManualOperation } from '../schema/runner-protocol.ts'
import { type Database, type Row, readJson, readRequester } from './database.ts'
import { BY_HAND, TOLD } from './migrations.ts'

/** An operation of an action that had got as far as its detail. */
export type Try = { detail: OperationDetail; result: OperationRow['result'] }

export type NewOperation = Pick<OperationRow, 'actionId' | 'ticket' | 'kind' | 'by'> & {
  correlation: string | null
  at: string
}

const COLUMNS = `id, action_id as actionId, ticket, vm_id as vmId, kind, detail, asked_by as "by", started_at as startedAt,
  phases, ended_at as endedAt, result, outcome`
const operationFrom = (row: Row) =>
  ({
    ...row,
    detail: readJson(row.detail),
    by: readRequester(row.by),
    phases: readJson(row.phases) ?? [],
    outcome: readJson(row.outcome),
  }) as OperationRow

/** How a delete ended that deleted a machine. */
const deleteIn = ({ detail = null, outcome = null }: Row): Pick<ManualOperation, 'force' | 'outcome'> => {
  const ended = readJson<Outcome>(outcome)
  if (ended?.result !== 'done') return {}
  return { force: readJson<OperationDetail>(detail)?.force === true, outcome: { ...ended, environment: null } }
}

const manualOperationFrom = ({ detail = null, outcome = null, ...row }: Row) =>
  ({
    ...row,
    ...(row.kind === 'delete' ? deleteIn({ detail, outcome }) : {}),
    // To others, whoever restarts a machine wants it to run.
    kind: row.kind === 'restart' ? 'start' : row.kind,
    by: readRequester(row.by),
  }) as ManualOperation

/** How many operations by hand a ticket has at most, on the average, when the last of each are looked for. */
const LOOKED_AT = 10

/** Operations on tickets. Those on machines without a ticket are in machines.ts. */
export const operationQueries = ({ all, first, run }: Database) => ({
  /** Journals an intent and returns its id. */
  startOperation: ({ actionId, correlation, ticket, kind, by, at }: NewOperation): number =>
    run(
      'insert into operation (action_id, correlation, ticket, kind, asked_by, started_at) values (?, ?, ?, ?, ?, ?)',
      ...[actionId, correlation, checkName('environment', ticket), kind, JSON.stringify(by), at],
    ),
  /** Members that it does not name stay. */
  setDetail: (id: number, detail: OperationDetail) =>
    void run(
      `update operation set detail = json_patch(coalesce(detail, '{}'), ?) where id = ?`,
      ...[JSON.stringify(detail), id],
    ),
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
  tries: (actionId: string): Try[] =>
    all('select detail, result from operation where action_id = ? and detail is not null order by id', actionId).map(
      row => ({ detail: readJson<OperationDetail>(row.detail) ?? {}, result: row.result as OperationRow['result'] }),
    ),
  /** The key of the action's ticket at its last try; null before its first. */
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
      ? all(
          `select ${COLUMNS} from operation indexed by operation_open
           where ended_at is null and ticket is not null order by id`,
        )
      : all(`select ${COLUMNS} from operation where ended_at is null and ticket = ? order by id`, ticket)
    ).map(operationFrom),
  /** The newest first. */
  operations: (ticket: Ticket, limit: number): OperationRow[] =>
    all(`select ${COLUMNS} from operation where ticket = ? order by id desc limit ?`, ticket, limit).map(operationFrom),

  /** Of all tickets and machines, the newest last. */
  journalTail: (limit: number): OperationRow[] =>
    all(`select ${COLUMNS} from operation where id > (select max(id) from operation) - ? order by id`, limit).map(
      operationFrom,
    ),

  /** What the last promote made the ticket's machine. */
  lastPromoted: (ticket: Ticket): NonNullable<OperationDetail['promoted']> | null =>
    readJson(
      first(
        `select detail ->> '$.promoted' as promoted from operation
         where ticket = ? and kind = 'promote' and detail ->> '$.reached' = 'decided' order by id desc limit 1`,
        ticket,
      )?.promoted,
    ),

  /** The last restore that was done: when, and of which checkpoint. */
  lastRestore: (ticket: Ticket): { at: string; name: string | null } | null => {
    const row = first(
      `select ended_at as at, json_extract(detail, '$.name') as name from operation
       where ticket = ? and kind = 'restore' and result = 'done' order by id desc limit 1`,
      ticket,
    )
    return row === undefined ? null : { at: row.at as string, name: row.name as string | null }
  },

  /**
   * What a person last did to each ticket by the CLI, of the last `limit` tickets, among the newest operations by hand; and attempts
   * that the reconciler deleted, whose work it rescued.
   */
  manualOperations: (limit: number): ManualOperation[] =>
    all(
      `select max(id) as id, ticket, kind, asked_by as "by", started_at as at, detail, outcome
       from (select * from operation indexed by operation_newest_told where ${TOLD} order by id desc limit ?)
       group by ticket order by id desc limit ?`,
      ...[LOOKED_AT * limit, limit],
    ).map(manualOperationFrom),
  lastManualOperation: (ticket: Ticket): ManualOperation | null => {
    const row = first(
      `select id, ticket, kind, asked_by as "by", started_at as at, detail, outcome from operation
       where ticket = ? and ${BY_HAND} order by id desc limit 1`,
      ticket,
    )
    return row === undefined ? null : manualOperationFrom(row)
  },
})

/** `why` null: another command on the ticket is running. */
export type WaitingRow = {
  pid: number
  ticket: Ticket
  kind: ActionKind
  by: Requester
  since: string
  why: string | null
}

/** Commands and actions that wait for another one on the same ticket. */
export const waitingQueries = ({ all, run }: Database) => ({
  /** Returns the row's id. */
  beginWaiting: ({ pid, ticket, kind, by, since, why }: WaitingRow): number =>
    run(
      'insert into waiting (pid, ticket, kind, asked_by, since, why) values (?, ?, ?, ?, ?, ?)',
      ...[pid, ticket, kind, JSON.stringify(by), since, why],
    ),
  endWaiting: (id: number) => void run('delete from waiting where id = ?', id),
  /** Oldest first, those of dead processes too. */
  waiting: (): (WaitingRow & { id: number })[] =>
    all<WaitingRow & { id: number; by: string }>(
      'select id, pid, ticket, kind, asked_by as "by", since, why from waiting order by id',
    ).map(row => ({ ...row, by: readRequester(row.by) })),
})
