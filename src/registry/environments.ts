/** Environments with their checkpoints, and the former keys of their tickets. */
import type { CheckpointName, ProviderName, Ticket } from '../domain.ts'
import { checkName } from '../errors.ts'
import type { Requester } from '../schema/action.ts'
import type { Checkpoint, Environment, EnvironmentStatus, SshAddress, UnsavedWork } from '../schema/environment.ts'
import { type Cell, type Database, type Row, readJson, readRequester } from './database.ts'

/** Those with a ticket. */
const TABLES = [
  ...['environment', 'checkpoint', 'operation', 'waiting', 'alias'],
  ...['project', 'push', 'pushed_commit', 'note', 'agent', 'agent_message', 'idleness'],
]

/** The state that people and events want a machine in. */
export type Desired = 'running' | 'stopped' | 'absent'

/** `unsavedWork`: the result of the last stop or delete; null when there was none since the machine last ran. */
export type EnvironmentRow = Omit<
  Environment,
  'checkpoints' | 'observedAt' | 'project' | 'agent' | 'pushes' | 'note'
> & {
  desired: Desired
  desiredBy: Requester
}

/** `operation`: the one that creates it. */
export type NewEnvironment = Pick<Environment, 'ticket' | 'provider' | 'vmId' | 'baseImage'> & {
  by: Requester
  operation: number
}

/** What it is now is what it is wanted. */
export type AdoptedEnvironment = Omit<NewEnvironment, 'by' | 'operation'> & { status: 'running' | 'stopped' }

const COLUMNS = `ticket, provider, vm_id, base_image, ip, status,
  iif(instr(created_at, 'T'), created_at, replace(created_at, ' ', 'T') || 'Z'), created_by, desired, desired_by,
  ssh_host, ssh_port, ssh_user, work_at_risk`
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
})

export const environmentQueries = ({ arrays, first, run, transaction, db }: Database) => ({
  /** By project, then by number: the longer of two numbers is the larger. */
  environments: (): EnvironmentRow[] =>
    arrays(
      `select ${COLUMNS} from environment order by substr(ticket, 1, instr(ticket, '-')), length(ticket), ticket`,
    ).map(environmentFrom),
  environment: (ticket: Ticket): EnvironmentRow | null => {
    const [row] = arrays(`select ${COLUMNS} from environment where ticket = ?`, ticket)
    return row === undefined ? null : environmentFrom(row)
  },
  environmentOfMachine: (vmId: string): EnvironmentRow | null => {
    const [row] = arrays(`select ${COLUMNS} from environment where vm_id = ?`, vmId)
    return row === undefined ? null : environmentFrom(row)
  },

  /** The intent to create a machine, on disk before the first outside command: its row, and its name in the journal. */
  begin: ({ ticket, provider, vmId, baseImage, by, operation }: NewEnvironment): void =>
    transaction(() => {
      checkName('ticket', ticket)
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
    }),
  /** A machine that exists without a row, for example since the registry was lost. Nobody knows who wanted it. */
  adopt: ({ ticket, provider, vmId, baseImage, status }: AdoptedEnvironment): void =>
    transaction(() => {
      checkName('ticket', ticket)
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
    run(`delete from idleness where ticket = ? and coalesce(report ->> '$.state', 'warned') ${isOver} 'warned'`, ticket)
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
      run(
        `delete from machine where state = 'claimed' and vm_id = (select vm_id from environment where ticket = ?)`,
        ticket,
      )
      run('delete from environment where ticket = ?', ticket)
    }),

  /** The key that the ticket has now, when its environment was moved from this one; null otherwise. */
  movedTo: (ticket: Ticket): Ticket | null =>
    (first('select ticket from alias where alias = ?', ticket)?.ticket as Ticket | undefined) ?? null,
  /** Gives everything that `from` has the key `to`, which has no machine. `from` becomes an alias of it. */
  renameTicket: (from: Ticket, to: Ticket): void =>
    transaction(() => {
      checkName('ticket', to)
      // The checkpoints refer to their environment's key until both have the new one.
      db.exec('pragma defer_foreign_keys = on')
      for (const table of TABLES) run(`update ${table} set ticket = ? where ticket = ?`, to, from)
      run('delete from alias where alias = ?', to)
      run('insert or replace into alias (alias, ticket) values (?, ?)', from, to)
    }),
})

const CHECKPOINT_COLUMNS = `ticket, name, why, commit_sha as "commit", created_at as createdAt, with_memory as withMemory,
  size_bytes as sizeBytes`
const checkpointFrom = ({ ticket: _, ...row }: Row) => ({ ...row, withMemory: row.withMemory === 1 }) as Checkpoint

export const checkpointQueries = ({ all, run }: Database) => ({
  /** Oldest first. */
  checkpoints: (ticket: Ticket): Checkpoint[] =>
    all(`select ${CHECKPOINT_COLUMNS} from checkpoint where ticket = ? order by created_at, name`, ticket).map(
      checkpointFrom,
    ),
  /** Of all tickets in one query, each ticket's oldest first. */
  checkpointsByTicket: (): Map<Ticket, Checkpoint[]> =>
    new Map(
      [
        ...Map.groupBy(
          all(`select ${CHECKPOINT_COLUMNS} from checkpoint order by ticket, created_at, name`),
          row => row.ticket as Ticket,
        ),
      ].map(([ticket, rows]) => [ticket, rows.map(checkpointFrom)]),
    ),
  addCheckpoint: (ticket: Ticket, checkpoint: Checkpoint) => {
    const { name, why, commit, createdAt, withMemory, sizeBytes } = checkpoint
    checkName('checkpoint', name)
    run(
      `insert or replace into checkpoint (ticket, name, why, commit_sha, created_at, with_memory, size_bytes)
       values (?, ?, ?, ?, ?, ?, ?)`,
      ...[ticket, name, why, commit, createdAt, withMemory ? 1 : 0, sizeBytes],
    )
  },
  removeCheckpoint: (ticket: Ticket, name: CheckpointName) =>
    void run('delete from checkpoint where ticket = ? and name = ?', ticket, name),
})
