/** Starts or stops the agent of a machine. The wish is written down; the runner acts on it. */
import { randomBytes } from 'node:crypto'
import type { Provider } from '../../../providers/provider.ts'
import { fail, failureOf } from '../../errors.ts'
import { NEW_PROGRESS } from '../../registry/agents.ts'
import type { AgentRow } from '../../registry/registry.ts'
import type { Action, Task } from '../../schema/action.ts'
import { isOwnSystem, OWN_SYSTEM } from '../agent/own-system.ts'
import { type RunnerContext, requireEnvironment } from '../context.ts'
import { type ActionRunner, type Target, targetOf } from '../operation.ts'

const NO_TASK: Task = { summary: '', description: '', acceptance: '' }

/** An agent that the runner starts as soon as it can. Its session, cost and rounds go on. */
const wantedAgent = (known: AgentRow | null, use: AgentRow['use'], task: Task | undefined): AgentRow => ({
  ...{ turns: 0, tokens: 0, usd: null, rounds: 0, session: null, pullRequest: 'draft' },
  ...known,
  // A conversation with one program is nothing to another.
  ...(known !== null && known.use !== use ? { session: null } : {}),
  ...{ use, task: task ?? known?.task ?? NO_TASK, run: randomBytes(4).toString('hex'), state: 'wanted', workedMs: 0 },
  ...{ startedAt: null, endedAt: null, result: null, reason: null, summary: null },
  progress: { ...NEW_PROGRESS, turnsBefore: known?.turns ?? 0, operation: known?.progress.operation ?? 0 },
})

export const noAgentHere = () =>
  fail('not-configured', 'no agent is configured on this host', 'Add `agent:` to config.yaml: docs/agents.md')

/** Fails with `not-configured` where this home has no agent, and with `unsupported` where agents do not run at all. */
const wantAgent = (
  { config, registry, scriptedAgent }: RunnerContext,
  provider: Provider,
  ticket: string,
  task: Task | undefined,
): void => {
  if (config.agent === null) throw noAgentHere()
  if (scriptedAgent === undefined && isOwnSystem(provider))
    throw fail('unsupported', `no agent starts on ${ticket}: ${OWN_SYSTEM}`, 'Use a hypervisor: agent-swarm providers')
  registry.exclusively(() => {
    const known = registry.agent(ticket)
    if (known === null || known.state === 'ended')
      registry.setAgent(ticket, wantedAgent(known, config.agent?.use ?? 'command', task))
  })
}

type Wish = Pick<Extract<Action, { kind: 'create' }>, 'task' | 'noAgent' | 'by'>

/** Why no agent starts, where this host has one and the bot sent neither the ticket's text nor a reason. A command sends none. */
export const unsaidNoAgent = ({ config }: Pick<RunnerContext, 'config'>, { task, noAgent, by }: Wish): string | null =>
  config.agent === null || task !== undefined || noAgent !== undefined || by.via === 'cli'
    ? null
    : "No agent was started: config.yaml on the bot's host has no `agent`, and it needs one, too (docs/agents.md)."

/**
 * The end of a create whose machine is set up: an action with the text of the ticket starts its agent. Returns what is added to
 * the summary, a sentence without a full stop or nothing; it fails for nothing.
 */
export const wantAgentAfterSetup = ({ context, provider, row }: Target, wish: Wish): string => {
  const { task } = wish
  if (task === undefined) {
    const why = wish.noAgent ?? unsaidNoAgent(context, wish)
    return why === null ? '' : `. ${why.replace(/\.$/, '')}`
  }
  // A bot's tickets bring their text along, also to a host without an agent.
  if (context.config.agent === null) return ''
  try {
    wantAgent(context, provider, row.ticket, task)
    const isPrepared = context.registry.project(row.ticket)?.prepared !== false
    return isPrepared ? '. Its agent starts' : '. Its agent starts when the project is there'
  } catch (error) {
    return `. No agent starts: ${failureOf(error, 'starting the agent').message}`
  }
}

export const agent: ActionRunner<'agent'> = async (operation, { ticket, what, task, by }) => {
  const { registry, clock } = operation.context
  const row = requireEnvironment(operation.context, ticket)
  const known = registry.agent(ticket)
  if (what === 'start') {
    if (known !== null && known.state !== 'ended') return { skipped: `the agent of ${ticket} is already at work` }
    const { provider } = await targetOf(operation, ticket, row)
    wantAgent(operation.context, provider, ticket, task)
    const isStopped = row.status === 'running' ? '' : ' when its machine runs'
    const { summary, description } = registry.agent(ticket)?.task ?? NO_TASK
    const bare =
      `${summary}${description}` === ''
        ? '. It has no text of the ticket: /swarm agent start, in a comment, brings it'
        : ''
    return { summary: `The agent of ${ticket} starts${isStopped}${bare}` }
  }
  if (known === null || known.state === 'ended') return { skipped: `no agent is at work on ${ticket}` }
  const reason = `${by.name ?? by.who ?? by.via} stopped it`
  registry.exclusively(() => {
    const present = registry.agent(ticket)
    if (present === null || present.state === 'ended') return
    const ending = { result: 'stopped', reason } as const
    // What waits would start it again.
    registry.nextRun(
      ticket,
      present.state === 'wanted'
        ? { ...present, ...ending, state: 'ended', endedAt: clock().toISOString() }
        : { ...present, progress: { ...present.progress, ending: present.progress.ending ?? ending } },
      registry.waitingMessages(ticket),
    )
  })
  return { summary: `The agent of ${ticket} ${known.state === 'wanted' ? 'does not start' : 'is being stopped'}` }
}
