/** Gives the agent of a machine another message. It is written down, and the runner hands it over in the agent's session. */
import { fail } from '../../errors.ts'
import { MAX_WAITING_MESSAGES } from '../../registry/agents.ts'
import { requireEnvironment } from '../context.ts'
import type { ActionRunner } from '../operation.ts'
import { noAgentHere } from './agent.ts'

export const tell: ActionRunner<'tell'> = async ({ context, by }, { ticket, text, round }) => {
  const { registry, clock, config } = context
  const { status } = requireEnvironment(context, ticket)
  const agent = registry.agent(ticket)
  if (agent === null && config.agent === null) throw noAgentHere()
  if (agent === null)
    throw fail('not-configured', `${ticket} has no agent`, `Start one: agent-swarm agent start ${ticket}`)
  if (round !== undefined) {
    const most = agent.progress.limits?.rounds ?? config.agent?.rounds ?? 0
    if (agent.rounds >= most)
      return { skipped: `the agent of ${ticket} has been told ${agent.rounds} of ${most} rounds` }
    // A person's stop holds until a person says otherwise.
    if (agent.result === 'stopped') return { skipped: `the agent of ${ticket} was stopped: ${agent.reason ?? ''}` }
  }
  if (registry.waitingMessages(ticket).length >= MAX_WAITING_MESSAGES)
    throw fail(
      'capacity',
      `${MAX_WAITING_MESSAGES} messages already wait for the agent of ${ticket}`,
      'Wait until it has read them.',
    )
  registry.exclusively(() => {
    registry.addMessage(ticket, { text, by, at: clock().toISOString(), round: round ?? null })
    if (round !== undefined)
      registry.updateAgent(ticket, registry.agent(ticket)?.run ?? '', row => ({ rounds: row.rounds + 1 }))
  })
  const when =
    status !== 'running' ? 'when its machine runs' : agent.state === 'ended' ? 'now' : 'when it ends its present turn'
  return { summary: `The agent of ${ticket} gets the message ${when}` }
}
