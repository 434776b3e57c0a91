/**
 * GitHub's payloads as events. A payload is hostile until it is parsed here, once, and only what is needed is read. Pure.
 * https://docs.github.com/webhooks/webhook-events-and-payloads
 */
import * as v from 'valibot'
import { type SwarmEvent, UNFIT_EDITED } from '../../../handlers/handler.ts'
import { shortText } from '../../schema/basics.ts'
import { repositoryName } from '../../schema/forms.ts'

/** An event, or why the payload is none. */
export type Parsed<Event> = Event | { ignored: string }
export type GitHubEvent = Exclude<SwarmEvent, { kind: 'ticket' | 'ticket-comment' | 'agent-ended' | 'pushed' }>
/** `id` is GitHub's number of the repository. What the payload does not say is null. */
export type GitHubDelivery = {
  event: GitHubEvent
  repository: { name: string; id: number | null; defaultBranch: string | null }
  installation: number | null
}

/** GitHub allows 65,536 characters, each of up to four bytes. */
const body = v.optional(v.nullable(shortText(262_144)))
const name = shortText(1_000)
/** GitHub's numbers, as far as JavaScript and SQLite keep them exactly. */
const id = v.pipe(v.number(), v.safeInteger(), v.minValue(1))
const person = v.object({ login: shortText(255), type: v.fallback(v.nullable(shortText(100)), null) })
// What is not needed must not cost the delivery: whatever is wrong with it counts as missing.
const sender = v.fallback(v.nullable(person), null)
/** Epoch ms; null when it is missing or no time. */
const time = v.pipe(
  v.fallback(v.nullable(shortText(100)), null),
  v.transform(text => Date.parse(text ?? '')),
  v.transform(at => (Number.isNaN(at) ? null : at)),
)
/** What every payload may say about where it comes from. Whatever is wrong with it says nothing. */
const origin = {
  repository: v.object({
    full_name: repositoryName,
    id: v.fallback(v.nullable(id), null),
    default_branch: v.fallback(v.nullable(name), null),
  }),
  installation: v.fallback(v.nullable(v.object({ id })), null),
}

const pushPayload = v.object({
  ...origin,
  // Of a push, GitHub gives the time in whole seconds.
  repository: v.object({ ...origin.repository.entries, pushed_at: v.fallback(v.nullable(v.number()), null) }),
  ref: name,
  after: v.pipe(v.string(), v.regex(/^[0-9a-f]{40,64}$/i)),
  deleted: v.fallback(v.boolean(), false),
  sender,
})
const pullRequestPayload = v.object({
  ...origin,
  action: shortText(100),
  sender,
  pull_request: v.object({
    number: id,
    title: v.fallback(name, ''),
    merged: v.fallback(v.boolean(), false),
    updated_at: time,
    head: v.object({ ref: name, repo: v.fallback(v.nullable(v.object({ full_name: name })), null) }),
  }),
})
const commentPayload = v.object({
  ...origin,
  action: shortText(100),
  issue: v.object({ number: id, pull_request: v.optional(v.unknown()) }),
  comment: v.object({
    id,
    body,
    user: v.nullable(person),
    performed_via_github_app: v.optional(v.unknown()),
    author_association: v.fallback(v.nullable(shortText(100)), null),
    created_at: time,
  }),
})

/** GitHub's name for the commit of a branch that is gone. */
const NO_COMMIT = /^0+$/
const pushEvent = ({ ref, after, deleted, repository, sender }: v.InferOutput<typeof pushPayload>): GitHubEvent => ({
  ...{ kind: 'push', repo: repository.full_name, ref, after, pusher: sender?.login ?? null },
  deleted: deleted || NO_COMMIT.test(after),
  ...(repository.pushed_at === null ? {} : { at: repository.pushed_at * 1000 + 999 }),
})

const CHANGES = ['opened', 'reopened', 'ready_for_review', 'converted_to_draft', 'edited', 'closed'] as const
const pullRequestEvent = ({
  action,
  repository,
  sender,
  pull_request: { number, head, title, merged, updated_at },
}: v.InferOutput<typeof pullRequestPayload>): Parsed<GitHubEvent> => {
  const change = CHANGES.find(known => known === action)
  if (change === undefined) return { ignored: `nothing to do when a pull request is ${action.slice(0, 40)}` }
  return {
    kind: 'pull-request',
    change,
    pullRequest: { repo: repository.full_name, number },
    branch: head.ref,
    title,
    fromFork: head.repo?.full_name !== repository.full_name,
    merged,
    sender: sender?.login ?? null,
    at: updated_at,
  }
}

const MEMBERS: readonly (string | null)[] = ['OWNER', 'MEMBER', 'COLLABORATOR']
const whyUnfit = ({ action, issue, comment }: v.InferOutput<typeof commentPayload>): string | null => {
  if (action === 'edited') return UNFIT_EDITED
  if ((issue.pull_request ?? null) === null) return 'commands in comments on issues are ignored'
  return comment.user === null ? 'commands of deleted accounts are ignored' : null
}
const commentEvent = (payload: v.InferOutput<typeof commentPayload>): Parsed<GitHubEvent> => {
  const { action, repository, issue, comment } = payload
  if (action !== 'created' && action !== 'edited')
    return { ignored: `nothing to do when a comment is ${action.slice(0, 40)}` }
  return {
    kind: 'comment',
    pullRequest: { repo: repository.full_name, number: issue.number },
    commentId: comment.id,
    body: comment.body ?? '',
    // GitHub's own name for deleted accounts.
    author: comment.user?.login ?? 'ghost',
    authorIsBot: comment.user?.type === 'Bot' || (comment.performed_via_github_app ?? null) !== null,
    unfit: whyUnfit(payload),
    at: comment.created_at,
    ...(MEMBERS.includes(comment.author_association) ? { authorIsMember: true } : {}),
  }
}

