/** Environments with their checkpoints, and the former keys of their tickets. */
import {
  attemptKey,
  attemptOf,
  type CheckpointName,
  type EnvironmentKey,
  MAX_ATTEMPTS,
  type ProviderName,
  type Ticket,
  ticketOf,
  withTicket,
} from '../domain.ts'
import { checkName } from '../errors.ts'
import type { Requester } from '../schema/action.ts'
import type { Checkpoint, Environment, EnvironmentStatus, SshAddress, UnsavedWork } from '../schema/environment.ts'
import { type Cell, type Database, type Row, readJson, readRequester } from './database.ts'

/** Those with a ticket. */
const TABLES = [
  ...['environment', 'checkpoint', 'operation', 'waiting', 'alias'],
  ...['project', 'push', 'pushed_commit', 'note', 'agent', 'agent_message', 'idleness'],
]

/** Those with the machine itself: a ticket keeps its history when it gets another one. */
const ITS_OWN = TABLES.filter(table => !['operation', 'waiting', 'alias'].includes(table))

/** The state that people and events want a machine in. */
export type Desired = 'running' | 'stopped' | 'absent'

/** `unsavedWork`: the result of the last stop or delete; null when there was none since the machine last ran. */
export type EnvironmentRow = Omit<
  Environment,
  'checkpoints' | 'observedAt' | 'project' | 'agent' | 'pushes' | 'note'
> & {
  desired: Desired
  desiredBy: Requester
  /** Another attempt was promoted: this one goes, by the rules of a delete. */
  dismissed?: true
}

/** `operation`: the one that creates it. */
export type NewEnvironment = Pick<Environment, 'ticket' | 'provider' | 'vmId' | 'baseImage'> & {
  by: Requester
  operation: number
}

/** Its present state becomes the desired one. */
export type AdoptedEnvironment = Omit<NewEnvironment, 'by' | 'operation'> & { status: 'running' | 'stopped' }

const COLUMNS = `ticket, provider, vm_id, base_image, ip, status,
  iif(instr(created_at, 'T'), created_at, replace(created_at, ' ', 'T') || 'Z'), created_by, desired, desired_by,
  ssh_host, ssh_port, ssh_user, work_at_risk, attempt_of, forked_from, dismissed`
/** Cells in the order of COLUMNS. Destructuring them by names would take five times as long. */
const environmentFrom = (row: Cell[]): EnvironmentRow => ({
  ticket: row[0] as Ticket,
  provider: row[1] as ProviderName,
  vmId: row[2] as string,
  baseImage: row[3] as string,
  ip: row[4] as string | null,
  status: row[5] as EnvironmentStatus,
  createdAt: row[6] as string,
  createdBy: readRequester(row[7]),
  desired: row[8] as Desired,
  desiredBy: readRequester(row[9]),
  ssh: row[10] === null ? null : { host: row[10] as string, port: row[11] as number, user: row[12] as string },
  unsavedWork: readJson<UnsavedWork>(row[13]),
  ...(row[14] === null ? {} : { attempt: { of: row[14] as EnvironmentKey, from: row[15] as CheckpointName | null } }),
  ...(row[16] === 1 ? { dismissed: true as const } : {}),
})

/** By project, then by number: the longer of two numbers is the larger. A ticket, then its attempts. */
const ORDER = `substr(ticket, 1, instr(ticket, '-')), instr(ticket || '~', '~'), substr(ticket || '~', 1, instr(ticket || '~', '~')),
  length(ticket), ticket`
/** The keys of a ticket's attempts; `:` follows the digits. */
export const ITS_ATTEMPTS = `ticket > ?1 || '~' and ticket < ?1 || '~:'`

