/** Starts or stops the agent of a machine. The wish is written down; the runner acts on it. */
import { randomBytes } from 'node:crypto'
import { fail } from '../../errors.ts'
import type { AgentRow } from '../../registry/registry.ts'
import type { Task } from '../../schema/action.ts'
import { type RunnerContext, requireEnvironment } from '../context.ts'
import type { ActionRunner } from '../operation.ts'

const NO_TASK: Task = { summary: '', description: '', acceptance: '' }

/** An agent that the runner starts as soon as it can. Its session, cost and rounds go on. */
const wantedAgent = (known: AgentRow | null, use: AgentRow['use'], task: Task | undefined): AgentRow => ({
  ...{ turns: 0, tokens: 0, usd: null, rounds: 0, session: null, pullRequest: 'draft' },
  ...known,
  ...{ use, task: task ?? known?.task ?? NO_TASK, run: randomBytes(4).toString('hex'), state: 'wanted', workedMs: 0 },
  ...{ startedAt: null, endedAt: null, result: null, reason: null, summary: null },
})

/** Fails with `not-configured` where this home has no agent. */
export const wantAgent = ({ config, registry }: RunnerContext, ticket: string, task: Task | undefined): void => {
  if (config.agent === null)
    throw fail('not-configured', 'no agent is configured on this host', 'Add `agent:` to config.yaml: docs/agents.md')
  registry.setAgent(ticket, wantedAgent(registry.agent(ticket), config.agent.use, task))
}

export const agent: ActionRunner<'agent'> = async ({ context }, { ticket, what, task }) => {
  const { registry, clock } = context
  requireEnvironment(context, ticket)
  const known = registry.agent(ticket)
  if (what === 'start') {
    if (known !== null && known.state !== 'ended') return { skipped: `the agent of ${ticket} is already at work` }
    wantAgent(context, ticket, task)
    return { summary: `The agent of ${ticket} starts` }
  }
  if (known === null || known.state === 'ended') return { skipped: `no agent is at work on ${ticket}` }
  registry.setAgent(ticket, { ...known, state: 'ended', result: 'stopped', endedAt: clock().toISOString() })
  return { summary: `The agent of ${ticket} is stopped` }
}
