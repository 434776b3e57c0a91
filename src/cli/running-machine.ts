/** A running machine for a command that needs one, started first when the person agrees. */
import type { Provider } from '../../providers/provider.ts'
import { attemptOf, type Ticket } from '../domain.ts'
import { fail } from '../errors.ts'
import type { EnvironmentRow } from '../registry/registry.ts'
import { type RunnerContext, requireEnvironment } from '../runner/context.ts'
import { machineGone, observe } from '../runner/machine.ts'
import { isAsleep } from '../runner/wake.ts'
import { makeAgain } from '../words.ts'
import { perform } from './change.ts'
import { confirm } from './terminal/confirm.ts'
import type { Invocation } from './terminal/output.ts'
import type { ProgressView } from './terminal/progress.ts'

/** The offer to start a machine that does not run, and the remedy when it is declined. */
const offers = {
  stopped: {
    state: 'is stopped',
    question: 'Start it?',
    remedy: (ticket: Ticket) => `Start it: agent-swarm start ${ticket}`,
    orContinue: 'start it and continue',
  },
  creating: {
    state: 'is being created',
    question: 'Wait for it?',
    remedy: (ticket: Ticket) => `Progress: agent-swarm status ${ticket}`,
    orContinue: 'wait for it and continue',
  },
}

/** The provider of the ticket's machine. Fails where the machine is a folder of this host, without SSH and ports of its own. */
export const providerWithSsh = async (
  context: RunnerContext,
  ticket: Ticket,
  { lacks, remedy }: { lacks: string; remedy: string },
): Promise<Provider> => {
  const provider = await context.provider(requireEnvironment(context, ticket).provider)
  if (provider.shellInGuest !== undefined)
    throw fail('unsupported', `${ticket} is ${provider.name} and has no ${lacks}`, remedy)
  return provider
}

/** Throws when the ticket has no machine that could run. */
const requireUsable = (context: RunnerContext, ticket: Ticket): EnvironmentRow => {
  const row = requireEnvironment(context, ticket)
  if (row.status === 'deleting')
    throw fail('not-running', `${ticket} is being deleted`, `Progress: agent-swarm status ${ticket}`)
  if (row.status === 'failed')
    throw fail(
      'not-running',
      `${ticket} could not be created, and the rest of it could not be removed`,
      attemptOf(ticket) === null
        ? `Remove it and create a new machine: agent-swarm create ${ticket}`
        : `Remove it: agent-swarm delete ${ticket}. To make another attempt: ${makeAgain(ticket)}`,
    )
  return row
}

/**
 * A login is no wish about the machine, and an editor connects again by itself: the machine that it wakes is deleted or stopped by
 * earlier events all the same, as one that was running.
 */
const WOKEN_BY = { via: 'clock', who: null } as const

export const runningMachine = async (
  invocation: Invocation,
  command: 'ssh' | 'forward' | 'logs' | 'attach',
  context: RunnerContext,
  ticket: Ticket,
  progress: ProgressView,
): Promise<EnvironmentRow> => {
  const row = requireUsable(context, ticket)
  const observed = row.status === 'creating' ? 'creating' : await observe(await context.provider(row.provider), row)
  if (observed === 'gone' || observed === 'unmade') throw machineGone(row)
  const provider = await context.provider(row.provider)
  // A machine that sleeps starts by itself when somebody needs it.
  const sleeps = observed === 'stopped' && (await isAsleep(context, provider, row))
  if (sleeps) progress.note(`${ticket} sleeps. It is being woken.`)
  else if (observed !== 'running') {
    const { state, question, remedy, orContinue } = offers[observed]
    // With `logs`, --start names a log.
    const takesStart = command !== 'logs'
    const isAgreed = takesStart && invocation.flags.start === true
    if (!isAgreed && !(await confirm(`${ticket} ${state}. ${question}`, 'yes', invocation))) {
      const more = takesStart ? `. Or ${orContinue}: agent-swarm ${command} --start ${ticket}` : ''
      throw fail('not-running', `${ticket} ${state}`, `${remedy(ticket)}${more}`)
    }
  }
  // A machine that another command started, or is starting, must answer first.
  if (observed === 'running' && row.status === 'running') return row
  const by = sleeps ? { by: WOKEN_BY } : {}
  const outcome = await perform(context, invocation, { kind: 'start', ticket }, progress, by)
  if (outcome.result === 'failed') throw fail(outcome.failure.kind, outcome.failure.message, outcome.failure.remedy)
  return requireEnvironment(context, ticket)
}