/** How an environment gets another key. */
const renames = ({ all, first, run, db }: Database) => {
  /** The keys of a ticket's attempts, in order. */
  const attempts = (ticket: Ticket): EnvironmentKey[] =>
    all(`select ticket from environment where ${ITS_ATTEMPTS} order by ${ORDER}`, ticket).map(
      row => row.ticket as EnvironmentKey,
    )
  const noteLast = (ticket: Ticket, number: number): void =>
    void run(
      `insert into attempt_number (ticket, last) values (?1, ?2) on conflict (ticket) do update set last = max(last, ?2)`,
      ...[ticket, number],
    )
  /** The attempt has been there: its number is not given again. A fork that was undone has made none. */
  const noteNumber = (key: EnvironmentKey): void => {
    const number = attemptOf(key)
    const made = `select 1 from environment where ticket = ? and status not in ('creating','failed')`
    if (number !== null && first(made, key) !== undefined) noteLast(ticketOf(key), number)
  }
  const lastNumber = (ticket: Ticket): number => {
    const noted = first('select last from attempt_number where ticket = ?', ticket)?.last
    return Math.max(Number(noted ?? 0), ...attempts(ticket).map(key => attemptOf(key) ?? 0))
  }
  /**
   * Keys of new attempts, with numbers that no attempt of this ticket has had: a branch may be left of it. Fewer than `count` when
   * these are used up.
   */
  const newAttempts = (ticket: Ticket, count: number): EnvironmentKey[] => {
    const last = lastNumber(ticket)
    return Array.from({ length: Math.min(count, MAX_ATTEMPTS - last) }, (_, n) => attemptKey(ticket, last + 1 + n))
  }
  /** For a machine that must get a key: a new one, or where these are used up, one that no attempt has now. */
  const freeAttempt = (ticket: Ticket): EnvironmentKey => {
    const taken = attempts(ticket)
    const keys = Array.from({ length: MAX_ATTEMPTS }, (_, n) => attemptKey(ticket, n + 1))
    return newAttempts(ticket, 1)[0] ?? keys.find(key => !taken.includes(key)) ?? attemptKey(ticket, MAX_ATTEMPTS)
  }
  const rename = (from: EnvironmentKey, to: EnvironmentKey, tables: readonly string[]): void => {
    noteNumber(from)
    // The checkpoints refer to their environment's key until both have the new one.
    db.exec('pragma defer_foreign_keys = on')
    for (const table of tables) run(`update ${table} set ticket = ? where ticket = ?`, to, from)
    run('update environment set attempt_of = ? where attempt_of = ?', to, from)
  }
  return { attempts, newAttempts, freeAttempt, noteNumber, noteLast, lastNumber, rename }
}

/** The row of a machine that is going to be made, and its name in the journal. */
export const insertEnvironment = (
  { run }: Database,
  { ticket, provider, vmId, baseImage, by, operation }: NewEnvironment,
): void => {
  checkName('environment', ticket)
  checkName('provider', provider)
  checkName('machine', vmId)
  checkName('image', baseImage)
  const requester = JSON.stringify(by)
  run(
    `insert into environment (ticket, provider, vm_id, base_image, status, desired, desired_by, created_by)
     values (?, ?, ?, ?, 'creating', 'running', ?, ?)`,
    ...[ticket, provider, vmId, baseImage, requester, requester],
  )
  run('delete from alias where alias = ?', ticket)
  run('update operation set vm_id = ? where id = ?', vmId, operation)
}

