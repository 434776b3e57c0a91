/** Machines that are kept ready for creates, and what is known of each pool. */
import type { ProviderName } from '../domain.ts'
import { checkName } from '../errors.ts'
import type { Requester } from '../schema/action.ts'
import type { MachineSize } from '../schema/basics.ts'
import type { Pool } from '../schema/pool.ts'
import { type Database, type Row, readJson } from './database.ts'
import { insertEnvironment, type NewEnvironment } from './environments.ts'

/**
 * `filling`: it is being made. `template`: it is stopped, and others are forked from its checkpoint. `leaving`: it is being deleted.
 * `claimed`: it is the machine of an environment whose create has not ended.
 */
type PoolState = 'filling' | 'template' | 'ready' | 'leaving' | 'claimed'

/** What a machine must be made of to be handed out. A change of any of it but the commit makes the machines of before useless. */
export type MadeOf = MachineSize & {
  image: string
  /** Null: it has no project. */
  repository: string | null
  /** Of the repository's default branch. */
  commit: string | null
  /** A hash of what the operator's `workspace` says of the repository; null: nothing. */
  workspace: string | null
  /** Of the hypervisor's programs, which wrote its memory; null: the provider does not tell. */
  versions: string | null
}

export type PoolMachine = {
  vmId: string
  provider: ProviderName
  pool: string
  state: PoolState
  /** Of the state, ISO 8601. */
  since: string
  hold: Pool['hold']
  madeOf: MadeOf
  /** The folder of its project in it; null without one. */
  path: string | null
  /** The guest's; null before it was asked, and for a guest that has none of its own. */
  machineId: string | null
}
type NewPoolMachine = Omit<PoolMachine, 'state' | 'since' | 'path' | 'machineId'>

/** What the last look at a pool found. `problem`: why it has fewer machines ready than it should, or why a create could not take one. */
type PoolLook = { madeOf: MadeOf | null; problem: string | null; at: string }
/** Claims that failed since one succeeded, of machines that are made of the same, whatever their commit. `at`: the last one, ISO 8601. */
export type FailedClaims = { count: number; at: string }

const COLUMNS = `vm_id as vmId, provider, pool, state, since, hold, made_of as madeOf, path,
  machine_id as machineId`
/** Machines of a former commit are still handed out, so a new one does not end the doubts about them. */
const IS_LIKE_BEFORE = "json_remove(made_of, '$.commit') is json_remove(excluded.made_of, '$.commit')"
const machineFrom = (row: Row) => ({ ...row, madeOf: readJson<MadeOf>(row.madeOf) }) as PoolMachine

export const poolQueries = (database: Database) => {
  const { all, first, run, transaction } = database
  /** Whether the machine was in one of these states, and is in `to` now. */
  const pass = (vmId: string, from: readonly PoolState[], to: PoolState, at: string): boolean =>
    first(
      `update machine set state = ?, since = ? where vm_id = ? and state in (select value from json_each(?)) returning vm_id`,
      ...[to, at, vmId, JSON.stringify(from)],
    ) !== undefined
  return {
    /** The one that has been there longest first. */
    poolMachines: (): PoolMachine[] =>
      all(`select ${COLUMNS} from machine where purpose = 'pool' and state is not null order by since, vm_id`).map(
        machineFrom,
      ),
    poolMachine: (vmId: string): PoolMachine | null => {
      const row = first(`select ${COLUMNS} from machine where vm_id = ? and state is not null`, vmId)
      return row === undefined ? null : machineFrom(row)
    },
    /** The intent to make it, on disk before the first outside command. */
    beginPoolMachine: (machine: NewPoolMachine, { by, at }: { by: Requester; at: string }): void =>
      transaction(() => {
        const { vmId, provider, pool, hold, madeOf } = machine
        checkName('machine', vmId)
        checkName('provider', provider)
        run(
          `insert into machine (vm_id, provider, purpose, pool, state, since, hold, made_of)
           values (?, ?, 'pool', ?, 'filling', ?, ?, ?)`,
          ...[vmId, provider, pool, at, hold, JSON.stringify(madeOf)],
        )
        run(
          `insert into operation (vm_id, kind, asked_by, started_at) values (?, 'fill-pool', ?, ?)`,
          ...[vmId, JSON.stringify(by), at],
        )
      }),
    /** False: it was given up meanwhile. */
    endFilling: (
      vmId: string,
      to: 'ready' | 'template',
      { path, machineId }: Pick<PoolMachine, 'path' | 'machineId'>,
      at: string,
    ): boolean =>
      transaction(() => {
        if (!pass(vmId, ['filling'], to, at)) return false
        run('update machine set path = ?, machine_id = ? where vm_id = ?', path, machineId, vmId)
        run(
          `update operation set ended_at = ?, result = 'done' where vm_id = ? and ticket is null and ended_at is null`,
          ...[at, vmId],
        )
        return true
      }),
    /** It will not be handed out any more. False: it was claimed, or is gone. */
    leavePool: (vmId: string, at: string): boolean => pass(vmId, ['filling', 'template', 'ready'], 'leaving', at),
    /** It becomes the machine of an environment, in one step for everybody. False: somebody else has it, or it is gone. */
    claimMachine: (wanted: NewEnvironment, at: string): boolean =>
      transaction(() => {
        if (!pass(wanted.vmId, ['ready'], 'claimed', at)) return false
        insertEnvironment(database, wanted)
        return true
      }),
    /**
     * Forgets the claims that have ended: their environment has answered and knows where its project is, or is gone. Writes nothing
     * when there are none.
     */
    endClaims: (): void => {
      const ended = `state = 'claimed' and not exists (
        select 1 from environment where environment.vm_id = machine.vm_id and (status in ('creating', 'failed')
          or (machine.path is not null and not exists (select 1 from project where project.ticket = environment.ticket))))`
      if (first(`select 1 from machine where ${ended}`) !== undefined) run(`delete from machine where ${ended}`)
    },
    /** Why claims fail stays the problem while nothing else is one. Machines that are made of something else may be better. */
    setPoolLook: (pool: string, { madeOf, problem, at }: PoolLook): void =>
      void run(
        `insert into pool (name, made_of, problem, at) values (?, ?, ?, ?)
         on conflict (name) do update set at = excluded.at, made_of = excluded.made_of,
           failed_claims = iif(${IS_LIKE_BEFORE}, failed_claims, 0),
           problem = iif(${IS_LIKE_BEFORE} and failed_claims > 0, coalesce(excluded.problem, problem), excluded.problem)`,
        ...[pool, madeOf === null ? null : JSON.stringify(madeOf), problem, at],
      ),
    poolLook: (pool: string): (PoolLook & { failedClaims: FailedClaims | null }) | null => {
      const row = first(
        'select made_of as madeOf, problem, at, failed_claims as count, failed_at as failedAt from pool where name = ?',
        pool,
      )
      if (row === undefined) return null
      const { madeOf, problem, at, count, failedAt } = row
      return {
        ...{ madeOf: readJson<MadeOf>(madeOf), problem: problem as string | null, at: at as string },
        failedClaims: count === 0 ? null : { count: Number(count), at: failedAt as string },
      }
    },
    claimFailed: (pool: string, problem: string, at: string): void =>
      void run(
        'update pool set failed_claims = failed_claims + 1, failed_at = ?, problem = ? where name = ?',
        ...[at, problem, pool],
      ),
    claimSucceeded: (pool: string): void =>
      void run('update pool set failed_claims = 0, problem = null where name = ? and failed_claims > 0', pool),
  }
}
