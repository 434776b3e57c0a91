/** Arguments as people type them. */
import { type EnvironmentKey, isEnvironmentKey, parseCheckpointName } from '../domain.ts'
import { fail } from '../errors.ts'
import { counted } from '../words.ts'
import type { Terminal } from './terminal/output.ts'

/** Shorter beginnings match too much. */
const LEAST_PREFIX = 4

/** A ticket, which is a Jira key in any case, or one of its attempts. */
export const ticketArgument = (text: string | undefined): EnvironmentKey => {
  const key = (text ?? '').toUpperCase()
  if (isEnvironmentKey(key)) return key
  const attempt = (text ?? '').includes('~') ? ', or DROP-2100~1 for an attempt of it' : ''
  throw fail('usage', `"${text ?? ''}" is not a ticket. Use a Jira key, for example DROP-2100${attempt}.`)
}

/**
 * The ticket of an existing machine: its key, its machine id, or a beginning of that id which no other machine has. A key stands
 * for no longer one: "DROP-$N" without a number would be the only machine of its project.
 */
export const machineArgument = async (text: string | undefined, { env }: Terminal): Promise<EnvironmentKey> => {
  const typed = text ?? ''
  if (isEnvironmentKey(typed.toUpperCase()) || typed.length < LEAST_PREFIX || !typed.includes('-'))
    return ticketArgument(text)
  const { knownPoolOf, ticketsByPrefix } = await import('./known.ts')
  const [ticket, ...others] = await ticketsByPrefix(env, typed)
  if (ticket === undefined) {
    const pool = await knownPoolOf(env, typed)
    if (pool === null) return ticketArgument(text)
    throw fail(
      'usage',
      `${typed} is a ready machine of the pool ${pool}`,
      'It has no ticket. To remove it: take the pool out of config.yaml and start the runner.',
    )
  }
  if (others.length === 0) return ticket
  throw fail(
    'usage',
    `"${typed}" matches ${counted(others.length + 1, 'machine')}: ${[ticket, ...others].slice(0, 5).join(', ')}`,
    'Type more of it.',
  )
}

/** The tickets of several machines, each once. */
export const machineArguments = async (words: readonly string[], terminal: Terminal): Promise<EnvironmentKey[]> => {
  const tickets: EnvironmentKey[] = []
  for (const word of words) tickets.push(await machineArgument(word, terminal))
  return [...new Set(tickets)]
}

/** `owner/name` on GitHub. */
export const repositoryArgument = (text: string): string => {
  if (/^[A-Za-z0-9][A-Za-z0-9_-]{0,38}\/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}$/.test(text)) return text
  throw fail('usage', `"${text}" is not a repository`, 'Use owner/name, for example acme/shop.')
}

export const checkpointArgument = (text: string): string => {
  const name = parseCheckpointName(text)
  if (name !== null) return name
  throw fail(
    'usage',
    `"${text}" is not a checkpoint name`,
    'Use letters, digits and hyphens, at most 41 characters, with a letter or a digit first.',
  )
}
