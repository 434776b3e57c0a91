/**
 * The registry: which environments there are, their checkpoints, and the journal of what was done to them. Synchronous,
 * on local disk; several processes (CLI, runner) may have it open at once.
 */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { ProviderName, Ticket } from '../domain.ts'
import type { Desired } from '../runner/lifecycle.ts'
import type { InstalledSshConfig } from '../runner/ssh/config-file.ts'
import type { ActionKind, Progress, Requester } from '../schema/action.ts'
import type { Checkpoint, EnvironmentStatus, UnsavedWork } from '../schema/environment.ts'
import type { Outcome } from '../schema/outcome.ts'
import type { HeartbeatResponse, ManualOperation } from '../schema/runner-protocol.ts'
import { openDatabase } from '../sqlite.ts'

/** What people last asked for by hand that says how a machine shall be. */
const BY_HAND = `result in ('done','skipped') and kind in ('create','start','stop','restore','delete')
  and json_extract(asked_by, '$.via') = 'cli'`

const migrations = [
  `
  create table environment (
    ticket text primary key not null,
    provider text not null,
    vm_id text not null,
    base_image text not null,
    ip text,
    status text not null default 'running'
      check (status in ('creating','running','stopped','deleting','failed','lost')),
    created_at text not null default (datetime('now')),
    -- What was asked for last, and by whom (JSON of Requester).
    desired text not null default 'running' check (desired in ('running','stopped','absent')),
    desired_by text not null default '{"via":"cli","who":null}',
    ssh_host text, ssh_port integer, ssh_user text,
    -- The machine's own public host key, as one line: the only one that ssh accepts.
    host_key text,
    -- JSON of WorkAtRisk: what the last stop or delete found.
    work_at_risk text
  );
  -- A ticket stays on the provider that created it until it is deleted.
  create trigger environment_is_pinned before update of provider on environment
    when new.provider is not old.provider
    begin select raise(abort, 'a ticket stays on the provider that created it'); end;
  create table checkpoint (
    ticket text not null references environment(ticket) on delete cascade,
    name text not null,
    why text not null,
    commit_sha text,
    created_at text not null,
    with_memory integer not null,
    primary key (ticket, name)
  ) without rowid;
  -- The journal, and the audit log: intent before the first outside command, then how it ended. Rows are never removed
  -- with their environment.
  create table operation (
    id integer primary key autoincrement,
    action_id text,
    correlation text,
    ticket text not null,
    vm_id text,
    kind text not null,
    detail text,
    asked_by text not null,
    started_at text not null,
    step text,
    ended_at text,
    result text,
    outcome text
  );
  create index operation_open on operation (ticket) where ended_at is null;
  create index operation_action on operation (action_id);
  create index operation_ticket on operation (ticket, id);
  create table meta (key text primary key not null, value text not null) without rowid;
  `,
  `
  -- JSON of Requester.
  alter table environment add column created_by text not null default '{"via":"cli","who":null}';
  alter table checkpoint add column size_bytes integer;
  -- JSON of Progress[]: what the operation was at, and since when.
  alter table operation add column phases text not null default '[]';
  -- Who waits for a ticket's lock. A row whose process is gone means nothing.
  create table waiting (
    id integer primary key,
    pid integer not null,
    ticket text not null,
    kind text not null,
    asked_by text not null,
    since text not null
  );
  `,
  `
  -- The journal only grows, and this is asked with every heartbeat.
  create index operation_by_hand on operation (ticket, id, kind, asked_by, started_at) where ${BY_HAND};
  `,
]

export type EnvironmentRow = {
  ticket: Ticket
  provider: ProviderName
  vmId: string
  baseImage: string
  ip: string | null
  status: EnvironmentStatus
  /** ISO 8601, UTC. */
  createdAt: string
  createdBy: Requester
  desired: Desired
  desiredBy: Requester
  ssh: { host: string; port: number; user: string } | null
  hostKey: string | null
  workAtRisk: UnsavedWork | null
}

/**
 * What the operation is about, resolved before it begins, so that doing it again does the same. `kept` says of a delete
 * what was saved before it, and where; `reached`, how far it came where doing it again does not begin anew.
 */
