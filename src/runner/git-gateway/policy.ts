/** What a machine may push. Pure: first the name of each ref, then what its change would drop. */
import * as v from 'valibot'
import { attemptOfBranch, ticketOfBranch } from '../../branches.ts'
import { attemptKey, attemptOf, type EnvironmentKey, type Ticket, ticketOf } from '../../domain.ts'
import { branchName } from '../../schema/basics.ts'

/** One line of a push. An id is null for a ref that does not exist: before it is made, or after it is deleted. */
export type RefUpdate = { ref: string; from: string | null; to: string | null }

export type PushRules = {
  /** Whose machine it is: a ticket, or an attempt of one, `DROP-1~2`. */
  key: EnvironmentKey
  /** The projects that the repository serves. */
  projects: readonly string[]
  /** Null in an empty repository. */
  defaultBranch: string | null
  /** The keys of attempts that exist. */
  attempts: readonly EnvironmentKey[]
  /** The key that a ticket has now: its issue may have been moved to another project. */
  currentKey(ticket: Ticket): Ticket
}

/** Whose machine a ready one of a repository's pool is: it fetches that repository, and pushes nothing. No ticket reads so. */
export const poolKey = (repo: string): string => `pool:${repo.toLowerCase()}`
/** The repository of such a key; null for a ticket's. */
export const poolRepository = (key: string): string | null =>
  key.startsWith('pool:') ? key.slice('pool:'.length) : null

/** A push of more is a mistake or an attack. */
export const MAX_UPDATES = 50
/** Commits that a rewrite may drop. */
export const MAX_DROPPED = 1_000

const BRANCH = 'refs/heads/'

/** Whose branch it is: the key of a ticket, or of an attempt that exists. Null when it names no ticket. */
export const ownerOfBranch = (
  branch: string,
  { projects, attempts, currentKey }: Pick<PushRules, 'projects' | 'attempts' | 'currentKey'>,
): EnvironmentKey | null => {
  const named = ticketOfBranch(branch, { projects, branches: [] })
  if (named === null) return null
  const ticket = currentKey(named)
  const attempt = attemptOfBranch(branch, named)
  const key = attempt === null ? ticket : attemptKey(ticket, attempt)
  return attempts.includes(key) ? key : ticket
}

/** An example of a branch that this machine may push. */
const exampleOf = (key: EnvironmentKey): string => {
  const attempt = attemptOf(key)
  return `${ticketOf(key)}-fix${attempt === null ? '' : `-attempt-${attempt}`}`
}

/** Why this ref may not be pushed, whatever its commits are; null when its name is right. */
export const refuseName = ({ ref, to }: RefUpdate, rules: PushRules): string | null => {
  if (ref.startsWith('refs/tags/')) return 'a machine pushes no tags. Make the tag outside of it.'
  if (!ref.startsWith(BRANCH)) return 'a machine pushes branches only.'
  const branch = ref.slice(BRANCH.length)
  if (!v.is(branchName, branch)) return 'the name is too long, or has characters that cannot be seen. Use another one.'
  if (branch === rules.defaultBranch) return 'a machine does not push to the default branch. Open a pull request.'
  if (ownerOfBranch(branch, rules) !== rules.key)
    return `the branch does not belong to ${rules.key}. Use one that names it first, for example ${exampleOf(rules.key)}.`
  if (to === null) return 'a machine deletes no branch. Delete it outside of the machine.'
  return null
}

/** Why this change may not drop these commits. `own`: those that this machine pushed. Null when it may. */
export const refuseDropped = (dropped: readonly string[], own: ReadonlySet<string>): string | null => {
  if (dropped.length > MAX_DROPPED)
    return `the push would drop more than ${MAX_DROPPED} commits. Push to a new branch instead.`
  const others = dropped.filter(commit => !own.has(commit))
  if (others.length === 0) return null
  const [first = ''] = others
  const count = others.length === 1 ? 'commit' : `${others.length} commits, for example`
  return `the push would drop ${count} ${first.slice(0, 10)}, which this machine did not push. Run git pull --rebase, then push again.`
}
