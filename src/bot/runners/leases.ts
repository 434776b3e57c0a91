/** Ends or returns actions whose runner was lost, and rejects creates that no runner can take, and forks beyond a limit. */
import { openJumpWatch } from '../../clock.ts'
import type { Failure } from '../../schema/failure.ts'
import { HEARTBEAT_MS, LEASE_MS } from '../../schema/runner-protocol.ts'
import { whyNever } from '../../store/fits.ts'
import { type ActionRow, type KnownRunner, MAX_ATTEMPTS } from '../../store/port.ts'
import { counted } from '../../words.ts'
import { presentEnvironment } from '../present-environment.ts'
import { failAction, type OutcomeContext, rejectAction } from './outcomes.ts'

/** A bot that did not look for so long was down or asleep. */
const GAP_MS = LEASE_MS / 2
/** A create is rejected after this: every runner that is there has sent a heartbeat by then. */
const GRACE_MS = 2 * HEARTBEAT_MS
const REJECT_EVERY_MS = HEARTBEAT_MS
/** Between two looks: what is due may not be ended yet. */
const SHORTEST_MS = 500

// ── Lost runners ──

const endExpired = async (context: OutcomeContext): Promise<void> => {
  const { queue } = context.store
  for (const row of await queue.expired()) {
    const { id, token, action, attempt } = row
    if (token === null) continue
    if (attempt < MAX_ATTEMPTS) {
      await queue.giveBack(id, token)
      continue
    }
    const failure: Failure = {
      kind: 'unknown',
      message: `${action.kind} of ${action.ticket}: the runner was lost while doing it, ${MAX_ATTEMPTS} times`,
      remedy: 'Look at the log of the runner, then request it again.',
    }
    await failAction(context, row, token, { failure, retry: false, environment: null })
  }
}

// ── Creates that no runner can take ──

/** Why none of these runners can take the create, even with an empty host; null when one can, or when it is not known. */
const whyNobody = ({ action }: Pick<ActionRow, 'action'>, runners: readonly KnownRunner[]): Failure | null => {
  if (action.kind !== 'create' || runners.length === 0) return null
  const obstacles: { host: string; reason: string; remedy: string }[] = []
  for (const { host, offer } of runners) {
    const obstacle = offer === null ? null : whyNever(action, offer)
    if (obstacle === null) return null
    obstacles.push({ host, ...obstacle })
  }
  const [first] = obstacles
  return {
    kind: 'capacity',
    message: `creating ${action.ticket}: no runner can take it: ${obstacles.map(({ host, reason }) => `${host}: ${reason}`).join('; ')}`,
    remedy: first === undefined ? null : `On ${first.host}: ${first.remedy}`,
  }
}

/** A fork does not wait for the limit of its person: later actions of its ticket, a delete too, would wait behind it. */
const whyBeyondLimit = async ({ store }: OutcomeContext, { id, action }: ActionRow): Promise<Failure | null> => {
  if (action.kind !== 'fork') return null
  const owned = await store.queue.beyondLimit(id)
  if (owned === null) return null
  return {
    kind: 'refused',
    message: `forking ${action.ticket} into ${counted(action.count, 'attempt')}: the person of this ticket would have more machines than one person may have; theirs: ${owned.join(', ')}`,
    remedy: 'Delete some of them, or ask for fewer attempts.',
  }
}

/**
 * What waits for room does not hold up the stop or delete that would make it. A delete waits to look for unsaved work: only one that
 * does not look goes ahead of it.
 */
const whyOvertaken = async ({ store }: OutcomeContext, { seq, needs, action }: ActionRow): Promise<Failure | null> => {
  if (needs === null) return null
  const { kind, ticket } = action
  const pending = await store.queue.list({ ticket, state: 'pending' })
  const later = pending.find(
    each =>
      each.seq > seq &&
      (each.action.kind === 'delete'
        ? each.action.force || kind !== 'delete'
        : each.action.kind === 'stop' && kind !== 'delete'),
  )
  if (later === undefined) return null
  return {
    kind: 'refused',
    message: `${kind} of ${ticket}: there was no room for it, and its ${later.action.kind} was requested since`,
    remedy: null,
  }
}

/** Why nobody can do it, now or ever; null when somebody may. With a machine, a create changes nothing, and any runner can take it. */
const whyImpossible = async (
  context: OutcomeContext,
  row: ActionRow,
  connected: readonly KnownRunner[],
): Promise<Failure | null> => {
  const { store } = context
  const { kind, ticket } = row.action
  if (kind === 'fork') return (await whyBeyondLimit(context, row)) ?? whyOvertaken(context, row)
  // Without a machine, a stop or delete has nothing to do before the create.
  if (kind !== 'create' || (await presentEnvironment(store, ticket)) !== null) return whyOvertaken(context, row)
  const pin = await store.queue.pinnedTo(ticket)
  return whyNobody(row, pin === null ? connected : connected.filter(({ id }) => id === pin))
}

const rejectImpossible = async (context: OutcomeContext): Promise<void> => {
  const { store, clock } = context
  const connected = (await store.runners.list()).filter(runner => runner.connected)
  if (connected.length === 0) return
  const busy = new Set((await store.queue.list({ state: 'active' })).map(({ action }) => action.ticket))
  for (const row of await store.queue.list({ state: 'pending' })) {
    const { ticket } = row.action
    const waited = clock() - row.createdAt
    // Only the oldest of a ticket: earlier actions end first. A negative wait is a clock that was set back.
    const isDue = !busy.has(ticket) && (waited < 0 || waited >= GRACE_MS)
    busy.add(ticket)
    if (!isDue) continue
    const failure = await whyImpossible(context, row, connected)
    if (failure !== null) await rejectAction(context, row, failure)
  }
}

/**
 * `look` is called when `nextLook`, the milliseconds until then, has passed, or before. `hereSince`: since when the bot has run
 * without a gap, epoch ms.
 */
export const openLeaseWatch = (context: OutcomeContext) => {
  const { clock } = context
  const jumped = openJumpWatch(clock, { ahead: GAP_MS })
  let hereSince = clock()
  let rejectedAt = clock()
  let planned = 0
  return {
    hereSince: () => hereSince,
    look: async (): Promise<void> => {
      const now = clock()
      // While the bot was away, nobody could renew a lease.
      if (jumped(planned)) {
        hereSince = now
        rejectedAt = now
      }
      if (now - hereSince >= LEASE_MS) await endExpired(context)
      if (now - hereSince < GRACE_MS || now - rejectedAt < REJECT_EVERY_MS) return
      rejectedAt = now
      await rejectImpossible(context)
    },
    nextLook: async (most: number): Promise<number> => {
      const { active, pending } = await context.store.counts()
      const at = await context.store.queue.nextDueAt()
      const waits = [most, ...(at === null ? [] : [at - clock()])]
      // A clock that was set back makes a lease long.
      if (active > 0) waits.push(LEASE_MS)
      if (pending > 0) waits.push(REJECT_EVERY_MS)
      planned = Math.max(SHORTEST_MS, Math.min(...waits))
      return planned
    },
  }
}
