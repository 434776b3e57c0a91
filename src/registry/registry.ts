/**
 * The registry: environments, checkpoints, machines without a ticket, and the journal of operations. Synchronous, on local
 * disk; several processes (CLI, runner) may have it open at once.
 */
import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { agentQueries } from './agents.ts'
import { openRegistryDatabase } from './database.ts'
import { checkpointQueries, environmentQueries } from './environments.ts'
import { machineQueries } from './machines.ts'
import { metaQueries } from './meta.ts'
import { operationQueries, waitingQueries } from './operations.ts'
import { projectQueries } from './projects.ts'

export type { AgentEnding, AgentMessage, AgentRow } from './agents.ts'
export type { Desired, EnvironmentRow } from './environments.ts'
export type { Attempt } from './operations.ts'
export type { ProjectRow } from './projects.ts'

export type Registry = ReturnType<typeof openRegistry>

/** Opens `path`; creates it and its folder (0700) when it does not exist. */
export const openRegistry = (path: string) => {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const database = openRegistryDatabase(path)
  return {
    ...environmentQueries(database),
    ...checkpointQueries(database),
    ...operationQueries(database),
    ...machineQueries(database),
    ...projectQueries(database),
    ...agentQueries(database),
    ...waitingQueries(database),
    ...metaQueries(database),
    /** Runs `work` while no other process writes here. */
    exclusively: database.transaction,
    close: () => database.db.close(),
  }
}
