/** The words of the project: names, their patterns, and pure functions on them. Types that cross a boundary are in src/schema. */

/** A Jira issue key, `DROP-2100`. Its project is `DROP`. */
export type Ticket = string
/** What an environment is called: its ticket, or `DROP-2100~1` for an attempt, which was forked from another one of the ticket. */
export type EnvironmentKey = Ticket | `${Ticket}~${number}`
/** A named state of a machine, `before-refactor`. */
export type CheckpointName = string
/** A hypervisor behind the provider interface, `kvm`. */
export type ProviderName = string

export const PROJECT = /^[A-Z][A-Z0-9_]{1,9}$/
export const TICKET = /^[A-Z][A-Z0-9_]{1,9}-[1-9][0-9]{0,6}$/
export const ENVIRONMENT_KEY = /^[A-Z][A-Z0-9_]{1,9}-[1-9][0-9]{0,6}(?:~[1-9][0-9]?)?$/
export const CHECKPOINT_NAME = /^[a-z0-9][a-z0-9-]{0,40}$/
export const PROVIDER_NAME = /^[a-z][a-z0-9-]{1,15}$/
export const IMAGE_NAME = /^[a-z0-9][a-z0-9-]{0,40}$/
/** A machine's identity: `as-<slug>-<8 hex digits>`, at most 63 characters. Never read a ticket out of it. */
export const VM_ID = /^as-[a-z0-9-]{1,51}-[0-9a-f]{8}$/

/** What a base image contains: what every machine needs, or a project's usual tools besides. */
export const IMAGE_PROFILES = ['minimal', 'full'] as const
export type ImageProfile = (typeof IMAGE_PROFILES)[number]

export const isTicket = (text: string): text is Ticket => TICKET.test(text)
export const isEnvironmentKey = (text: string): text is EnvironmentKey => ENVIRONMENT_KEY.test(text)
/** The most that one fork makes. */
export const MAX_FORKS = 9
/** The most attempts of a ticket: `~1` to `~99`. */
export const MAX_ATTEMPTS = 99
export const ticketOf = (key: EnvironmentKey): Ticket => key.slice(0, key.includes('~') ? key.indexOf('~') : undefined)
/** The attempt's number; null for the ticket's own machine. */
export const attemptOf = (key: EnvironmentKey): number | null =>
  key.includes('~') ? Number(key.slice(key.indexOf('~') + 1)) : null
export const attemptKey = (ticket: Ticket, attempt: number): EnvironmentKey => `${ticket}~${attempt}`
/** The same environment under another ticket. */
export const withTicket = (key: EnvironmentKey, ticket: Ticket): EnvironmentKey => {
  const attempt = attemptOf(key)
  return attempt === null ? ticket : attemptKey(ticket, attempt)
}
export const projectOf = (key: EnvironmentKey): string => key.slice(0, key.lastIndexOf('-'))
/**
 * The key as a part of a file name, with `_` for `~`: to Windows, `DROP-2~1` may be the short name of `DROP-2100`. Git takes no `~`
 * in the name of a branch either.
 */
export const fileNameOf = (key: EnvironmentKey): string => key.replace('~', '_')
export const KEY_FILE_NAME = /^[A-Z][A-Z0-9_]{1,9}-[1-9][0-9]{0,6}(?:_[1-9][0-9]?)?$/
/** The key in a file name, or null. */
export const keyOfFileName = (name: string): EnvironmentKey | null =>
  KEY_FILE_NAME.test(name) ? name.replace(/(?<=-[0-9]+)_/, '~') : null

/** `text` in lower case, or null when that is not a valid checkpoint name. */
export const parseCheckpointName = (text: string): CheckpointName | null => {
  const name = text.toLowerCase()
  return CHECKPOINT_NAME.test(name) ? name : null
}
export const pushCheckpoint = (commit: string): CheckpointName => `push-${commit.slice(0, 7).toLowerCase()}`
export const isPreRestore = (name: CheckpointName): boolean => name.startsWith('pre-restore-')
/** A name that agent-swarm gives. */
export const isAutomatic = (name: CheckpointName): boolean => isPreRestore(name) || name.startsWith('push-')
/** `20261123-094500`, UTC. */
export const timestamp = (at: Date): string =>
  at.toISOString().slice(0, 19).replaceAll('-', '').replaceAll(':', '').replace('T', '-')

/** Rescues that are listed: the newest. */
export const MAX_RESCUES_LISTED = 200

/** A new machine's identity, from its key or from why it exists without one (`pool`, `base`), and 8 random hex digits. */
export const newVmId = (purpose: string, random: string): string =>
  `as-${purpose.toLowerCase().replaceAll(/[_~]/g, '-')}-${random}`

/** What a pool of ready machines is called: by its image, whose name has no slash, or by its repository. */
export const poolName = ({ image, repository }: { image: string | null; repository: string | null }): string =>
  (image ?? repository ?? '').toLowerCase()

/** The kinds of failures. `later`: the queue retries with back-off. `never`: the failure is reported at once. */
export const failureKinds = {
  usage: 'never',
  'not-configured': 'never',
  'no-such-environment': 'never',
  'no-such-checkpoint': 'never',
  'no-such-vm': 'never',
  'no-such-image': 'never',
  'already-exists': 'never',
  'already-running': 'never',
  'not-running': 'never',
  'needs-stop': 'never',
  'not-ours': 'never',
  busy: 'later',
  capacity: 'never',
  'disk-full': 'never',
  damaged: 'never',
  permission: 'never',
  'hypervisor-unreachable': 'later',
  'provider-missing': 'never',
  unsupported: 'never',
  'no-address-yet': 'later',
  'guest-unreachable': 'never',
  'unsaved-work': 'never',
  timeout: 'later',
  cancelled: 'later',
  network: 'later',
  refused: 'never',
  'newer-schema': 'never',
  unknown: 'later',
} as const
export type FailureKind = keyof typeof failureKinds
