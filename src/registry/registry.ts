/**
 * The registry: environments, checkpoints, machines without a ticket, and the journal of operations. Synchronous, on local
 * disk; several processes (CLI, runner) may have it open at once.
 */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { settleRestored } from '../backups.ts'
import { openLockWait, PATIENCE_MS } from '../free-lock.ts'
import { agentQueries } from './agents.ts'
import { type Database, openRegistryDatabase } from './database.ts'
import { attemptQueries, checkpointQueries, environmentQueries } from './environments.ts'
import { idlenessQueries } from './idleness.ts'
import { machineQueries } from './machines.ts'
import { metaQueries } from './meta.ts'
import { operationQueries, waitingQueries } from './operations.ts'
import { poolQueries } from './pool.ts'
import { projectQueries } from './projects.ts'
import { purgeRegistry } from './purge.ts'

export type { AgentEnding, AgentMessage, AgentRow, AgentUse } from './agents.ts'
export type { Desired, EnvironmentRow } from './environments.ts'
export type { Idleness } from './idleness.ts'
export type { Try } from './operations.ts'
export type { FailedClaims, MadeOf, PoolMachine } from './pool.ts'
export type { ProjectRow } from './projects.ts'

export type Registry = ReturnType<typeof openRegistry>

/**
 * A backup that took the registry's place: what was under way then has ended since, one way or another. Nothing of it is finished
 * or undone, no machine is deleted for it, and no agent starts for it: the reconciler looks at what is there now.
 */
const distrust = ({ run }: Database): void => {
  run(
    `update operation set ended_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), result = 'interrupted' where ended_at is null`,
  )
  run(`update environment set desired = 'stopped' where desired = 'absent'`)
  // It may have been handed out since: in no pool of the settings, it is given up once its mark shows that it has no ticket.
  run(`update machine set state = 'ready', pool = '' where state is not null`)
  run(`update environment set status = 'running' where status in ('creating','deleting')`)
  run(
    `update agent set report = json_set(report, '$.state', 'ended', '$.result', 'stopped',
       '$.endedAt', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), '$.reason', 'the registry was restored from a backup')
     where report ->> '$.state' = 'wanted'`,
  )
  run('delete from agent_message where run is null')
  run('delete from waiting')
}

/** Opens `path`; creates it and its folder (0700) when it does not exist. */
export const openRegistry = (path: string) => {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const database = openRegistryDatabase(path)
  settleRestored(database, () => distrust(database))
  return {
    ...environmentQueries(database),
    ...attemptQueries(database),
    ...checkpointQueries(database),
    ...operationQueries(database),
    ...idlenessQueries(database),
    ...machineQueries(database),
    ...poolQueries(database),
    ...projectQueries(database),
    ...agentQueries(database),
    ...waitingQueries(database),
    ...metaQueries(database),
    /** Resolves when no other process writes here: before work that would wait for that where nothing else goes on. */
    unlocked: openLockWait(path, () => {
      database.db.exec('pragma busy_timeout = 0')
      try {
        database.db.exec('begin immediate; rollback')
      } finally {
        database.db.exec(`pragma busy_timeout = ${PATIENCE_MS}`)
      }
    }),
    purge: (limits: { before: string; pinned: readonly string[] }, isStopped: () => boolean) =>
      purgeRegistry(database, limits, isStopped),
    /** Runs `work` while no other process writes here. */
    exclusively: database.transaction,
    close: () => database.db.close(),
  }
}
