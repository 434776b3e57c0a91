/** Looks for what has changed without a message: replies to unfinished commands, and actions that wait for a runner. */
import type { Ticket } from '../../domain.ts'
import { threadOf } from '../../schema/action.ts'
import { jiraWaitingMessage, replyMessage, statusMessage } from '../../store/messages.ts'
import type { ActionRow, Message } from '../../store/port.ts'
import { replyOfComment, type Views, waitOf } from './views.ts'
import { isSlow, waitingLine } from './waiting.ts'
import { fingerprintOf } from './words.ts'

/** A command that takes longer gets a reply on its progress. */
const PATIENCE_MS = 5_000
/** People learn of an action that has waited longer than this for a runner, or that has gone on failing for so long. */
const WAITING_TOLD_MS = 30_000
/** At most so many comments with unfinished commands, and waiting actions, are kept up to date. */
const WATCHED = 200

/** Puts a reply for each unfinished command that has news. `shown`: fingerprints by thread. */
export const watchReplies = async (views: Views, shown: Map<string, string>): Promise<void> => {
  const { store, clock } = views
  const comments = await store.requests.unfinishedComments(clock() - PATIENCE_MS, WATCHED)
  const threads = new Set(comments.map(threadOf))
  for (const thread of shown.keys()) if (!threads.has(thread)) shown.delete(thread)
  for (const comment of comments) {
    const reply = await replyOfComment(views, comment)
    if (reply === null || shown.get(threadOf(comment)) === reply.text.fingerprint) continue
    shown.set(threadOf(comment), reply.text.fingerprint)
    await store.outbox.put([replyMessage(comment)])
  }
}

/** Whether an action or a command goes on, which may have news at any time. */
export const hasUnfinished = async ({ store, clock }: Pick<Views, 'store' | 'clock'>): Promise<boolean> => {
  const { pending, active } = await store.counts()
  return pending + active > 0 || (await store.requests.unfinishedComments(clock(), 1)).length > 0
}

/** Actions that take long, and the pending ones that only a runner is missing for: the oldest of each ticket with none active. */
const waitingActions = async ({ store }: Pick<Views, 'store'>): Promise<ActionRow[]> => {
  const active = await store.queue.list({ state: 'active' })
  const pending = await store.queue.list({ state: 'pending' })
  const seen = new Set(active.map(({ action }) => action.ticket))
  const oldest = pending.filter(({ action: { ticket } }) => {
    const isOldest = !seen.has(ticket)
    seen.add(ticket)
    return isOldest
  })
  return [...active.filter(isSlow), ...oldest]
}
/** An action that a runner waits with is reported at once: the runner waited as long before it reported that. */
const sinceOf = ({ state, progress }: ActionRow, now: number): number =>
  state === 'active' && (progress?.waitsFor ?? null) !== null ? now - WAITING_TOLD_MS : now

/** An action that waits or takes long. `since`: since when, epoch ms. `why`: the reason that was published, if any. */
type Wait = { row: ActionRow; since: number; why: string | null }

/** Where people look: on the pull requests, and in Jira when that is where it came from. The reply to a command says it there. */
const waitMessages = ({ id, action }: ActionRow, toJira: boolean): Message[] => [
  statusMessage(action.ticket),
  ...(toJira && action.replyTo === null && action.by.via === 'jira' ? [jiraWaitingMessage(action.ticket, id)] : []),
]

/** Tells of each action that has waited, or has taken long, for WAITING_TOLD_MS, of another reason, and of the end of that. */
export const openWaitWatch = (views: Omit<Views, 'waiting'> & { waiting: Map<Ticket, string> }, toJira: boolean) => {
  const { store, clock, waiting } = views
  const waits = new Map<string, Wait>()
  const end = async ({ row, why }: Wait): Promise<void> => {
    waits.delete(row.id)
    if (waiting.get(row.action.ticket) === row.id) waiting.delete(row.action.ticket)
    if (why !== null) await store.outbox.put(waitMessages(row, toJira))
  }
  return async (): Promise<void> => {
    const rows = await waitingActions(views)
    const ids = new Set(rows.map(({ id }) => id))
    for (const wait of [...waits.values()]) if (!ids.has(wait.row.id)) await end(wait)
    let looked = 0
    for (const row of rows) {
      const wait = waits.get(row.id) ?? { row, since: clock(), why: null }
      waits.set(row.id, wait)
      // A clock that was set back would make the wait endless.
      wait.since = Math.min(wait.since, sinceOf(row, clock()))
      if (clock() - wait.since < WAITING_TOLD_MS || looked >= WATCHED) continue
      looked += 1
      const view = await waitOf(views, row.id)
      const why = view === null ? null : fingerprintOf(waitingLine(view))
      if (why === null || why === wait.why) continue
      wait.why = why
      waiting.set(row.action.ticket, row.id)
      await store.outbox.put(waitMessages(row, toJira))
    }
  }
}