export const environmentQueries = (database: Database) => {
  const { arrays, first, run, transaction } = database
  const { attempts, freeAttempt, noteNumber, noteLast, lastNumber, rename } = renames(database)
  return {
    environments: (): EnvironmentRow[] =>
      arrays(`select ${COLUMNS} from environment order by ${ORDER}`).map(environmentFrom),
    environment: (ticket: Ticket): EnvironmentRow | null => {
      const [row] = arrays(`select ${COLUMNS} from environment where ticket = ?`, ticket)
      return row === undefined ? null : environmentFrom(row)
    },
    environmentOfMachine: (vmId: string): EnvironmentRow | null => {
      const [row] = arrays(`select ${COLUMNS} from environment where vm_id = ?`, vmId)
      return row === undefined ? null : environmentFrom(row)
    },

    /** The intent to create a machine, on disk before the first outside command: its row, and its name in the journal. */
    begin: (wanted: NewEnvironment): void => transaction(() => insertEnvironment(database, wanted)),
    /** A machine that exists without a row, for example since the registry was lost. Nobody knows who wanted it. */
    adopt: ({ ticket, provider, vmId, baseImage, status }: AdoptedEnvironment): void =>
      transaction(() => {
        checkName('environment', ticket)
        checkName('provider', provider)
        checkName('machine', vmId)
        checkName('image', baseImage)
        run(
          'insert into environment (ticket, provider, vm_id, base_image, status, desired) values (?, ?, ?, ?, ?, ?)',
          ...[ticket, provider, vmId, baseImage, status, status],
        )
        run('delete from alias where alias = ?', ticket)
      }),
    setStatus: (ticket: Ticket, status: EnvironmentStatus): void => {
      run('update environment set status = ? where ticket = ? and status <> ?', status, ticket, status)
      // What runs does not sleep any more, and of what does not run nobody needs a warning.
      const isOver = status === 'running' ? '<>' : '='
      run(
        `delete from idleness where ticket = ? and coalesce(report ->> '$.state', 'warned') ${isOver} 'warned'`,
        ticket,
      )
    },
    setDesired: (ticket: Ticket, desired: Desired, by: Requester) =>
      void run(
        'update environment set desired = ?, desired_by = ? where ticket = ?',
        ...[desired, JSON.stringify(by), ticket],
      ),
    setAddress: (ticket: Ticket, ssh: SshAddress | null) => {
      const host = ssh?.host ?? null
      run(
        'update environment set ip = ?, ssh_host = ?, ssh_port = ?, ssh_user = ? where ticket = ?',
        ...[host, host, ssh?.port ?? null, ssh?.user ?? null, ticket],
      )
    },
    setUnsavedWork: (ticket: Ticket, work: UnsavedWork | null) =>
      void run(
        'update environment set work_at_risk = ? where ticket = ?',
        work === null ? null : JSON.stringify(work),
        ticket,
      ),
    /** With its checkpoints. Its operations stay. */
    remove: (ticket: Ticket): void =>
      transaction(() => {
        noteNumber(ticket)
        run(
          `delete from machine where state = 'claimed' and vm_id = (select vm_id from environment where ticket = ?)`,
          ticket,
        )
        run('delete from environment where ticket = ?', ticket)
        // With the last machine of a ticket, its budget begins anew.
        run(
          `delete from agent_use where ticket = ?1
             and not exists (select 1 from environment where ticket = ?1 or (${ITS_ATTEMPTS}))`,
          ticketOf(ticket),
        )
      }),

    /** The key that the ticket has now, when its environment was moved from this one; null otherwise. */
    movedTo: (key: EnvironmentKey): EnvironmentKey | null => {
      const row = first('select ticket from alias where alias = ?', ticketOf(key))
      return row === undefined ? null : withTicket(key, row.ticket as Ticket)
    },
    /** Gives everything that `from` has the key `to`, which has no machine, and its attempts too. `from` becomes an alias of it. */
    renameTicket: (from: Ticket, to: Ticket): void =>
      transaction(() => {
        checkName('ticket', to)
        noteLast(to, lastNumber(from))
        for (const key of attempts(from)) {
          const same = withTicket(key, to)
          rename(key, attempts(to).includes(same) ? freeAttempt(to) : same, TABLES)
        }
        rename(from, to, TABLES)
        // Attempts under the new key have used something, too.
        run(
          `insert into agent_use select ?1, tokens, usd from agent_use where ticket = ?2
           on conflict (ticket) do update set tokens = tokens + excluded.tokens, usd = usd + excluded.usd`,
          ...[to, from],
        )
        run('delete from agent_use where ticket = ?', from)
        run('delete from alias where alias = ?', to)
        run('insert or replace into alias (alias, ticket) values (?, ?)', from, to)
      }),
  }
}

