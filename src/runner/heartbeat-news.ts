/** What the bot has not recorded yet, in pieces that it takes. */
import type { Ticket } from '../domain.ts'
import type { Environment } from '../schema/environment.ts'
import type { HeartbeatRequest } from '../schema/runner-protocol.ts'
import type { Known } from './known-environments.ts'

/** How long what is gone is named again: the bot believes it the second time. */
const GONE_AGAIN_MS = 60_000
/** Bytes of environments in one heartbeat, and one more. The bot takes bodies of 5 MiB. */
const CHUNK_BYTES = 2 * 1024 * 1024

type Item = { vmId: string; text: string; environment: Environment }
/** `text` null: the bot knows that it is there, and no more. */
type Sent = { vmId: string; text: string | null }
export type News = Pick<HeartbeatRequest, 'environments' | 'beginning' | 'changes' | 'manualOperations'>

const itemsOf = ({ environments }: Known): Map<Ticket, Item> =>
  new Map(
    environments.map(environment => {
      const { ticket, vmId } = environment
      return [ticket, { vmId, environment, text: JSON.stringify({ ...environment, observedAt: null }) }]
    }),
  )

/** All of it until the bot says that it recorded a heartbeat, and whenever it does not. */
export const openHeartbeatNews = (chunkBytes = CHUNK_BYTES) => {
  let follows: string | null = null
  let known: Known | null = null
  let items = new Map<Ticket, Item>()
  let operations: string[] = []
  let sentOperations = new Set<string>()
  const sent = new Map<Ticket, Sent>()
  const gone = new Map<Ticket, { vmId: string; at: number }>()
  /** To be sent, the first ones first. */
  const pending = new Set<Ticket>()
  /** Sent before the hypervisor was asked: the bot may have something newer, and took it for that. */
  const unsure = new Set<Ticket>()
  /** The bot could not take them. They are sent again when nothing else is. */
  const leftOut = new Set<Ticket>()

  const compare = (now: Known): void => {
    known = now
    items = itemsOf(now)
    operations = now.manualOperations.map(operation => JSON.stringify(operation))
    for (const [ticket, { vmId }] of sent) {
      if (items.has(ticket)) continue
      sent.delete(ticket)
      pending.delete(ticket)
      unsure.delete(ticket)
      gone.set(ticket, { vmId, at: performance.now() })
    }
    for (const [ticket, { text, environment }] of items) {
      const isSure = unsure.has(ticket) && now.isSettled(environment)
      if (isSure) unsure.delete(ticket)
      if (isSure || sent.get(ticket)?.text !== text) pending.add(ticket)
    }
  }
  const dropOldGone = (): void => {
    for (const [ticket, { at }] of gone)
      if (items.has(ticket) || performance.now() - at > GONE_AGAIN_MS) gone.delete(ticket)
  }
  /** The next of `pending` that fit, one at least. */
  const take = (): Environment[] => {
    const taken: Environment[] = []
    let bytes = 0
    for (const ticket of pending) {
      const item = items.get(ticket)
      bytes += Buffer.byteLength(item?.text ?? '')
      if (taken.length > 0 && bytes > chunkBytes) break
      pending.delete(ticket)
      if (item === undefined) continue
      const { vmId, text, environment } = item
      sent.set(ticket, { vmId, text })
      if (known?.isSettled(environment) === false) unsure.add(ticket)
      taken.push(environment)
    }
    return taken
  }
  const full = (): News => {
    sent.clear()
    unsure.clear()
    leftOut.clear()
    for (const ticket of items.keys()) pending.add(ticket)
    const environments = take()
    const others = [...pending].map(ticket => ({ ticket, vmId: items.get(ticket)?.vmId ?? '' }))
    for (const { ticket, vmId } of others) sent.set(ticket, { vmId, text: null })
    const manualOperations = [...(known?.manualOperations ?? [])]
    return others.length === 0
      ? { environments, manualOperations }
      : { beginning: { environments, others }, manualOperations }
  }
  const partial = (id: string): News => {
    dropOldGone()
    if (pending.size === 0) {
      for (const ticket of leftOut) pending.add(ticket)
      leftOut.clear()
    }
    return {
      changes: { follows: id, changed: take(), gone: [...gone].map(([ticket, { vmId }]) => ({ ticket, vmId })) },
      manualOperations: (known?.manualOperations ?? []).filter((_, n) => !sentOperations.has(operations[n] ?? '')),
    }
  }
  return {
    /** Looks what differs from what was sent. Costs nothing while `now` is the same object. */
    compare: (now: Known): void => {
      if (now !== known) compare(now)
    },
    /** The bot has this environment from elsewhere, too. */
    again: (ticket: Ticket): void => {
      const known = sent.get(ticket)
      if (known !== undefined) sent.set(ticket, { ...known, text: null })
    },
    /** Something is to be sent now. */
    hasNews: (): boolean => pending.size > 0,
    next: (): News => {
      const news = follows === null ? full() : partial(follows)
      // A lost answer makes the next one full.
      follows = null
      sentOperations = new Set(operations)
      return news
    },
    recorded: (id: string, notTaken: readonly Ticket[]): void => {
      follows = id
      for (const ticket of notTaken) leftOut.add(ticket)
    },
  }
}
