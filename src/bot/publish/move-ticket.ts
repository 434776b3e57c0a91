/** Moves a ticket in Jira because of its pull request, by `transitions`. */
import type { Log } from '../../log.ts'
import { statusMessage } from '../../store/messages.ts'
import type { MessageBody, Store } from '../../store/port.ts'
import type { JiraIssue } from '../jira/answers.ts'
import type { Jira } from '../jira/client.ts'
import type { Transition } from '../jira/transitions.ts'
import { readMove, recordMove } from '../own-moves.ts'
import { troubleOf } from './trouble.ts'

type Move = Extract<MessageBody, { kind: 'move-ticket' }>
const isSame = (a: string | null, b: string) => a?.trim().toLowerCase() === b.trim().toLowerCase()

const CATEGORY = { review: 'indeterminate', done: 'done' } as const
/** Every workflow that has a review calls it so, in this or another case. */
const REVIEW = 'In Review'

/** Where the ticket shall be. Where a person moved it meanwhile, it stays. */
const isSettled = ({ category, statusName }: JiraIssue, { to, status }: Move): boolean => {
  if (category === 'done') return true
  if (to === 'done') return status !== true && isSame(statusName, status)
  return category !== 'indeterminate' || isSame(statusName, status === true ? REVIEW : status)
}

/** By the configured name; else by "In Review", for a review; else by category. Those come first that ask for no field. */
export const chooseTransition = (
  all: readonly Transition[],
  { statusName }: Pick<JiraIssue, 'statusName'>,
  { to, status }: Pick<Move, 'to' | 'status'>,
): Transition | { problem: string } => {
  const fitting = all.filter(({ to: target }) => target.category === CATEGORY[to] && !isSame(statusName, target.name))
  const named = (name: string, from: readonly Transition[]) =>
    from.filter(({ to: target }) => isSame(target.name, name))
  const reviews = to === 'review' ? named(REVIEW, fitting) : []
  const candidates = status !== true ? named(status, all) : reviews.length > 0 ? reviews : fitting
  const [first] = candidates.toSorted((a, b) => a.needs.length - b.needs.length)
  if (first === undefined)
    return {
      problem:
        status === true
          ? `no transition leads to a status of the category ${to === 'done' ? 'done' : 'in progress'}`
          : `no transition leads to the status "${status}"`,
    }
  return first.needs.length === 0
    ? first
    : { problem: `the transition to "${first.to.name}" asks for ${first.needs.slice(0, 5).join(', ')}` }
}

type Context = { store: Store; clock: () => number; log: Log }

/** Reports the reason once, in the log and in the status comment. */
const skip = async (context: Context, { ticket, pullRequest, to }: Move, reason: string): Promise<boolean> => {
  const { store, log } = context
  const before = await readMove(context, ticket, pullRequest, to)
  if (before !== null && 'skipped' in before && before.skipped === reason) return false
  log.warn(
    { ticket, remedy: 'Name a status that its workflow leads to under `transitions` in config.yaml, or leave it out.' },
    `${ticket} is not moved in Jira: ${reason}`,
  )
  await recordMove(context, ticket, pullRequest, to, { skipped: reason })
  await store.outbox.put([statusMessage(ticket)])
  return false
}

export const publishMove = async (context: Context, jira: Jira, move: Move): Promise<boolean> => {
  const { store, clock } = context
  const { ticket, pullRequest, to } = move
  const link = await store.pullRequests.get(pullRequest)
  if (link === null || link.ticket !== ticket) return false
  const isStillSo = to === 'review' ? link.state === 'open' && link.ready !== false : link.state === 'merged'
  if (!isStillSo) return false
  const before = await readMove(context, ticket, pullRequest, to)
  // A merge is final: whoever moved the ticket since had a reason.
  if (to === 'done' && before !== null && 'status' in before && before.made !== false) return false
  try {
    const issue = await jira.issue(ticket)
    if (issue === null || isSettled(issue, move)) return false
    if (before !== null && 'status' in before && isSame(issue.statusName, before.status)) return false
    const transition = chooseTransition(await jira.transitions(ticket), issue, move)
    if ('problem' in transition) return await skip(context, move, transition.problem)
    const sent = { status: transition.to.name, at: clock() }
    await recordMove(context, ticket, pullRequest, to, { ...sent, made: false })
    await jira.transition(ticket, transition.id)
    await recordMove(context, ticket, pullRequest, to, { ...sent, made: true })
    return true
  } catch (error) {
    const trouble = troubleOf(error, clock())
    if (trouble.allows === 'never') return skip(context, move, trouble.failure.message)
    // Report it now, and try again: somebody may give the permission.
    if (trouble.allows === 'for-a-day') await skip(context, move, trouble.failure.message)
    throw error
  }
}
