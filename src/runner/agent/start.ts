/** Whether the agent of a ticket may start now, and how it is started. */
import type { Provider } from '../../../providers/provider.ts'
import { attemptOf, type EnvironmentKey, ticketOf } from '../../domain.ts'
import { failureOf } from '../../errors.ts'
import type { AgentRow, EnvironmentRow } from '../../registry/registry.ts'
import { type AgentRules, narrowAgent, type RepositoryAgent } from '../../schema/workspace.ts'
import type { RunnerContext } from '../context.ts'
import { isolationOf } from '../isolation.ts'
import { overBudget, placeholderKey } from '../model-gateway/gateway.ts'
import { modelKey } from '../model-gateway/keys.ts'
import type { AgentGuest, UnitSpec } from './guest.ts'
import { isOwnSystem, OWN_SYSTEM } from './own-system.ts'
import { type Program, programs } from './programs.ts'
import { attemptText, messagesText, promptText, taskText } from './prompt.ts'

export type StartContext = Pick<
  RunnerContext,
  'config' | 'home' | 'registry' | 'clock' | 'provider' | 'scriptedAgent'
> & {
  /** What `.github/agent-swarm.yml` of the default branch says of the agent. Throws where that cannot be read. */
  repositoryAgent: (repo: string, ticket: EnvironmentKey) => Promise<RepositoryAgent | undefined>
  /** Why no agent of this runner may work now; null: they may. */
  closed: () => string | null
}

/** `wait`: it starts when this has changed; null: without a word. `end`: it does not start at all. */
type Verdict = { start: AgentRules } | { wait: string | null } | { end: Pick<AgentRow, 'result' | 'reason'> }

export const programOf = (
  { scriptedAgent }: Pick<RunnerContext, 'scriptedAgent'>,
  { use }: Pick<AgentRow, 'use'>,
): Program => scriptedAgent?.program ?? programs[use]

const unisolated = async (provider: Provider): Promise<string | null> => {
  const report = await isolationOf(provider)
  if (report?.isolated === true) return null
  const reason = report === undefined ? `${provider.name} does not isolate its machines` : report.reason
  return `The isolation of machines is not in force: ${reason}. See agent-swarm providers. Or accept it: allowUnisolated: true in config.yaml, under agent`
}

/** What the repository takes away. It may want no agent at all, so none starts while that cannot be read. */
const narrowingOf = async (
  { registry, repositoryAgent }: StartContext,
  ticket: EnvironmentKey,
): Promise<{ narrowing: RepositoryAgent | undefined } | { wait: string }> => {
  const repo = registry.project(ticket)?.repo
  if (repo === undefined) return { narrowing: undefined }
  try {
    return { narrowing: await repositoryAgent(repo, ticket) }
  } catch (error) {
    const { message, remedy } = failureOf(error, `reading what ${repo} says of agents`)
    return { wait: [message, remedy].filter(text => text !== null).join('. ') }
  }
}

export const verdictOf = async (
  context: StartContext,
  row: AgentRow,
  environment: EnvironmentRow,
): Promise<Verdict> => {
  const { config, home, registry, scriptedAgent } = context
  const closed = context.closed()
  if (closed !== null) return { wait: closed }
  if (config.agent === null) return { wait: 'This host has no agent any more: add `agent:` to config.yaml' }
  const project = registry.project(environment.ticket)
  // It works in what setup makes. No create holds the lock now: the problem says how to go on with one that failed or was interrupted.
  if (project !== null && (!project.prepared || project.setup?.state === 'running')) return { wait: project.problem }
  const narrowed = await narrowingOf(context, environment.ticket)
  if ('wait' in narrowed) return narrowed
  const rules = narrowAgent(config.agent, narrowed.narrowing)
  if (rules === null)
    return { end: { result: 'stopped', reason: `${project?.repo} wants no agent (.github/agent-swarm.yml)` } }
  const over = overBudget(registry.agentUse(environment.ticket), limitsOf(rules))
  if (over !== null) return { end: { result: 'out of budget', reason: over } }
  const provider = await context.provider(environment.provider)
  if (scriptedAgent === undefined) {
    if (isOwnSystem(provider)) return { end: { result: 'stopped', reason: OWN_SYSTEM } }
    const fault = config.agent.allowUnisolated === true ? null : await unisolated(provider)
    if (fault !== null) return { wait: fault }
    const { api } = programs[row.use]
    try {
      if (api !== null) modelKey(home, api)
    } catch (error) {
      const { message, remedy } = failureOf(error, 'reading the key of the model')
      return { wait: [message, remedy].filter(text => text !== null).join('. ') }
    }
  }
  return { start: rules }
}

export const limitsOf = ({ minutes, budget, rounds }: AgentRules): NonNullable<AgentRow['progress']['limits']> => ({
  ...{ minutes, rounds },
  tokens: budget.tokens,
  usd: budget.usd ?? null,
})

/** The prompt of one run: first the task, later the messages that were sent to it. */
const promptOf = (
  { registry }: StartContext,
  ticket: EnvironmentKey,
  row: AgentRow,
  rules: AgentRules,
  state: string,
): string => {
  const messages = registry.messagesOf(ticket, row.run)
  const project = registry.project(ticket)
  const which = attemptText(ticket, registry.environment(ticket)?.attempt ?? null, project?.branch ?? null)
  if (row.session !== null) return `${which}${messagesText(messages)}`
  const prompt = promptText(rules.prompt, {
    ticket: ticketOf(ticket),
    repository: project?.repo ?? null,
    branch: project?.branch ?? null,
    task: `${state}/task.md`,
  })
  return `${which}${messages.length === 0 ? prompt : `${prompt}\n\n---\n\n${messagesText(messages)}`}`
}

export const specOf = (
  context: StartContext,
  ticket: EnvironmentKey,
  row: AgentRow,
  rules: AgentRules,
  { address, state }: Pick<AgentGuest, 'address' | 'state'>,
): UnitSpec => {
  const program = programOf(context, row)
  const model = { url: address('model'), key: placeholderKey(row.run) }
  const path = context.registry.project(ticket)?.path
  return {
    words: program.words({ command: rules.command ?? null, session: row.session }),
    environment: {
      ...program.environment(model, state),
      AGENT_SWARM_PROJECT: path ?? '~/.',
      AGENT_SWARM_RUN: row.run,
      AGENT_SWARM_TICKET: ticketOf(ticket),
      ...(attemptOf(ticket) === null ? {} : { AGENT_SWARM_ATTEMPT: String(attemptOf(ticket)) }),
      // Tells the gateway which pushes are the agent's.
      GIT_CONFIG_COUNT: '1',
      GIT_CONFIG_KEY_0: `http.${address('git')}/.extraHeader`,
      GIT_CONFIG_VALUE_0: `X-Agent-Swarm-Run: ${row.run}`,
      // Nothing here may wait for a person.
      GIT_TERMINAL_PROMPT: '0',
    },
    prompt: promptOf(context, ticket, row, rules, state),
    task: taskText(ticketOf(ticket), row.task),
    files: program.files(model),
    // Twice its time: what this process does not see, for example a machine that sleeps, is not its work.
    seconds: rules.minutes * 120,
    session: row.session,
    sessions: program.sessions,
  }
}
