/** What the commands that change an environment have in common: do it as the runner would, tell how it goes, say how it ended. */
import { userInfo } from 'node:os'
import type { Action, Environment, Outcome, Ticket } from '../domain.ts'
import { execute, sweep } from '../runner/executor.ts'
import { openWorld } from '../runner/world.ts'
import { type Invocation, print, printJson, tell } from './command.ts'

/** An action without what every command of the CLI fills in the same way. */
type Wish = Action extends infer One ? (One extends Action ? Omit<One, 'by' | 'replyTo'> : never) : never

const who = (): string | null => {
  try {
    return userInfo().username
  } catch {
    // A user id without a name.
    return null
  }
}

const say = (outcome: Outcome): string => {
  if (outcome.result === 'done') return outcome.said
  return outcome.result === 'skipped' ? outcome.because : outcome.failure.message
}

/** Who asked for a ticket that has nothing may have mistyped it. */
const withHint = async (ticket: Ticket, outcome: Outcome): Promise<Outcome> => {
  if (outcome.result === 'done' || outcome.environment !== null) return outcome
  const { nearestTicket, withNearestTicket } = await import('./known.ts')
  if (outcome.result === 'failed') return { ...outcome, failure: await withNearestTicket(outcome.failure, ticket) }
  const near = await nearestTicket(ticket)
  return near === null ? outcome : { ...outcome, because: `${outcome.because}. Did you mean ${near}?` }
}

const sshLine = (environment: Environment | null): string[] =>
  environment === null || environment.status !== 'running' ? [] : [`Enter it: agent-swarm ssh ${environment.ticket}`]

export const change = async (invocation: Invocation, wish: Wish): Promise<number> => {
  const world = openWorld(await invocation.config(), { interrupt: invocation.signal })
  try {
    await sweep(world, { queueToo: false })
    const action = { ...wish, by: { via: 'cli', who: who() }, replyTo: null } as Action
    const began = performance.now()
    const outcome = await withHint(
      wish.ticket,
      await execute(world, action, {
        actionId: null,
        correlation: null,
        signal: invocation.signal,
        onPhase: phase => tell(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${phase}`),
      }),
    )
    if (invocation.json) printJson({ ticket: wish.ticket, ...outcome })
    if (outcome.result === 'failed') {
      const { message, remedy } = outcome.failure
      tell(`agent-swarm ${wish.kind}: ${message}${remedy === null ? '' : `\n${remedy}`}`)
      return 1
    }
    if (!invocation.json) {
      const end = outcome.result === 'done' ? ` (${outcome.seconds} s).` : /[.?]$/.test(outcome.because) ? '' : '.'
      print(
        [
          `${say(outcome)}${end}`,
          ...(wish.kind === 'create' || wish.kind === 'start' ? sshLine(outcome.environment) : []),
        ].join('\n'),
      )
    }
    return 0
  } finally {
    world.close()
  }
}
