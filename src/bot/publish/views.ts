/** Reads from the store what a status comment or a reply shows. */
import type { Ticket } from '../../domain.ts'
import type { CommentRef } from '../../schema/action.ts'
import { HISTORY_LENGTH, type KnownRunner, type Request, type Store } from '../../store/port.ts'
import { type ReplyView, replyTo } from './reply.ts'
import { statusComment } from './status-comment.ts'
import type { Rendered } from './words.ts'

/** Null: the ticket never had a machine. `repo`: where the comment stands. */
export const statusOfTicket = async (
  store: Store,
  ticket: Ticket,
  repo: string,
): Promise<{ text: Rendered; exists: boolean } | null> => {
  const known = await store.runners.environment(ticket)
  if (known === null) return null
  const runners = await store.runners.list()
  const text = statusComment({
    ticket,
    known,
    runner: runners.find(({ id }) => id === known.runnerId) ?? null,
    history: await store.requests.history(ticket, HISTORY_LENGTH),
    deleteAt: await store.inbox.scheduledAt(ticket),
    fileProblems: (await store.repositories.file(repo))?.problems ?? [],
  })
  return { text, exists: known.goneAt === null }
}

const replyView = async (
  store: Store,
  request: Request,
  runners: readonly KnownRunner[],
  now: number,
): Promise<ReplyView> => {
  const connected = runners.filter(runner => runner.connected)
  const base = { request, runners: connected, now }
  const ticket = request.action?.ticket ?? null
  const none = { row: null, ahead: [], pinned: null, known: null, host: null, deleteAt: null, noMachine: null }
  if (ticket === null) return { ...base, ...none }
  const row = await store.queue.get(request.id)
  const known = await store.runners.environment(ticket)
  const pin = await store.queue.pinnedTo(ticket)
  const unfinished = [
    ...(await store.queue.list({ ticket, state: 'active' })),
    ...(await store.queue.list({ ticket, state: 'pending' })),
  ]
  return {
    ...base,
    row,
    ahead: row === null ? [] : unfinished.filter(({ seq }) => seq < row.seq),
    pinned: runners.find(({ id }) => id === pin) ?? null,
    known: known === null || known.goneAt !== null ? null : known.environment,
    host: runners.find(({ id }) => id === known?.runnerId)?.host ?? null,
    deleteAt: await store.inbox.scheduledAt(ticket),
    noMachine: (await store.tickets.get(ticket)).decided?.noMachine ?? null,
  }
}

/** Null: there is nothing to answer. `finished`: none of its commands goes on. */
export const replyOfComment = async (
  store: Store,
  comment: CommentRef,
  now: number,
): Promise<{ text: Rendered; finished: boolean } | null> => {
  // Refusals may have neither: nobody answers whoever may not command.
  const requests = (await store.requests.ofComment(comment)).filter(
    ({ action, answer }) => action !== null || answer !== null,
  )
  if (requests.length === 0) return null
  const runners = await store.runners.list()
  const views: ReplyView[] = []
  for (const request of requests) views.push(await replyView(store, request, runners, now))
  return { text: replyTo(comment, views), finished: requests.every(({ ended }) => ended !== null) }
}
