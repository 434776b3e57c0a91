/** The agents of this host: their supervisor, and the way to their models. */
import type { EnvironmentKey } from '../../domain.ts'
import type { Log } from '../../log.ts'
import type { EnvironmentRow } from '../../registry/registry.ts'
import type { RepositoryAgent } from '../../schema/workspace.ts'
import type { RunnerContext } from '../context.ts'
import { openMachineLogs } from '../link/machine-log.ts'
import type { LinkHandler, Links } from '../link/types.ts'
import { openModelGateway } from '../model-gateway/gateway.ts'
import { type AgentGuest, openAgentGuest } from './guest.ts'
import { openSupervisor } from './supervisor.ts'

export type AgentsOptions = {
  log: Log
  /** Of this process; null before they are there. */
  links: () => Pick<Links, 'of'> | null
  /** What `.github/agent-swarm.yml` of the default branch says of the agent. Throws where that cannot be read. */
  repositoryAgent?: (repo: string, ticket: EnvironmentKey) => Promise<RepositoryAgent | undefined>
  /** Why no agent of this runner may work now; null: they may. */
  closed?: () => string | null
}

export type Agents = {
  /** Answers the requests of machines on the port of models. */
  model: LinkHandler
  /** Looks at the registry now. */
  nudge(): void
  /** Leaves the agents at work. */
  close(): Promise<void>
}

export const openAgents = (
  context: RunnerContext,
  { log, links, repositoryAgent = async () => undefined, closed = () => null }: AgentsOptions,
): Agents => {
  const guestOf = async ({ provider: name, vmId }: EnvironmentRow): Promise<AgentGuest | null> => {
    const link = links()?.of(vmId) ?? null
    if (link?.connected() !== true) return null
    if (context.scriptedAgent !== undefined) return context.scriptedAgent.guestOf(vmId, link)
    return openAgentGuest(context, await context.provider(name), vmId, link)
  }
  const supervisor = openSupervisor({ ...context, repositoryAgent, closed, guestOf, log })
  const logOf = openMachineLogs(log)
  const gateway = openModelGateway({
    ...context,
    closed,
    onUse: supervisor.nudge,
    warn: (fields, message) => logOf(fields.ticket).warn(fields, message),
  })
  return {
    model: gateway.handle,
    nudge: supervisor.nudge,
    close: async () => {
      gateway.close()
      await supervisor.close()
    },
  }
}
