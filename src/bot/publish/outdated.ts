/** Older replies on a pull request, which a newer one makes outdated: GitHub hides them, or they are folded. */
import type { CommentRef, PullRequestRef } from '../../schema/action.ts'
import { outdatedReplyMessage } from '../../store/messages.ts'
import { type Message, OUTDATED, type Request, type Store } from '../../store/port.ts'
import { type GitHub, githubFailure, type Octokit, parts, statusOf } from '../github/client.ts'
import { octokitFor } from './github-side.ts'
import { commandOf } from './words.ts'

/** A reply makes at most so many older ones outdated: more were never left behind. */
const MOST = 20

/** The commands that a reply answers, by name. */
const commandsIn = (requests: readonly Request[]): Set<string> =>
  new Set(
    requests.map(({ action, what }) => {
      const written = what.match(/^\/swarm\s+(\S+)/i)?.[1]
      return (written ?? (action === null ? what : commandOf(action)).split(' ')[0] ?? '').toLowerCase()
    }),
  )

/** A message for each older reply on the pull request that answers none but the commands that this one answers. */
export const outdatedBy = async (store: Store, reply: Extract<CommentRef, { repo: string }>): Promise<Message[]> => {
  const commands = commandsIn(await store.requests.ofComment(reply))
  const messages: Message[] = []
  for (const commentId of await store.comments.replies(reply, MOST)) {
    const older = { repo: reply.repo, number: reply.number, commentId }
    if (commentId >= reply.commentId) continue
    const requests = await store.requests.ofComment(older)
    if (requests.length === 0 || requests.some(({ ended }) => ended === null)) continue
    if ([...commandsIn(requests)].every(command => commands.has(command))) messages.push(outdatedReplyMessage(older))
  }
  return messages
}

// ── GitHub ──

/** https://docs.github.com/graphql/reference/mutations#minimizecomment */
const MINIMIZE = `mutation ($subjectId: ID!) {
  minimizeComment(input: { subjectId: $subjectId, classifier: OUTDATED }) { minimizedComment { isMinimized } }
}`
type Answer = { minimizeComment?: { minimizedComment?: { isMinimized?: boolean } | null } | null } | null

/** GraphQL answers with 200 and errors: `type` is GitHub's own; null for what the schema or the server says. */
const graphqlError = (error: unknown): { type: string | null; code: string | null } | null => {
  if (!(error instanceof Error) || !('errors' in error) || !Array.isArray(error.errors)) return null
  const [first] = error.errors as { type?: unknown; extensions?: { code?: unknown } }[]
  const text = (value: unknown) => (typeof value === 'string' ? value : null)
  return { type: text(first?.type), code: text(first?.extensions?.code) }
}

/** `cannot`: this account may not, or this GitHub has no such mutation. Throws what may work later. */
const minimize = async (octokit: Octokit, subjectId: string): Promise<'done' | 'gone' | 'cannot'> => {
  try {
    const answer: Answer = await octokit.graphql<Answer>(MINIMIZE, { subjectId })
    return answer?.minimizeComment?.minimizedComment?.isMinimized === true ? 'done' : 'cannot'
  } catch (error) {
    const known = graphqlError(error)
    if (known?.type === 'NOT_FOUND') return 'gone'
    // Without a type or a code, something went wrong at GitHub.
    if (known !== null && known.type !== 'RATE_LIMITED' && (known.type !== null || known.code !== null)) return 'cannot'
    if (known === null && githubFailure(error, '', Date.now()).failure.kind !== 'network') {
      if (statusOf(error) !== 401) return 'cannot'
    }
    throw error
  }
}

const FOLD = '<details><summary>Outdated: there is a newer reply.</summary>'
/** The hidden marker stays the first line: by it the comment is found again. */
const folded = (body: string): string => {
  const [marker = '', ...rest] = body.split('\n')
  return body.includes(FOLD) ? body : `${marker}\n${FOLD}\n\n${rest.join('\n').trim()}\n\n</details>\n`
}

/** Hides our comment. False: it is gone. */
const hide = async (octokit: Octokit, repo: string, id: number): Promise<boolean> => {
  try {
    const { data } = await octokit.rest.issues.getComment({ ...parts(repo), comment_id: id })
    const result = await minimize(octokit, data.node_id)
    if (result === 'cannot')
      await octokit.rest.issues.updateComment({ ...parts(repo), comment_id: id, body: folded(data.body ?? '') })
    return result !== 'gone'
  } catch (error) {
    if (statusOf(error) === 404) return false
    throw error
  }
}

/** The reply to this comment is outdated from now on: it is hidden once, and never written again. */
export const publishOutdated = async (
  { store, github }: { store: Store; github: GitHub | null },
  { repo, number, commentId }: PullRequestRef & { commentId: number },
): Promise<boolean> => {
  const key = { side: 'github', kind: 'reply', repo, number, about: String(commentId) } as const
  const known = await store.comments.get(key)
  if (known === null || known.id === null || known.fingerprint === OUTDATED) return false
  const hidden = await hide(await octokitFor(github, repo), repo, Number(known.id))
  await store.comments.set(key, known.id, OUTDATED)
  return hidden
}