const reviewPayload = v.object({
  ...origin,
  action: shortText(100),
  pull_request: v.object({ number: id }),
  review: v.object({
    id,
    body,
    state: v.fallback(shortText(100), ''),
    user: v.nullable(person),
    submitted_at: time,
  }),
})
const reviewEvent = ({
  action,
  repository,
  pull_request: { number },
  review: { id, body, state, user, submitted_at },
}: v.InferOutput<typeof reviewPayload>): Parsed<GitHubEvent> => {
  // In webhooks it is written small, and in the API large.
  if (action !== 'submitted' || state.toLowerCase() !== 'changes_requested')
    return { ignored: 'nothing to do for a review that asks for no changes' }
  return {
    kind: 'review',
    pullRequest: { repo: repository.full_name, number },
    reviewId: id,
    body: body ?? '',
    author: user?.login ?? 'ghost',
    // A deleted account may do nothing either.
    authorIsBot: user === null || user.type === 'Bot',
    at: submitted_at,
  }
}

const checksPayload = v.object({
  ...origin,
  action: shortText(100),
  check_suite: v.object({
    head_branch: v.fallback(v.nullable(name), null),
    head_sha: v.pipe(v.string(), v.regex(/^[0-9a-f]{40,64}$/i)),
    conclusion: v.fallback(v.nullable(shortText(100)), null),
    updated_at: time,
  }),
})
/** https://docs.github.com/rest/checks/suites: the conclusions that stand for a failure of the code. */
const FAILED: readonly (string | null)[] = ['failure', 'timed_out']
export const hasFailed = (conclusion: string | null): boolean => FAILED.includes(conclusion)
const checksEvent = ({
  action,
  repository,
  check_suite: { head_branch, head_sha, conclusion, updated_at },
}: v.InferOutput<typeof checksPayload>): Parsed<GitHubEvent> =>
  action === 'completed' && hasFailed(conclusion)
    ? {
        kind: 'checks',
        repo: repository.full_name,
        branch: head_branch,
        commit: head_sha.toLowerCase(),
        at: updated_at,
      }
    : { ignored: 'nothing to do for checks that did not fail' }

/** Parses a payload by its schema, and makes an event of it. */
const reader =
  <Payload extends v.GenericSchema<unknown, v.InferOutput<v.ObjectSchema<typeof origin, undefined>>>>(
    what: string,
    schema: Payload,
    eventOf: (payload: v.InferOutput<Payload>) => Parsed<GitHubEvent>,
  ) =>
  (payload: unknown): Parsed<GitHubDelivery> => {
    const parsed = v.safeParse(schema, payload)
    if (!parsed.success) return { ignored: `the payload of ${what} lacks a required member` }
    const event = eventOf(parsed.output)
    if ('ignored' in event) return event
    const { repository, installation } = parsed.output
    return {
      event,
      repository: { name: repository.full_name, id: repository.id, defaultBranch: repository.default_branch },
      installation: installation?.id ?? null,
    }
  }
type Reader = (payload: unknown) => Parsed<GitHubDelivery>
/** The events that mean something in every set-up. app.yml subscribes to the same. */
const events: Readonly<Record<string, Reader>> = {
  push: reader('a push', pushPayload, pushEvent),
  pull_request: reader('a pull request', pullRequestPayload, pullRequestEvent),
  issue_comment: reader('a comment', commentPayload, commentEvent),
}
/** The events that only a set-up needs whose agents are told reviews and failed checks (`agent.rounds`). */
const roundsEvents: Readonly<Record<string, Reader>> = {
  pull_request_review: reader('a review', reviewPayload, reviewEvent),
  check_suite: reader('a check suite', checksPayload, checksEvent),
}
export const githubEventNames = Object.keys(events)
export const githubRoundsEventNames = Object.keys(roundsEvents)
const allEvents = { ...events, ...roundsEvents }
export const allGitHubEventNames = Object.keys(allEvents)

/** `name` is the value of X-GitHub-Event. */
export const parseGitHub = (name: string, payload: unknown): Parsed<GitHubDelivery> => {
  const parse = Object.hasOwn(allEvents, name) ? allEvents[name] : undefined
  return parse === undefined ? { ignored: `the event ${name.slice(0, 40)} is not handled` } : parse(payload)
}

const number = v.object({ number: v.fallback(v.nullable(v.number()), null) })
const laneMembers = v.object({
  repository: v.fallback(v.object({ full_name: v.string() }), { full_name: '' }),
  ref: v.fallback(v.nullable(v.string()), null),
  issue: v.fallback(v.nullable(number), null),
  pull_request: v.fallback(v.nullable(number), null),
  check_suite: v.fallback(v.nullable(v.object({ head_branch: v.nullable(v.string()) })), null),
})

/** What must keep its order: a pull request with its comments, or a branch. */
export const githubLane = (_name: string, payload: unknown): string => {
  const parsed = v.safeParse(laneMembers, payload)
  if (!parsed.success) return 'github:other'
  const { repository, issue, pull_request, check_suite } = parsed.output
  const branch = check_suite?.head_branch ?? null
  const ref = parsed.output.ref ?? (branch === null ? null : `refs/heads/${branch}`)
  const repo = `github:${repository.full_name.slice(0, 150)}`
  const pullRequest = pull_request?.number ?? issue?.number ?? null
  if (pullRequest !== null) return `${repo}:pr:${pullRequest}`
  return ref === null ? `${repo}:other` : `${repo}:ref:${ref.slice(0, 250)}`
}