export type OperationDetail = {
  name?: string
  keptAs?: string
  force?: boolean
  kept?: string
  reached?: 'decided' | 'restored'
}
/** An operation of an action that may have had others before. */
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

/** A command or an action that waits for another one on the same ticket. */
export type WaitingRow = { pid: number; ticket: Ticket; kind: ActionKind; by: Requester; since: string }

type Cell = string | number | bigint | null | Uint8Array
type Row = Record<string, Cell>

const json = <T>(cell: Cell | undefined): T | null => (typeof cell === 'string' ? JSON.parse(cell) : null)
/** A thousand rows name few people: each text is read once. */
const requesters = new Map<Cell | undefined, Requester>()
const requester = (cell: Cell | undefined): Requester => {
  const known = requesters.get(cell)
  if (known !== undefined) return known
  const found = json<Requester>(cell) ?? { via: 'cli', who: null }
  if (requesters.size < 1000) requesters.set(cell, found)
  return found
}

const ENVIRONMENT = `ticket, provider, vm_id, base_image, ip, status,
  iif(instr(created_at, 'T'), created_at, replace(created_at, ' ', 'T') || 'Z'), created_by, desired, desired_by,
  ssh_host, ssh_port, ssh_user, host_key, work_at_risk`
/** Cells in that order: of a thousand rows, objects take five times as long, and so does taking an array apart by names. */
const environmentFrom = (row: Cell[]): EnvironmentRow => ({
  ticket: row[0] as Ticket,
  provider: row[1] as ProviderName,
  vmId: row[2] as string,
  baseImage: row[3] as string,
  ip: row[4] as string | null,
  status: row[5] as EnvironmentStatus,
  createdAt: row[6] as string,
  createdBy: requester(row[7]),
  desired: row[8] as Desired,
  desiredBy: requester(row[9]),
  ssh: row[10] === null ? null : { host: row[10] as string, port: row[11] as number, user: row[12] as string },
  hostKey: row[13] as string | null,
  workAtRisk: json<UnsavedWork>(row[14]),
})

const operationFrom = (row: Row): OperationRow => ({
  id: row.id as number,
  actionId: row.action_id as string | null,
  ticket: row.ticket as Ticket,
  vmId: row.vm_id as string | null,
  kind: row.kind as ActionKind,
  detail: json<OperationDetail>(row.detail),
  by: json<Requester>(row.asked_by) ?? { via: 'cli', who: null },
  startedAt: row.started_at as string,
  phases: json<Progress[]>(row.phases) ?? [],
  endedAt: row.ended_at as string | null,
  result: row.result as OperationRow['result'],
  outcome: json<Outcome>(row.outcome),
})

const checkpointFrom = (row: Row): Checkpoint => ({
  name: row.name as string,
  why: row.why as Checkpoint['why'],
  commit: row.commit_sha as string | null,
  createdAt: row.created_at as string,
  withMemory: row.with_memory === 1,
  sizeBytes: row.size_bytes as number | null,
})

export type Registry = ReturnType<typeof openRegistry>

