/** GitHub's payloads as events of ours. A payload is hostile until parsed, and only what is needed is read. Pure. */
import * as v from 'valibot'
import type { SwarmEvent } from '../../../handlers/handler.ts'
import { repositoryName } from '../../schema/forms.ts'

/** An event, or why it is none. */
export type Parsed<Event> = { event: Event } | { ignored: string }
type GitHubEvent = Extract<SwarmEvent, { kind: 'push' | 'pull-request' | 'comment' }>

const repository = v.object({ full_name: repositoryName })
/** GitHub's numbers, as far as they are whole in JavaScript and in SQLite. */
const id = v.pipe(v.number(), v.safeInteger(), v.minValue(1))
const sender = v.optional(v.nullable(v.object({ login: v.string(), type: v.optional(v.string()) })))

/** Epoch ms. */
const time = v.optional(
  v.nullable(
    v.pipe(
      v.string(),
      v.transform(text => Date.parse(text)),
    ),
  ),
)
const timeOf = (at: number | null | undefined): number | null => (Number.isFinite(at) ? (at ?? null) : null)

const pushPayload = v.object({
  ref: v.string(),
  after: v.pipe(v.string(), v.regex(/^[0-9a-f]{40,64}$/i)),
  deleted: v.optional(v.boolean(), false),
  repository,
  sender,
})
const pullRequestPayload = v.object({
  action: v.string(),
  repository,
  sender,
  pull_request: v.object({
    number: id,
    title: v.string(),
    body: v.optional(v.nullable(v.string())),
    updated_at: time,
    head: v.object({ ref: v.string(), repo: v.optional(v.nullable(v.object({ full_name: v.string() }))) }),
  }),
})
const commentPayload = v.object({
  action: v.string(),
  repository,
  issue: v.object({ number: id, pull_request: v.optional(v.unknown()) }),
  comment: v.object({
    id,
    body: v.optional(v.nullable(v.string())),
    user: v.nullable(v.object({ login: v.string(), type: v.optional(v.string()) })),
    performed_via_github_app: v.optional(v.unknown()),
    created_at: time,
  }),
})

const CHANGES = ['opened', 'reopened', 'ready_for_review', 'edited', 'closed'] as const

/** What is listened to: app.yml names the same. */
const events: Readonly<Record<string, (payload: unknown) => Parsed<GitHubEvent>>> = {
  push: payload => {
    const parsed = v.safeParse(pushPayload, payload)
    if (!parsed.success) return { ignored: 'a push that lacks what is needed' }
    const { ref, after, deleted, repository, sender } = parsed.output
    return { event: { kind: 'push', repo: repository.full_name, ref, after, deleted, pusher: sender?.login ?? null } }
  },
  pull_request: payload => {
    const parsed = v.safeParse(pullRequestPayload, payload)
    if (!parsed.success) return { ignored: 'a pull request that lacks what is needed' }
    const { action, repository, sender, pull_request } = parsed.output
    const change = CHANGES.find(one => one === action)
    if (change === undefined) return { ignored: `a pull request was ${action.slice(0, 40)}` }
    return {
      event: {
        kind: 'pull-request',
        change,
        pullRequest: { repo: repository.full_name, number: pull_request.number },
        branch: pull_request.head.ref,
        title: pull_request.title,
        body: pull_request.body ?? '',
        fromFork: pull_request.head.repo?.full_name !== repository.full_name,
        sender: sender?.login ?? null,
        at: timeOf(pull_request.updated_at),
      },
    }
  },
  issue_comment: payload => {
    const parsed = v.safeParse(commentPayload, payload)
    if (!parsed.success) return { ignored: 'a comment that lacks what is needed' }
    const { action, repository, issue, comment } = parsed.output
    if (action !== 'created' && action !== 'edited') return { ignored: `a comment was ${action.slice(0, 40)}` }
    const onIssue = issue.pull_request === undefined || issue.pull_request === null
    return {
      event: {
        kind: 'comment',
        pullRequest: { repo: repository.full_name, number: issue.number },
        commentId: comment.id,
        body: comment.body ?? '',
        // GitHub's own name for those that are gone.
        author: comment.user?.login ?? 'ghost',
        authorIsBot: comment.user?.type === 'Bot' || (comment.performed_via_github_app ?? null) !== null,
        unfit:
          action === 'edited'
            ? 'an edited comment gives no commands'
            : onIssue
              ? 'commands are given on pull requests, and this is an issue'
              : comment.user === null
                ? 'its author is gone'
                : null,
        at: timeOf(comment.created_at),
      },
    }
  },
}

export const githubEventNames = Object.keys(events)

export const githubEvent = (name: string, payload: unknown): Parsed<GitHubEvent> => {
  const parse = Object.hasOwn(events, name) ? events[name] : undefined
  return parse === undefined ? { ignored: `the event ${name.slice(0, 40)} means nothing here` } : parse(payload)
}

const addressed = v.object({
  repository: v.optional(
    v.nullable(
      v.object({ id: v.optional(v.unknown()), full_name: v.string(), default_branch: v.optional(v.string()) }),
    ),
  ),
  installation: v.optional(v.nullable(v.object({ id }))),
  ref: v.optional(v.unknown()),
  number: v.optional(v.unknown()),
  issue: v.optional(v.nullable(v.object({ number: v.optional(v.unknown()) }))),
  pull_request: v.optional(v.nullable(v.object({ number: v.optional(v.unknown()) }))),
})

/** What must keep its order: a pull request with its comments, or a branch. */
export const githubLane = (_name: string, payload: unknown): string => {
  const parsed = v.safeParse(addressed, payload)
  if (!parsed.success) return 'github:other'
  const { repository, ref, issue, pull_request } = parsed.output
  const repo = `github:${(repository?.full_name ?? '').slice(0, 150)}`
  const number = pull_request?.number ?? issue?.number
  if (typeof number === 'number') return `${repo}:pr:${number}`
  return typeof ref === 'string' ? `${repo}:ref:${ref.slice(0, 250)}` : `${repo}:other`
}

export const installationOf = (payload: unknown): number | null => {
  const parsed = v.safeParse(addressed, payload)
  return parsed.success ? (parsed.output.installation?.id ?? null) : null
}

/** GitHub's own number of the repository; null where the payload does not say. */
export const repositoryIdOf = (payload: unknown): number | null => {
  const parsed = v.safeParse(addressed, payload)
  const read = parsed.success ? v.safeParse(id, parsed.output.repository?.id) : null
  return read?.success === true ? read.output : null
}

/** Null where the payload does not say. */
export const defaultBranchOf = (payload: unknown): string | null => {
  const parsed = v.safeParse(addressed, payload)
  return parsed.success ? (parsed.output.repository?.default_branch ?? null) : null
}
