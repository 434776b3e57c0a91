/** Reads from the store what a status comment, a reply or a note shows. */
import { type Ticket, ticketOf } from '../../domain.ts'
import type { CommentRef } from '../../schema/action.ts'
import {
  type ActionRow,
  HISTORY_LENGTH,
  type KnownRunner,
  type PullRequestLink,
  type Request,
  type Store,
} from '../../store/port.ts'
import { openAfterMerge } from '../open-after-merge.ts'
import { movesOf } from '../own-moves.ts'
import { type ReplyView, replyTo } from './reply.ts'
import { statusComment } from './status-comment.ts'
import { isSlow, type WaitingView } from './waiting.ts'
import { type Links, linksTo, type Rendered } from './words.ts'

export type Views = {
  store: Store
  /** GitHub's address for people, `https://github.com`. */
  webUrl: string
  /** The site's, for people; null when Jira is not configured, or only its gateway is known. */
  jiraUrl: string | null
  /** The ids of actions that have waited for a runner for a while, by ticket. */
  waiting: ReadonlyMap<Ticket, string>
  /** Epoch ms. */
  clock: () => number
}

const linksOf = async ({ store, webUrl, jiraUrl }: Views, ticket: Ticket): Promise<Links> => {
  const repositories = new Set((await store.pullRequests.ofTicket(ticketOf(ticket))).map(({ repo }) => repo))
  const [repo = null] = repositories
  return linksTo({ webUrl, jiraUrl }, repositories.size === 1 ? repo : null)
}

const waitingView = async (
  { store, clock }: Pick<Views, 'store' | 'clock'>,
  row: ActionRow,
  runners: readonly KnownRunner[],
): Promise<WaitingView> => {
  const { ticket } = row.action
  const known = await store.runners.environment(ticket)
  const pin = await store.queue.pinnedTo(ticket)
  const unfinished = [
    ...(await store.queue.list({ ticket, state: 'active' })),
    ...(await store.queue.list({ ticket, state: 'pending' })),
  ]
  return {
    row,
    ahead: unfinished.filter(({ seq }) => seq < row.seq),
    pinned: runners.find(({ id }) => id === pin) ?? null,
    runners: runners.filter(runner => runner.connected),
    known: known === null || known.goneAt !== null ? null : known.environment,
    beyondLimit: await store.queue.beyondLimit(row.id),
    now: clock(),
  }
}
/** Null: it neither waits for a runner nor takes long. */
export const waitOf = async (views: Pick<Views, 'store' | 'clock'>, id: string): Promise<WaitingView | null> => {
  const row = await views.store.queue.get(id)
  return row === null || (row.state !== 'pending' && !isSlow(row))
    ? null
    : waitingView(views, row, await views.store.runners.list())
}

/** The ticket's attempts, and whether each works on this branch. */
const attemptsOf = async (
  { store }: Pick<Views, 'store'>,
  ticket: Ticket,
  { repo, branch }: Pick<PullRequestLink, 'repo' | 'branch'>,
) => {
  const attempts = await store.runners.attempts(ticket)
  return Promise.all(
    attempts.map(async attempt => {
      const { project } = attempt
      // A runner may write it in another case than GitHub.
      const isHere = project?.branch === branch && (await store.repositories.presentName(project.repo)) === repo
      return { ...attempt, isHere }
    }),
  )
}

/** Null: the ticket never had a machine. `repo`, `branch`: of the pull request where the comment stands. */
export const statusOfTicket = async (
  views: Views,
  ticket: Ticket,
  { repo, branch }: Pick<PullRequestLink, 'repo' | 'branch'>,
): Promise<{ text: Rendered; exists: boolean } | null> => {
  const { store, waiting } = views
  const known = await store.runners.environment(ticket)
  if (known === null) return null
  const runners = await store.runners.list()
  const waitingId = waiting.get(ticket)
  const text = statusComment({
    ticket,
    known,
    attempts: await attemptsOf(views, ticket, { repo, branch }),
    runner: runners.find(({ id }) => id === known.runnerId) ?? null,
    history: await store.requests.history(ticket, HISTORY_LENGTH),
    deleteAt: await store.inbox.scheduledAt(ticket),
    openAfterMerge: await openAfterMerge(store, ticket),
    waiting: waitingId === undefined ? null : await waitOf(views, waitingId),
    links: await linksOf(views, ticket),
    skippedMoves: (await movesOf(views, ticket)).flatMap(move => ('skipped' in move ? move.skipped : [])),
    fileProblems: (await store.repositories.file(repo))?.problems ?? [],
  })
  return { text, exists: known.goneAt === null }
}

const replyView = async (views: Views, request: Request, runners: readonly KnownRunner[]): Promise<ReplyView> => {
  const { store, webUrl, jiraUrl, clock } = views
  const ticket = request.action?.ticket ?? null
  if (ticket === null)
    return {
      ...{
        request,
        row: null,
        ahead: [],
        pinned: null,
        beyondLimit: null,
        known: null,
        host: null,
        deleteAt: null,
        noMachine: null,
        now: clock(),
      },
      runners: runners.filter(runner => runner.connected),
      links: linksTo({ webUrl, jiraUrl }, null),
    }
  const row = await store.queue.get(request.id)
  const known = await store.runners.environment(ticket)
  const wait = row === null ? null : await waitingView(views, row, runners)
  return {
    request,
    row,
    ahead: wait?.ahead ?? [],
    pinned: wait?.pinned ?? null,
    beyondLimit: wait?.beyondLimit ?? null,
    runners: runners.filter(runner => runner.connected),
    known: known === null || known.goneAt !== null ? null : known.environment,
    host: runners.find(({ id }) => id === known?.runnerId)?.host ?? null,
    deleteAt: await store.inbox.scheduledAt(ticket),
    links: await linksOf(views, ticket),
    now: clock(),
    noMachine: (await store.tickets.get(ticket)).decided?.noMachine ?? null,
  }
}

/** Null: there is nothing to answer. `finished`: none of its commands goes on. */
export const replyOfComment = async (
  views: Views,
  comment: CommentRef,
): Promise<{ text: Rendered; finished: boolean } | null> => {
  // Refusals may have neither: nobody answers whoever may not command.
  const requests = (await views.store.requests.ofComment(comment)).filter(
    ({ action, answer }) => action !== null || answer !== null,
  )
  if (requests.length === 0) return null
  const runners = await views.store.runners.list()
  const shown: ReplyView[] = []
  for (const request of requests) shown.push(await replyView(views, request, runners))
  return { text: replyTo(comment, shown), finished: requests.every(({ ended }) => ended !== null) }
}
