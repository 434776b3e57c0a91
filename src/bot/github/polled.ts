/** What polls find, as deliveries in the shape of webhooks. The next poll makes the same ids. Pure. */
import type { PullRequestNow } from '../../../handlers/handler.ts'
import type { KnownPullRequest } from '../../store/port.ts'
import type { PolledDelivery } from '../catch-up.ts'
import { isMarked } from '../markers.ts'
import { githubLane } from './events.ts'
import type { PullRequestData } from './pull-request.ts'

/** ISO 8601 in whole seconds, as GitHub writes times. */
export const iso = (at: number): string => `${new Date(at).toISOString().slice(0, 19)}Z`

export type ListedPullRequest = PullRequestData & { number: number; updated_at: string }
export type ListedComment = {
  id: number
  body?: string | null
  user: { login: string; type: string } | null
  performed_via_github_app?: unknown
  author_association?: string
  html_url: string
  issue_url: string
  created_at: string
  updated_at: string
}

const delivery = (id: string, event: string, payload: object): PolledDelivery => ({
  ...{ source: 'github', id: `poll:${id}`, event },
  lane: githubLane(event, payload),
  body: JSON.stringify(payload),
})

export const pushDelivery = (repo: string, ref: string, commit: string): PolledDelivery =>
  delivery(`${repo}:${ref}:${commit}`, 'push', {
    ref,
    after: commit,
    deleted: false,
    repository: { full_name: repo },
    sender: null,
  })

/** Nobody edits a comment within this time of writing it. Milliseconds. */
const EDITED_AFTER_MS = 1_000
/** Null for a comment that can hold no command of a person: one on an issue, or our own. */
export const commentDelivery = (repo: string, comment: ListedComment): PolledDelivery | null => {
  const { id, body, user, performed_via_github_app, author_association, created_at, updated_at } = comment
  const number = Number(comment.issue_url.match(/\/issues\/(\d+)$/)?.[1] ?? Number.NaN)
  const isOnPullRequest = /\/pull\/\d+#/.test(comment.html_url)
  if (!isOnPullRequest || !Number.isInteger(number) || isMarked(body ?? '')) return null
  // The text that it had at first is not known any more.
  const isEdited = Date.parse(updated_at) - Date.parse(created_at) > EDITED_AFTER_MS
  const author = user === null ? null : { login: user.login, type: user.type }
  return delivery(`${repo}:comment:${id}${isEdited ? `:${updated_at}` : ''}`, 'issue_comment', {
    action: isEdited ? 'edited' : 'created',
    repository: { full_name: repo },
    issue: { number, pull_request: {} },
    comment: { id, body, user: author, performed_via_github_app, author_association, created_at },
    sender: null,
  })
}

type ListedReview = {
  id: number
  body: string
  state: string
  user: { login: string; type: string } | null
  submitted_at?: string
}
/** `installation`: the App's, by which the delivery is decided. */
export const reviewDelivery = (
  repo: string,
  number: number,
  { id, body, state, user, submitted_at }: ListedReview,
  installation: number | null,
): PolledDelivery =>
  delivery(`${repo}:review:${id}`, 'pull_request_review', {
    action: 'submitted',
    repository: { full_name: repo },
    pull_request: { number },
    review: { id, body, state, submitted_at, user: user === null ? null : { login: user.login, type: user.type } },
    installation: installation === null ? null : { id: installation },
  })

type ListedSuite = { id: number; head_sha: string; conclusion: string | null; updated_at: string | null }
/** `branch`: of the repository, whose head was asked about. */
export const checksDelivery = (
  repo: string,
  branch: string,
  { id, head_sha, conclusion, updated_at }: ListedSuite,
  installation: number | null,
): PolledDelivery =>
  delivery(`${repo}:checks:${id}`, 'check_suite', {
    action: 'completed',
    repository: { full_name: repo },
    check_suite: { head_branch: branch, head_sha, conclusion, updated_at },
    installation: installation === null ? null : { id: installation },
  })

export type MissedChange = 'opened' | 'reopened' | 'ready_for_review' | 'converted_to_draft' | 'edited' | 'closed'
/**
 * How the pull request differs from what the last decided event found, as a webhook's action; null when it does not. A pull
 * request that ended before `began` (epoch ms) and was never known is ignored.
 */
export const missedChange = (
  now: PullRequestNow,
  known: KnownPullRequest | null,
  ticket: string | null,
  began: number,
): MissedChange | null => {
  if (known === null) {
    if (ticket === null || now.fromFork) return null
    if (now.state === 'open') return 'opened'
    // It came and went between two polls.
    return now.closedAt !== null && now.closedAt >= began ? 'closed' : null
  }
  const decided = known.decided?.state ?? null
  if (now.state !== 'open') return decided === now.state ? null : 'closed'
  if (decided === null) return 'opened'
  if (decided !== 'open') return 'reopened'
  if (known.ready === now.isDraft) return now.isDraft ? 'converted_to_draft' : 'ready_for_review'
  return known.ticket === ticket ? null : 'edited'
}

/** `installation`: the App's, by which the delivery is decided. */
export const pullRequestDelivery = (
  repo: string,
  { number, title, head, closed_at, merged_at, updated_at }: ListedPullRequest,
  action: MissedChange,
  known: KnownPullRequest | null,
  installation: number | null,
): PolledDelivery => {
  // GitHub does not say when it was reopened: not before its close was decided.
  const at = action === 'reopened' && known?.decided ? iso(known.decided.at) : updated_at
  return delivery(`${repo}#${number}:${action}:${action === 'closed' ? closed_at : at}`, 'pull_request', {
    action,
    repository: { full_name: repo },
    pull_request: {
      ...{ number, title, merged: typeof merged_at === 'string', updated_at: at },
      head: { ref: head.ref, repo: head.repo === null ? null : { full_name: head.repo.full_name } },
    },
    sender: null,
    installation: installation === null ? null : { id: installation },
  })
}
