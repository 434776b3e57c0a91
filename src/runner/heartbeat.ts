/** Tells the bot what this runner has, so that its pages are right whoever changed a machine. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import type { Ticket } from '../domain.ts'
import { isFailure } from '../errors.ts'
import type { Environment } from '../schema/environment.ts'
import {
  HEARTBEAT_MS,
  type HeartbeatRequest,
  heartbeatResponse,
  MAX_MANUAL_OPERATIONS,
} from '../schema/runner-protocol.ts'
import type { BotClient } from './bot-client.ts'
import { listEnvironments, type RunnerContext } from './context.ts'
import { openHeard } from './heard.ts'
import type { OfferSource } from './offer.ts'

/** Milliseconds between two looks at the hypervisor when nothing changed here. */
const LOOK_MS = 15_000
/** Milliseconds between two looks whether another process wrote to the registry. */
const CHANGE_POLL_MS = 500

/** The environments of the last look, looked at again when they may have changed. */
const openSnapshot = (context: RunnerContext) => {
  const { registry } = context
  let last: { at: number; version: number; environments: Environment[] } | null = null
  let isStale = true
  const look = async (version: number): Promise<Environment[]> => {
    // An operation may pause a machine for a moment: that is no news.
    const busy = new Set(registry.openOperations().map(({ ticket }) => ticket))
    const { environments, unread } = await listEnvironments(context, { usage: false })
    for (const { ticket } of registry.openOperations()) busy.add(ticket)
    const before = new Map(last?.environments.map(({ ticket, observedAt }) => [ticket, observedAt]))
    const unreadProviders = new Set(unread.map(({ provider }) => provider))
    const observed = environments.map(({ usage: _usage, paused, ...rest }) => {
      const environment = paused === null || busy.has(rest.ticket) ? rest : { ...rest, paused }
      return unreadProviders.has(environment.provider)
        ? { ...environment, observedAt: before.get(environment.ticket) ?? environment.createdAt }
        : environment
    })
    last = { at: performance.now(), version, environments: observed }
    return observed
  }
  return {
    read: async (): Promise<Environment[]> => {
      const version = registry.dataVersion()
      if (last !== null && !isStale && version === last.version && performance.now() - last.at < LOOK_MS)
        return last.environments
      isStale = false
      return look(version)
    },
    invalidate: () => {
      isStale = true
    },
    mayHaveChanged: () => isStale || registry.dataVersion() !== last?.version,
  }
}

/** How long what is gone is named again: the bot believes it the second time. */
const GONE_AGAIN_MS = 60_000

type Sent = { vmId: string; text: string }
type Operations = HeartbeatRequest['manualOperations']
type News = Pick<HeartbeatRequest, 'environments' | 'changes' | 'manualOperations'>

/** What the bot has not recorded yet. All of it until the bot says that it recorded a heartbeat, and whenever it does not. */
const openChanges = () => {
  let follows: string | null = null
  let sent = new Map<Ticket, Sent>()
  let sentOperations = new Set<string>()
  const gone = new Map<Ticket, { vmId: string; at: number }>()
  const again = new Set<Ticket>()
  return {
    again: (ticket: Ticket) => void again.add(ticket),
    since: (
      environments: readonly Environment[],
      operations: Operations,
    ): { members: News; recorded: (id: string) => void } => {
      const now = new Map(
        environments.map(environment => {
          const { ticket, vmId } = environment
          return [ticket, { vmId, text: JSON.stringify({ ...environment, observedAt: null }) }] as const
        }),
      )
      for (const [ticket, { vmId }] of sent) if (!now.has(ticket)) gone.set(ticket, { vmId, at: performance.now() })
      for (const [ticket, { at }] of gone)
        if (now.has(ticket) || performance.now() - at > GONE_AGAIN_MS) gone.delete(ticket)
      const changed = environments.filter(
        ({ ticket }) => again.has(ticket) || sent.get(ticket)?.text !== now.get(ticket)?.text,
      )
      const members: News =
        follows === null
          ? { environments: [...environments], manualOperations: operations }
          : {
              changes: { follows, changed, gone: [...gone].map(([ticket, { vmId }]) => ({ ticket, vmId })) },
              manualOperations: operations.filter(operation => !sentOperations.has(JSON.stringify(operation))),
            }
      again.clear()
      // A lost answer makes the next one full.
      follows = null
      sent = now
      sentOperations = new Set(operations.map(operation => JSON.stringify(operation)))
      return {
        members,
        recorded: id => {
          follows = id
        },
      }
    },
  }
}

export const openHeartbeat = (
  context: RunnerContext,
  { bot, offer, version }: { bot: BotClient; offer: OfferSource; version: string },
  ending: AbortSignal,
) => {
  const { registry } = context
  const runnerId = registry.runnerId()
  const snapshot = openSnapshot(context)
  const changes = openChanges()
  const noteHeard = openHeard(context.home, () => performance.now())
  const beat = async (): Promise<void> => {
    const id = randomUUID()
    // Before the offer: what changes meanwhile is noticed then, and the offer read again.
    const news = changes.since(await snapshot.read(), registry.manualOperations(MAX_MANUAL_OPERATIONS))
    const request: HeartbeatRequest = {
      runnerId,
      id,
      host: hostname(),
      version,
      ...news.members,
      offer: await offer.read(),
    }
    const response = await bot.post('heartbeat', request, heartbeatResponse, { signal: ending })
    noteHeard()
    if (response?.recorded === id) news.recorded(id)
    // It missed something, or was started again: it needs all of it.
    else if (news.members.changes !== undefined) return beat()
    registry.setQueued(context.clock().toISOString(), response?.waiting ?? [])
  }
  let accepted = Promise.withResolvers<void>()
  let isAccepted = false
  const isRefusal = (error: unknown): boolean => isFailure(error) && error.failure.kind === 'refused'
  const note = (error: unknown): void => {
    if (error === null) {
      isAccepted = true
      accepted.resolve()
    } else if (isAccepted && isRefusal(error)) {
      isAccepted = false
      accepted = Promise.withResolvers()
    }
    bot.report(error)
  }
  ending.addEventListener('abort', () => accepted.resolve(), { once: true })
  const loop = async (): Promise<void> => {
    let sentAt = Number.NEGATIVE_INFINITY
    while (!ending.aborted) {
      const hasChanged = snapshot.mayHaveChanged()
      if (hasChanged || performance.now() - sentAt >= HEARTBEAT_MS) {
        if (hasChanged) offer.refresh()
        sentAt = performance.now()
        try {
          await beat()
          note(null)
        } catch (error) {
          if (!ending.aborted) note(error)
          // Work waits for the first heartbeat: a bot that has just started is noticed at once.
          if (!isAccepted && !isRefusal(error)) sentAt = Number.NEGATIVE_INFINITY
        }
      }
      await delay(CHANGE_POLL_MS, undefined, { signal: ending }).catch(() => {})
    }
  }
  /**
   * `nudge`: an environment changed, so the next heartbeat is due now. `ticket`: the bot has its environment from elsewhere, too.
   * `accepted` waits while the bot has not accepted a heartbeat,
   * or refused the last one, for example because its version is another one. `ended`: after `ending`.
   */
  return {
    nudge: (ticket: Ticket | null = null) => {
      if (ticket !== null) changes.again(ticket)
      snapshot.invalidate()
    },
    accepted: () => accepted.promise,
    ended: loop(),
  }
}
