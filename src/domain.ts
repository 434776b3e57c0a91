/** The words of the project as types. Data only: nothing here reads, writes or decides. */

/** A Jira issue key, `DROP-2100`. */
export type Ticket = string
/** A named state of an environment, `before-refactor`. */
export type CheckpointName = string
export type ProviderName = 'kvm' | 'tart' | 'hyperv' | 'aws' | 'synthetic'

const TICKET = /^[A-Z][A-Z0-9_]{1,9}-[1-9][0-9]{0,6}$/
const CHECKPOINT = /^[a-z0-9][a-z0-9-]{0,40}$/

export const isTicket = (text: string): text is Ticket => TICKET.test(text)
export const projectOf = (ticket: Ticket): string => ticket.slice(0, ticket.lastIndexOf('-'))

/** The checkpoint name in `text`, lower-cased, or null when it cannot be one. */
export const checkpointName = (text: string): CheckpointName | null => {
  const name = text.toLowerCase()
  return CHECKPOINT.test(name) ? name : null
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
export const ticketIn = (texts: readonly (string | null | undefined)[], projects: readonly string[]): Ticket | null => {
  if (projects.length === 0) return null
  const pattern = new RegExp(`(?<![A-Za-z0-9])(${projects.join('|')})-([1-9][0-9]{0,6})(?![0-9])`, 'i')
  for (const text of texts) {
    const found = text?.match(pattern)?.[0].toUpperCase()
    if (found !== undefined && isTicket(found)) return found
  }
  return null
}

/** A machine's name: chosen and journalled before the first outside command. At most 63 characters. `random` is 8 hex digits. */
export const vmNameFor = (ticket: Ticket, random: string): string =>
  `as-${ticket.toLowerCase().replaceAll('_', '-')}-${random}`

/** Who asked. `who` is a GitHub login, a Jira account, or the user of the CLI; null when the outside did not say. */
export type Requester = { via: 'github' | 'jira' | 'cli' | 'clock'; who: string | null }

/** The pull request that something is about. */
export type PullRequestRef = { repo: string; number: number }

/** A comment that holds commands: on a pull request, or on a ticket in Jira. */
export type CommentRef = (PullRequestRef & { commentId: number }) | { ticket: Ticket; commentId: string }
/** Where a person waits for an answer: `line` is which command of that comment, from 0. */
export type ReplyTo = CommentRef & { line: number }

/** What a machine shall be, where it differs from what its runner makes by itself. The runner has the last word. */
export type Machine = { baseImage?: string; cpus?: number; memoryMiB?: number; diskGiB?: number }
/** How many automatic checkpoints are kept, and for how long at most. */
export type Keep = { newest: number; days: number | null }

/**
 * What shall be done to one ticket's environment: plain data, small, serialisable. `onlyAt` is a commit: it is done only
 * while the pull request that it replies to, which comes from a fork, has that head. `at`, ISO 8601 UTC: when that happened
 * which asks for it; what somebody did by hand on the machine after that holds. `callsOff`: a delete that a merge had planned
 * is not done because of it, which its answer tells.
 */
export type Action = {
  ticket: Ticket
  by: Requester
  replyTo: ReplyTo | null
  onlyAt?: string
  at?: string
  callsOff?: true
} & (
  | { kind: 'create'; machine?: Machine }
  | { kind: 'start' }
  | { kind: 'stop' }
  | { kind: 'checkpoint'; name: CheckpointName | null; why: 'push' | 'command'; commit: string | null; keep?: Keep }
  | { kind: 'restore'; name: CheckpointName | null }
  | { kind: 'delete-checkpoint'; name: CheckpointName }
  | { kind: 'delete'; force: boolean }
  /** Reads and reports; changes nothing. `about` is the part that was asked for; without it, all. */
  | { kind: 'status'; about?: 'checkpoints' | 'ssh' }
)
export type ActionKind = Action['kind']

export type EnvironmentStatus = 'creating' | 'running' | 'stopped' | 'deleting' | 'failed' | 'lost'

export type Checkpoint = {
  name: CheckpointName
  why: 'push' | 'command' | 'before restore'
  commit: string | null
  /** ISO 8601, UTC. */
  createdAt: string
  withMemory: boolean
  /** What it added on the host's disk when it was made; null when that was not seen. */
  sizeBytes: number | null
}

/** What the runner tells about one environment. Times are ISO 8601 UTC; `observedAt` is when the hypervisor said so. */
export type Environment = {
  ticket: Ticket
  provider: ProviderName
  vmId: string
  ip: string | null
  status: EnvironmentStatus
  baseImage: string
  createdAt: string
  createdBy: Requester
  ssh: { host: string; port: number; user: string } | null
  /** Oldest first. */
  checkpoints: Checkpoint[]
  /** What was found at the last stop or delete; null when it was never looked at or is fine. */
  workAtRisk: WorkAtRisk | null
  observedAt: string
}

/** What would be gone with the machine. Counts and a few paths to name; `unknown` when the guest could not be asked. */
export type WorkAtRisk =
  | {
      known: true
      repositories: { path: string; uncommitted: number; untracked: number; stashes: number; unpushed: number }[]
    }
  | { known: false; because: string }

/** What came of an action. */
export type Outcome =
  | {
      result: 'done'
      said: string
      environment: Environment | null
      seconds: number
      /** Of a delete: the work that was saved before it, and where. It is part of `said` too. */
      kept?: string | undefined
    }
  | { result: 'skipped'; because: string; environment: Environment | null }
  | { result: 'failed'; failure: Failure; environment: Environment | null }

/** Failure kinds are data: what they allow (retry, report) stands in errors.ts. */
export type FailureKind =
  | 'usage'
  | 'not-configured'
  | 'no-such-environment'
  | 'no-such-checkpoint'
  | 'no-such-vm'
  | 'no-such-image'
  | 'already-exists'
  | 'already-running'
  | 'not-running'
  | 'not-ours'
  | 'busy'
  | 'capacity'
  | 'disk-full'
  | 'permission'
  | 'hypervisor-unreachable'
  | 'provider-missing'
  | 'unsupported'
  | 'no-address-yet'
  | 'guest-unreachable'
  | 'work-at-risk'
  | 'timeout'
  | 'cancelled'
  | 'network'
  | 'refused'
  | 'newer-schema'
  | 'unknown'

/** What was being done and what went wrong; what the reader can do. Never holds a secret. */
export type Failure = { kind: FailureKind; message: string; remedy: string | null }

/** What an action is at, and since when (ISO 8601 UTC). */
export type Progress = { phase: string; at: string }
