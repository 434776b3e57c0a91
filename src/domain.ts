/**
 * The words of the project: names, their patterns, and pure functions on them. What crosses a boundary has its schema, and
 * its type, in src/schema.
 */
/** A Jira issue key, `DROP-2100`. */
export type Ticket = string
/** A named state of a machine, `before-refactor`. */
export type CheckpointName = string
/** A hypervisor behind the provider interface, `kvm`. */
export type ProviderName = string

export const TICKET = /^[A-Z][A-Z0-9_]{1,9}-[1-9][0-9]{0,6}$/
export const CHECKPOINT_NAME = /^[a-z0-9][a-z0-9-]{0,40}$/
export const PROVIDER_NAME = /^[a-z][a-z0-9-]{1,15}$/
export const IMAGE_NAME = /^[a-z0-9][a-z0-9-]{0,40}$/
/** A machine's identity: `as-<slug>-<8 hex digits>`, at most 63 characters. Nothing reads a ticket out of it. */
export const VM_ID = /^as-[a-z0-9-]{1,51}-[0-9a-f]{8}$/

export const isTicket = (text: string): text is Ticket => TICKET.test(text)
export const projectOf = (ticket: Ticket): string => ticket.slice(0, ticket.lastIndexOf('-'))

/** The checkpoint name in `text`, lower-cased, or null when it cannot be one. */
export const parseCheckpointName = (text: string): CheckpointName | null => {
  const name = text.toLowerCase()
  return CHECKPOINT_NAME.test(name) ? name : null
}
export const pushCheckpoint = (commit: string): CheckpointName => `push-${commit.slice(0, 7).toLowerCase()}`
export const isPreRestore = (name: CheckpointName): boolean => name.startsWith('pre-restore-')
/** `20261123-094500`, UTC. */
export const timestamp = (at: Date): string =>
  at.toISOString().slice(0, 19).replaceAll('-', '').replaceAll(':', '').replace('T', '-')

/**
 * The first ticket of an allow-listed project in branch, title and body, in that order. Case-insensitive; not preceded by
 * a letter or a digit, not followed by a digit.
 */
export const findTicket = (
  texts: readonly (string | null | undefined)[],
  projects: readonly string[],
): Ticket | null => {
  if (projects.length === 0) return null
  const pattern = new RegExp(`(?<![A-Za-z0-9])(${projects.join('|')})-([1-9][0-9]{0,6})(?![0-9])`, 'i')
  for (const text of texts) {
    const found = text?.match(pattern)?.[0].toUpperCase()
    if (found !== undefined && isTicket(found)) return found
  }
  return null
}

/**
 * A new machine's identity, chosen and journalled before the first outside command. `purpose`: its ticket, or why it exists
 * without one. `random` is 8 hex digits.
 */
export const newVmId = (purpose: Ticket | 'pool' | 'base', random: string): string =>
  `as-${purpose.toLowerCase().replaceAll('_', '-')}-${random}`
