/** A machine to be in: one that runs, or that is started first when the person agrees. */
import type { Ticket } from '../domain.ts'
import { fail } from '../errors.ts'
import type { EnvironmentRow } from '../registry/registry.ts'
import { type RunnerContext, requireEnvironment } from '../runner/context.ts'
import { machineGone, observe } from '../runner/machine.ts'
import { perform } from './change.ts'
import type { Invocation } from './terminal/output.ts'
import type { ProgressView } from './terminal/progress.ts'

/** Asks on the terminal; an empty line is a yes. Null without a terminal: nobody is there to answer. */
const agreed = async (question: string, signal: AbortSignal): Promise<boolean | null> => {
  const { stdin, stderr } = process
  if (!stdin.isTTY || !stderr.isTTY) return null
  stderr.write(`${question} [Y/n] `)
  const answer = await new Promise<string | null>(resolve => {
    const done = (said: string | null) => {
      // At once: what is typed after this line is for the machine.
      stdin.pause()
      for (const [event, listener] of listeners) stdin.off(event, listener)
      signal.removeEventListener('abort', cancelled)
      resolve(said)
    }
    const cancelled = () => done(null)
    const listeners = [
      ['data', (chunk: Buffer) => done(chunk.toString())],
      ['end', cancelled],
    ] as const
    for (const [event, listener] of listeners) stdin.on(event, listener)
    signal.addEventListener('abort', cancelled)
    if (signal.aborted) cancelled()
  })
  if (answer === null) {
    stderr.write('\n')
    if (signal.aborted) throw fail('cancelled', 'cancelled; nothing was changed')
  }
  return answer !== null && /^\s*(y|yes|)\s*$/i.test(answer)
}

/** What a machine is that does not run, what is asked about it, and what else can be done. */
const offers = {
  stopped: {
    is: 'is stopped',
    ask: 'Start it?',
    remedy: (ticket: Ticket, command: string) =>
      `Start it: agent-swarm start ${ticket}. Or start it and go on: agent-swarm ${command} --start ${ticket}`,
  },
  creating: {
    is: 'is being made',
    ask: 'Wait for it?',
    remedy: (ticket: Ticket, command: string) =>
      `How it goes: agent-swarm status ${ticket}. Or wait for it and go on: agent-swarm ${command} --start ${ticket}`,
  },
}

/** Throws what is in the way, with the way on. */
export const runningMachine = async (
  invocation: Invocation,
  command: 'ssh' | 'forward',
  world: RunnerContext,
  ticket: Ticket,
  progress: ProgressView,
): Promise<EnvironmentRow> => {
  const row = requireEnvironment(world, ticket)
  const provider = await world.provider(row.provider)
  if (row.status === 'deleting')
    throw fail('not-running', `${ticket} is being deleted`, `How it goes: agent-swarm status ${ticket}`)
  if (row.status === 'failed')
    throw fail(
      'not-running',
      `${ticket} could not be made, and what was made could not be removed`,
      `agent-swarm create ${ticket} removes it, and makes a new machine.`,
    )
  const observed = row.status === 'creating' ? 'creating' : await observe(provider, row)
  if (observed === 'gone' || observed === 'unmade') throw machineGone(row)
  if (observed !== 'running') {
    const { is, ask, remedy } = offers[observed]
    if (invocation.flags.start !== true && (await agreed(`${ticket} ${is}. ${ask}`, invocation.signal)) !== true)
      throw fail('not-running', `${ticket} ${is}`, remedy(ticket, command))
  }
  // One that somebody else started, or is starting, has to answer first.
  if (observed === 'running' && row.status === 'running') return row
  const outcome = await perform(world, invocation, { kind: 'start', ticket }, progress)
  if (outcome.result === 'failed') throw fail(outcome.failure.kind, outcome.failure.message, outcome.failure.remedy)
  return requireEnvironment(world, ticket)
}
