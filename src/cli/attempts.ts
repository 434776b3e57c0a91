/** What commands tell people about the attempts of a ticket. */
import { attemptOf, type EnvironmentKey, ticketOf } from '../domain.ts'
import { fail } from '../errors.ts'
import { type RunnerContext, resolveTicket } from '../runner/context.ts'
import { counted, listed } from '../words.ts'
import type { Terminal } from './terminal/output.ts'

/** Attempts of the ticket that a delete of all of `going` leaves alone. `known`: all keys. */
export const stayingAttempts = (
  known: readonly EnvironmentKey[],
  ticket: EnvironmentKey,
  going: readonly EnvironmentKey[],
): EnvironmentKey[] =>
  attemptOf(ticket) === null
    ? known.filter(key => attemptOf(key) !== null && ticketOf(key) === ticket && !going.includes(key))
    : []

export const attemptsStay = (whose: 'Its' | 'Their', staying: readonly EnvironmentKey[]): string =>
  `${whose} attempts stay: ${staying.join(', ')}. To delete them: agent-swarm delete ${staying.join(' ')}`

/** Fails: a ticket was typed where an attempt is needed. */
export const notAnAttempt = async (ticket: EnvironmentKey, { env }: Terminal): Promise<never> => {
  const { knownEnvironments } = await import('./known.ts')
  const known = (await knownEnvironments(env)).map(each => each.ticket)
  const attempts = stayingAttempts(known, ticket, [])
  const [first = null] = attempts
  throw first === null
    ? fail('usage', `${ticket} is a ticket, and has no attempts here`, `Make some: agent-swarm fork ${ticket}`)
    : fail('usage', `${ticket} is a ticket. Its attempts: ${attempts.join(', ')}`, `Use: agent-swarm promote ${first}`)
}

/** What a promote of the attempt deletes, as a question; null when it deletes nothing. */
export const promoteQuestion = (context: RunnerContext, typed: EnvironmentKey): string | null => {
  const { registry } = context
  const key = resolveTicket(context, typed)
  const ticket = ticketOf(key)
  if (registry.environment(key) === null) return null
  const checkpoints = registry.checkpoints(ticket).length
  const count = checkpoints === 0 ? '' : ` (${counted(checkpoints, 'checkpoint')})`
  const going = [
    ...(registry.environment(ticket) === null ? [] : [`the former machine of ${ticket}${count}`]),
    ...registry.attempts(ticket).filter(each => each !== key),
  ]
  if (going.length === 0) return null
  return `Make ${key} the machine of ${ticket}? This deletes ${listed(going)}. Unsaved work is rescued first.`
}