export const attemptQueries = (database: Database) => {
  const { first, run, transaction } = database
  const { attempts, newAttempts, freeAttempt, rename } = renames(database)
  return {
    attempts,
    newAttempts,
    freeAttempt,
    /** It was forked from another environment. */
    setAttempt: (key: EnvironmentKey, { of, from }: NonNullable<EnvironmentRow['attempt']>): void =>
      void run('update environment set attempt_of = ?, forked_from = ? where ticket = ?', of, from, key),
    /**
     * Makes the attempt the machine of its ticket. The former machine becomes an attempt, and it and all others are to go: their
     * keys are returned, and that of the former machine by itself. The ticket keeps its history, and gets the attempt's.
     */
    promote: (key: EnvironmentKey): { others: EnvironmentKey[]; former: EnvironmentKey | null } =>
      transaction(() => {
        const ticket = ticketOf(key)
        const others = attempts(ticket).filter(each => each !== key)
        const hasMachine = first('select 1 from environment where ticket = ?', ticket) !== undefined
        const former = hasMachine ? freeAttempt(ticket) : null
        if (former !== null) {
          rename(ticket, former, ITS_OWN)
          others.push(former)
        }
        rename(key, ticket, [...ITS_OWN, 'operation'])
        // An earlier promote may have dismissed it: whoever chooses it now keeps it.
        run('update environment set attempt_of = null, forked_from = null, dismissed = 0 where ticket = ?', ticket)
        run('delete from alias where alias = ?', ticket)
        for (const other of others) run('update environment set dismissed = 1 where ticket = ?', other)
        return { others, former }
      }),
    /** It stays after all, for example since its work could not be saved. */
    keep: (key: EnvironmentKey): void =>
      void run('update environment set dismissed = 0 where ticket = ? and dismissed = 1', key),
  }
}

const CHECKPOINT_COLUMNS = `ticket, name, why, commit_sha as "commit", created_at as createdAt, with_memory as withMemory,
  size_bytes as sizeBytes`
/** Those that were made before an earlier version of this registry, or that only the provider knew, share a place. */
const CHECKPOINT_ORDER = 'place, created_at, name'
const checkpointFrom = ({ ticket: _, ...row }: Row) => ({ ...row, withMemory: row.withMemory === 1 }) as Checkpoint

export const checkpointQueries = ({ all, run }: Database) => ({
  /** Oldest first. */
  checkpoints: (ticket: Ticket): Checkpoint[] =>
    all(`select ${CHECKPOINT_COLUMNS} from checkpoint where ticket = ? order by ${CHECKPOINT_ORDER}`, ticket).map(
      checkpointFrom,
    ),
  /** Of all tickets in one query, each ticket's oldest first. */
  checkpointsByTicket: (): Map<Ticket, Checkpoint[]> =>
    new Map(
      [
        ...Map.groupBy(
          all(`select ${CHECKPOINT_COLUMNS} from checkpoint order by ticket, ${CHECKPOINT_ORDER}`),
          row => row.ticket as Ticket,
        ),
      ].map(([ticket, rows]) => [ticket, rows.map(checkpointFrom)]),
    ),
  /** `successor`: of this ticket, and made next; null: this one is the newest. */
  addCheckpoint: (ticket: Ticket, checkpoint: Checkpoint, successor: CheckpointName | null = null) => {
    const { name, why, commit, createdAt, withMemory, sizeBytes } = checkpoint
    checkName('checkpoint', name)
    run(
      `insert or replace into checkpoint (ticket, name, why, commit_sha, created_at, with_memory, size_bytes, place)
       values (?1, ?2, ?3, ?4, ?5, ?6, ?7, coalesce((select place from checkpoint where ticket = ?1 and name = ?8),
         (select max(place) + 1 from checkpoint where ticket = ?1), 1))`,
      ...[ticket, name, why, commit, createdAt, withMemory ? 1 : 0, sizeBytes, successor],
    )
  },
  removeCheckpoint: (ticket: Ticket, name: CheckpointName) =>
    void run('delete from checkpoint where ticket = ? and name = ?', ticket, name),
})