/** Opens `path`, and makes it with its folder (0700) when it is not there. */
export const openRegistry = (path: string) => {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const { db, transaction } = openDatabase(path, migrations)

  const all = (sql: string, ...values: Cell[]) => db.prepare(sql).all(...values) as Row[]
  const arrays = (sql: string, ...values: Cell[]) => {
    const statement = db.prepare(sql)
    statement.setReturnArrays(true)
    return statement.all(...values) as unknown as Cell[][]
  }
  const one = (sql: string, ...values: Cell[]) => db.prepare(sql).get(...values) as Row | undefined
  const run = (sql: string, ...values: Cell[]) => db.prepare(sql).run(...values)

  return {
    /** By project, then by number: the longer of two numbers is the larger. */
    environments: (): EnvironmentRow[] =>
      arrays(
        `select ${ENVIRONMENT} from environment order by substr(ticket, 1, instr(ticket, '-')), length(ticket), ticket`,
      ).map(environmentFrom),
    environment: (ticket: Ticket): EnvironmentRow | null => {
      const [row] = arrays(`select ${ENVIRONMENT} from environment where ticket = ?`, ticket)
      return row === undefined ? null : environmentFrom(row)
    },
    /** Of one ticket, or of all in one query: oldest first. */
    checkpoints: (ticket: Ticket): Checkpoint[] =>
      all('select * from checkpoint where ticket = ? order by created_at, name', ticket).map(checkpointFrom),
    checkpointsByTicket: (): Map<Ticket, Checkpoint[]> => {
      const byTicket = new Map<Ticket, Checkpoint[]>()
      for (const row of all('select * from checkpoint order by ticket, created_at, name')) {
        const ticket = row.ticket as Ticket
        const list = byTicket.get(ticket) ?? []
        list.push(checkpointFrom(row))
        byTicket.set(ticket, list)
      }
      return byTicket
    },

    /** The intent to make a machine, on disk before the first outside command: its row and its name in the journal. */
    begin: (environment: {
      ticket: Ticket
      provider: ProviderName
      vmId: string
      baseImage: string
      by: Requester
      hostKey: string | null
      operation: number
    }): void =>
      transaction(() => {
        run(
          `insert into environment (ticket, provider, vm_id, base_image, status, desired, desired_by, created_by, host_key)
           values (?, ?, ?, ?, 'creating', 'running', ?, ?, ?)`,
          environment.ticket,
          environment.provider,
          environment.vmId,
          environment.baseImage,
          JSON.stringify(environment.by),
          JSON.stringify(environment.by),
          environment.hostKey,
        )
        run('update operation set vm_id = ? where id = ?', environment.vmId, environment.operation)
      }),
    setStatus: (ticket: Ticket, status: EnvironmentStatus) =>
      void run('update environment set status = ? where ticket = ? and status <> ?', status, ticket, status),
    setDesired: (ticket: Ticket, desired: Desired, by: Requester) =>
      void run(
        'update environment set desired = ?, desired_by = ? where ticket = ?',
        desired,
        JSON.stringify(by),
        ticket,
      ),
    setAddress: (ticket: Ticket, ssh: EnvironmentRow['ssh']) =>
      void run(
        'update environment set ip = ?, ssh_host = ?, ssh_port = ?, ssh_user = ? where ticket = ?',
        ssh?.host ?? null,
        ssh?.host ?? null,
        ssh?.port ?? null,
        ssh?.user ?? null,
        ticket,
      ),
    setWorkAtRisk: (ticket: Ticket, found: UnsavedWork | null) =>
      void run(
        'update environment set work_at_risk = ? where ticket = ?',
        found === null ? null : JSON.stringify(found),
        ticket,
      ),
    remove: (ticket: Ticket) => void run('delete from environment where ticket = ?', ticket),
    addCheckpoint: (ticket: Ticket, checkpoint: Checkpoint) =>
      void run(
        `insert or replace into checkpoint (ticket, name, why, commit_sha, created_at, with_memory, size_bytes)
         values (?, ?, ?, ?, ?, ?, ?)`,
        ticket,
        checkpoint.name,
        checkpoint.why,
        checkpoint.commit,
        checkpoint.createdAt,
        checkpoint.withMemory ? 1 : 0,
        checkpoint.sizeBytes,
      ),
    removeCheckpoint: (ticket: Ticket, name: string) =>
      void run('delete from checkpoint where ticket = ? and name = ?', ticket, name),

    /** Journals an intent and returns its id. */
    startOperation: (operation: {
      actionId: string | null
      correlation: string | null
      ticket: Ticket
      kind: ActionKind
      by: Requester
      at: string
    }): number =>
      Number(
        run(
          'insert into operation (action_id, correlation, ticket, kind, asked_by, started_at) values (?, ?, ?, ?, ?, ?)',
          operation.actionId,
          operation.correlation,
          operation.ticket,
          operation.kind,
          JSON.stringify(operation.by),
          operation.at,
        ).lastInsertRowid,
      ),
    setDetail: (id: number, detail: OperationDetail) =>
      void run('update operation set detail = ? where id = ?', JSON.stringify(detail), id),
    /** What the attempts of this action had resolved so far, oldest first. */
    attempts: (actionId: string): Attempt[] =>
      all('select detail, result from operation where action_id = ? and detail is not null order by id', actionId).map(
        row => ({ detail: json<OperationDetail>(row.detail) ?? {}, result: row.result as OperationRow['result'] }),
      ),
    addPhase: (id: number, { phase, at }: Progress) =>
      void run(
        `update operation set phases = json_insert(phases, '$[#]', json_object('phase', ?, 'at', ?)) where id = ?`,
        phase,
        at,
        id,
      ),
    endOperation: (id: number, at: string, result: NonNullable<OperationRow['result']>, outcome: Outcome | null) =>
      void run(
        'update operation set ended_at = ?, result = ?, outcome = ? where id = ?',
        at,
        result,
        outcome === null ? null : JSON.stringify(outcome),
        id,
      ),
    /** What an action of the queue came to, if it was finished here before: its runner died before it could tell. */
    outcomeOf: (actionId: string): Outcome | null => {
      const row = one(
        `select outcome from operation where action_id = ? and result in ('done','skipped') order by id desc`,
        actionId,
      )
      return row === undefined ? null : json<Outcome>(row.outcome)
    },
    /** What people last asked for by hand on each ticket that changes how its machine is, of the last `limit` tickets. */
    askedByHand: (limit: number): ManualOperation[] =>
      all(
        `select max(id) as id, ticket, kind, asked_by, started_at from operation
         where ${BY_HAND}
         group by ticket order by id desc limit ?`,
        limit,
      ).map(row => ({
        id: row.id as number,
        ticket: row.ticket as Ticket,
        kind: row.kind as ActionKind,
        by: json<Requester>(row.asked_by) ?? { via: 'cli', who: null },
        at: row.started_at as string,
      })),
    openOperations: (ticket?: Ticket): OperationRow[] =>
      (ticket === undefined
        ? all('select * from operation where ended_at is null order by id')
        : all('select * from operation where ended_at is null and ticket = ? order by id', ticket)
      ).map(operationFrom),
    operations: (ticket: Ticket, limit: number): OperationRow[] =>
      all('select * from operation where ticket = ? order by id desc limit ?', ticket, limit).map(operationFrom),

    beginWaiting: ({ pid, ticket, kind, by, since }: WaitingRow): number =>
      Number(
        run(
          'insert into waiting (pid, ticket, kind, asked_by, since) values (?, ?, ?, ?, ?)',
          pid,
          ticket,
          kind,
          JSON.stringify(by),
          since,
        ).lastInsertRowid,
      ),
    endWaiting: (id: number) => void run('delete from waiting where id = ?', id),
    /** Oldest first, those of dead processes too. */
    waiting: (): (WaitingRow & { id: number })[] =>
      all('select * from waiting order by id').map(row => ({
        id: row.id as number,
        pid: row.pid as number,
        ticket: row.ticket as Ticket,
        kind: row.kind as ActionKind,
        by: json<Requester>(row.asked_by) ?? { via: 'cli', who: null },
        since: row.since as string,
      })),

    /** What the bot has queued for this runner, as it said last (ISO 8601 UTC). Nothing is written while nothing is queued. */
    setQueued: (at: string, queued: HeartbeatResponse['waiting']): void => {
      if (queued.length > 0)
        run('insert or replace into meta (key, value) values (?, ?)', 'queued', JSON.stringify({ at, queued }))
      else if (one('select 1 from meta where key = ?', 'queued') !== undefined)
        run('delete from meta where key = ?', 'queued')
    },
    queued: (): { at: string; queued: HeartbeatResponse['waiting'] } | null =>
      json(one('select value from meta where key = ?', 'queued')?.value),

    /** Where the hosts are kept for ssh, and what was made for it. */
    sshConfig: (): InstalledSshConfig | null => json(one('select value from meta where key = ?', 'ssh-config')?.value),
    setSshConfig: (installed: InstalledSshConfig | null): void => {
      if (installed === null) run('delete from meta where key = ?', 'ssh-config')
      else run('insert or replace into meta (key, value) values (?, ?)', 'ssh-config', JSON.stringify(installed))
    },
    /** Runs `work` while no other process writes here. */
    exclusively: transaction,

    /** Changes whenever another process has written. */
    dataVersion: (): number => Number(one('pragma data_version')?.data_version ?? 0),
    /** Who this registry is, to a bot: made once. */
    runnerId: (): string => {
      run('insert or ignore into meta (key, value) values (?, ?)', 'runner-id', crypto.randomUUID())
      return one('select value from meta where key = ?', 'runner-id')?.value as string
    },
    close: () => db.close(),
  }
}
