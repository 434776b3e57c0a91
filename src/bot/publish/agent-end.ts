/** The one comment on how a run of an agent ended: on the ticket's pull request, or on the ticket when there is none. */
import { isOfAnAttempt } from '../../branches.ts'
import { type EnvironmentKey, ticketOf } from '../../domain.ts'
import { pullRequestKey } from '../../store/messages.ts'
import type { KnownPullRequest, MessageBody, OwnCommentKey } from '../../store/port.ts'
import type { GitHub } from '../github/client.ts'
import type { Jira } from '../jira/client.ts'
import { agentMarker } from '../markers.ts'
import { presentEnvironment } from '../present-environment.ts'
import { agentEnd } from './agent-words.ts'
import { githubComment } from './github-side.ts'
import { jiraNoteComment } from './jira-side.ts'
import { upsert } from './own-comment.ts'
import { tooSoon, unpublishable } from './trouble.ts'
import type { Views } from './views.ts'

type Ended = Extract<MessageBody, { kind: 'agent-ended' }>
type Context = Views & { github: GitHub | null; jira: Jira | null }

/** While its pull request is on its way, the comment waits for it. */
const OPENING_MS = 1_000

/** Where the comment was begun already; else the open pull request of the project's branch, or the ticket's last open one. */
const placeOf = async (
  { store }: Context,
  key: EnvironmentKey,
  about: string,
): Promise<KnownPullRequest | 'jira' | null> => {
  const ticket = ticketOf(key)
  const links = await store.pullRequests.ofTicket(ticket)
  const begun = (key: OwnCommentKey) => store.comments.get(key)
  for (const link of links) {
    const { repo, number } = link
    if ((await begun({ side: 'github', kind: 'note', repo, number, about })) !== null) return link
  }
  if ((await begun({ side: 'jira', kind: 'note', ticket, about })) !== null) return 'jira'
  const open = links.filter(({ state }) => state === 'open')
  const project = (await presentEnvironment(store, key))?.project
  // A runner may write it in another case than GitHub.
  const home = project === undefined ? null : await store.repositories.presentName(project.repo)
  const own = open.find(({ repo, branch }) => repo === home && branch === project?.branch)
  // A pull request of another attempt is about another machine.
  return own ?? open.findLast(({ branch }) => !isOfAnAttempt(branch)) ?? null
}

export const publishAgentEnd = async (context: Context, { ticket: named, run }: Ended): Promise<boolean> => {
  const { store, github, jira, webUrl } = context
  const key = await store.tickets.current(named)
  const environment = await presentEnvironment(store, key)
  for (const { repo, branch } of environment?.pushes ?? [])
    if (await store.outbox.has(pullRequestKey(await store.repositories.presentName(repo), branch)))
      throw tooSoon(OPENING_MS)
  const about = `agent:${run.run}`
  const place = await placeOf(context, key, about)
  if (place !== null && place !== 'jira') {
    const { repo, number } = place
    const comment = { kind: 'note', repo, number, about, marker: agentMarker(run.run) } as const
    return upsert(store.comments, githubComment(github, comment, true), agentEnd(key, run, { repo, number, webUrl }))
  }
  if (jira === null) throw unpublishable(`the end of the agent of ${key}: there is no pull request, and no Jira`)
  const text = agentEnd(key, run, null)
  return upsert(store.comments, jiraNoteComment(jira, ticketOf(key), about, text), text)
}
