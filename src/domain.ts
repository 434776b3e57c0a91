/** The words of the project: names, their patterns, and pure functions on them. Types that cross a boundary are in src/schema. */

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
/** A machine's identity: `as-<slug>-<8 hex digits>`, at most 63 characters. Never read a ticket out of it. */
export const VM_ID = /^as-[a-z0-9-]{1,51}-[0-9a-f]{8}$/

/** What a base image contains: what every machine needs, or a project's usual tools besides. */
export const IMAGE_PROFILES = ['minimal', 'full'] as const
export type ImageProfile = (typeof IMAGE_PROFILES)[number]

export const isTicket = (text: string): text is Ticket => TICKET.test(text)
export const projectOf = (ticket: Ticket): string => ticket.slice(0, ticket.lastIndexOf('-'))

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

/** A new machine's identity, from its ticket or from why it exists without one (`pool`, `base`), and 8 random hex digits. */
export const newVmId = (purpose: string, random: string): string =>
  `as-${purpose.toLowerCase().replaceAll('_', '-')}-${random}`

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
