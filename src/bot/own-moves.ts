/** Moves of tickets in Jira that the bot made. They are recorded before they are sent, and are nobody's wish when they are reported. */
import * as v from 'valibot'
import type { Ticket } from '../domain.ts'
import type { PullRequestRef } from '../schema/action.ts'
import type { OwnCommentKey, Store } from '../store/port.ts'

/** Jira's clock may differ from ours, and it may take a moment. Milliseconds. */
const REPORTED_WITHIN_MS = 5 * 60_000

export type MoveTarget = 'review' | 'done'
const ownMove = v.union([
  /** `at`: epoch ms. `made`: Jira has confirmed it; an earlier version did not say. */
  v.object({ status: v.string(), at: v.number(), made: v.optional(v.boolean()) }),
  v.object({ skipped: v.string() }),
])
/** A move that was sent, to the status of this name, or why it was not. */
export type OwnMove = v.InferOutput<typeof ownMove>

const keyOf = (ticket: Ticket, { repo, number }: PullRequestRef, to: MoveTarget): OwnCommentKey => ({
  ...{ side: 'jira', kind: 'note', ticket },
  about: `move:${to}:${repo}#${number}`,
})

type Context = { store: Pick<Store, 'comments' | 'pullRequests'> }

export const readMove = async (
  { store }: Context,
  ticket: Ticket,
  pullRequest: PullRequestRef,
  to: MoveTarget,
): Promise<OwnMove | null> => {
  const known = await store.comments.get(keyOf(ticket, pullRequest, to))
  return known === null || known.fingerprint === null ? null : v.parse(ownMove, JSON.parse(known.fingerprint))
}

/** The id is no comment's. */
export const recordMove = (
  { store }: Context,
  ticket: Ticket,
  pullRequest: PullRequestRef,
  to: MoveTarget,
  move: OwnMove,
) => store.comments.set(keyOf(ticket, pullRequest, to), 'move', JSON.stringify(move))

/** The last moves that the ticket's pull requests asked for. */
export const movesOf = async (context: Context, ticket: Ticket): Promise<OwnMove[]> => {
  const moves: OwnMove[] = []
  for (const pullRequest of await context.store.pullRequests.ofTicket(ticket))
    for (const to of ['review', 'done'] as const) {
      const move = await readMove(context, ticket, pullRequest, to)
      if (move !== null) moves.push(move)
    }
  return moves
}

/** Whether a move to the status of this name at this time (epoch ms) was ours. */
export const isOwnMove = async (
  context: Context,
  ticket: Ticket,
  status: string | null,
  at: number,
): Promise<boolean> =>
  (await movesOf(context, ticket)).some(
    move =>
      'status' in move &&
      move.status.toLowerCase() === status?.toLowerCase() &&
      Math.abs(move.at - at) <= REPORTED_WITHIN_MS,
  )
