/** Which runners are there, what they report, and what waits for them. */
import type { Ticket } from '../../domain.ts'
import type { Log } from '../../log.ts'
import type { HeartbeatRequest, HeartbeatResponse } from '../../schema/runner-protocol.ts'
import { MAX_WAITING_ACTIONS } from '../../schema/runner-protocol.ts'
import { needAt, roomTakenBy, whyNever } from '../../store/fits.ts'
import { type ActionRow, MAX_BROUGHT, MAX_WAIT_MS, RUNNER_AWAY_MS, type Store } from '../../store/port.ts'
import { openProblemLog } from '../problem-log.ts'

/** Conflicts of one runner that the log names. */
const MAX_CONFLICTS = 20

type Conflict = Awaited<ReturnType<Store['runners']['heartbeat']>>['heldElsewhere'][number]

/** Whether the heartbeat says something of the ticket: a full one does of each, if only that it is gone. */
const namedIn = ({ changes, beginning }: HeartbeatRequest): ((ticket: Ticket) => boolean) => {
  if (changes !== undefined) {
    const named = new Set([...changes.changed, ...changes.gone].map(({ ticket }) => ticket))
    return ticket => named.has(ticket)
  }
  const others = new Set(beginning?.others.map(({ ticket }) => ticket))
  return ticket => !others.has(ticket)
}

/** Logs runners that come and go, and machines that two runners have for one ticket. Times are epoch ms. */
export const openPresence = (log: Log) => {
  const present = new Map<string, { host: string; at: number; recorded: string | null }>()
  /** By runner: the tickets that are ignored, and their subjects in the log. */
  const conflicts = new Map<string, Map<Ticket, string>>()
  const ignored = new Map<string, Set<Ticket>>()
  const problems = openProblemLog(log)
  return {
    /** True when it was not there before. */
    record: ({ runnerId, host, version }: HeartbeatRequest, now: number): boolean => {
      const isNew = !present.has(runnerId)
      if (isNew) log.info({ host, version, happened: 'connection' }, 'a runner is connected')
      present.set(runnerId, { host, at: now, recorded: present.get(runnerId)?.recorded ?? null })
      return isNew
    },
    /** Whether what it says changed is all that changed: nothing was missed since the bot wrote the one that it follows. */
    follows: ({ runnerId, changes }: HeartbeatRequest): boolean =>
      changes === undefined || present.get(runnerId)?.recorded === changes.follows,
    /** The heartbeat that is written now, whole; null: the next one has to be full. */
    recorded: (runnerId: string, id: string | null): void => {
      const runner = present.get(runnerId)
      if (runner !== undefined) runner.recorded = id
    },
    /** `hereSince`: heartbeats before that found no bot. */
    look: async (store: Store, now: number, hereSince: number): Promise<void> => {
      for (const [runner, { host, at }] of present) {
        if (now - Math.max(at, hereSince) <= RUNNER_AWAY_MS) continue
        present.delete(runner)
        const { pending } = await store.counts()
        log.warn({ host, pending }, 'a runner no longer responds; its actions wait until it is back')
      }
    },
    /** Milliseconds until a runner that sends nothing more counts as away. */
    nextLook: (now: number): number =>
      Math.min(MAX_WAIT_MS, ...[...present.values()].map(({ at }) => at + RUNNER_AWAY_MS + 1 - now)),
    conflicts: (heartbeat: HeartbeatRequest, current: readonly Conflict[]): void => {
      const { runnerId, host } = heartbeat
      const former = conflicts.get(runnerId) ?? new Map<Ticket, string>()
      const isNamed = namedIn(heartbeat)
      const left = new Map([...former].filter(([ticket]) => !isNamed(ticket)))
      for (const { ticket, vmId, host: holder } of current) {
        if (left.size >= MAX_CONFLICTS) break
        const subject = `${ticket} on ${host}`
        left.set(ticket, subject)
        problems.report(subject, {
          message: `${subject}: ${vmId} is ignored, because the runner on ${holder} has the machine of this ticket`,
          remedy: `Delete one of the two, on its own host: agent-swarm delete ${ticket}`,
        })
      }
      for (const [ticket, subject] of former) if (!left.has(ticket)) problems.clear(subject)
      conflicts.set(runnerId, left)
    },
    tooMany: (heartbeat: HeartbeatRequest, tickets: readonly Ticket[]): void => {
      const { runnerId, host } = heartbeat
      const isNamed = namedIn(heartbeat)
      const left = new Set([...(ignored.get(runnerId) ?? [])].filter(ticket => !isNamed(ticket)))
      for (const ticket of tickets) left.add(ticket)
      ignored.set(runnerId, left)
      const subject = `machines on ${host} that the bot did not ask for`
      if (left.size === 0) problems.clear(subject)
      else
        problems.report(subject, {
          message: `${subject}: a runner may bring ${MAX_BROUGHT} of them; the others are ignored`,
          remedy: 'Delete those that nobody needs, on that host: agent-swarm delete TICKET',
        })
    },
  }
}

const whyWaiting = (
  { action, notBefore, needs }: ActionRow,
  { offer }: HeartbeatRequest,
  active: ActionRow['action'] | undefined,
  now: number,
): string => {
  if (active !== undefined) return `${active.kind} of the same ticket is in progress`
  if (notBefore > now && needs === null) return `the next attempt is at ${new Date(notBefore).toISOString()}`
  const obstacle = action.kind === 'create' ? whyNever(action, offer) : null
  if (obstacle !== null) return `this runner cannot take it: ${obstacle.reason}`
  const need = action.kind === 'create' ? needAt(action, offer) : needs
  const behind = need === null ? null : roomTakenBy(need, offer)
  if (behind !== null) return `waits for room: ${behind}`
  return 'all slots of the runner are in use'
}

/** The pending actions for this runner, or for any. Oldest first. */
export const waitingFor = async (
  store: Store,
  heartbeat: HeartbeatRequest,
  now: number,
): Promise<HeartbeatResponse['waiting']> => {
  const rows = await store.queue.list({ state: 'pending' })
  if (rows.length === 0) return []
  const active = new Map((await store.queue.list({ state: 'active' })).map(({ action }) => [action.ticket, action]))
  const waiting: HeartbeatResponse['waiting'] = []
  for (const row of rows) {
    if (waiting.length >= MAX_WAITING_ACTIONS) break
    const { ticket, kind, by } = row.action
    const pin = await store.queue.pinnedTo(ticket)
    if (pin !== null && pin !== heartbeat.runnerId) continue
    const owned = await store.queue.beyondLimit(row.id)
    const why =
      owned === null
        ? whyWaiting(row, heartbeat, active.get(ticket), now)
        : `the person of this ticket has the most machines that one person may have: ${owned.join(', ')}`
    waiting.push({ ticket, kind, by, since: new Date(row.createdAt).toISOString(), why })
  }
  return waiting
}
