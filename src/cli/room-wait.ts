/** `create --wait`: waits until the machine fits on the host. Nothing is made or locked meanwhile. */
import { setTimeout as delay } from 'node:timers/promises'
import { fail, isFailure } from '../errors.ts'
import type { Registry } from '../registry/registry.ts'
import type { RunnerContext } from '../runner/context.ts'
import { planAction } from '../runner/plan.ts'
import { reasonOf } from '../runner/room.ts'
import type { Action } from '../schema/action.ts'

/** Milliseconds between two looks whether another process of this home did something, and between two looks at the host. */
const CHANGE_MS = 500
const LOOK_MS = 15_000

/** Why it does not fit, when only room is missing. Everything else is found out by the action itself. */
export const missingRoom = async (context: RunnerContext, action: Action): Promise<string | null> => {
  try {
    await planAction(context, action)
    return null
  } catch (error) {
    return isFailure(error) && error.failure.needs !== undefined
      ? reasonOf(error.failure, action.kind, action.ticket)
      : null
  }
}

/** Until another process of this home did something, or the host may have changed. Rejects when `signal` aborts. */
export const untilChange = async (
  registry: Registry,
  signal: AbortSignal,
  version = registry.dataVersion(),
): Promise<void> => {
  const until = performance.now() + LOOK_MS
  while (registry.dataVersion() === version && performance.now() < until) await delay(CHANGE_MS, undefined, { signal })
}

/** `onWait` is called with each new reason. */
export const waitForRoom = async (
  context: RunnerContext,
  action: Action,
  { signal, onWait }: { signal: AbortSignal; onWait: (why: string) => void },
): Promise<void> => {
  const { registry, clock } = context
  const { ticket, kind, by } = action
  const since = clock().toISOString()
  let waiting = null as { id: number; why: string } | null
  try {
    while (true) {
      signal.throwIfAborted()
      const version = registry.dataVersion()
      const why = await missingRoom(context, action)
      if (why === null) return
      if (waiting?.why !== why) {
        if (waiting !== null) registry.endWaiting(waiting.id)
        waiting = { id: registry.beginWaiting({ pid: process.pid, ticket, kind, by, since, why }), why }
        onWait(why)
      }
      await untilChange(registry, signal, version)
    }
  } catch (error) {
    if (!signal.aborted) throw error
    throw fail('cancelled', `${kind} of ${ticket}: cancelled while it waited for room; nothing was made`)
  } finally {
    if (waiting !== null) registry.endWaiting(waiting.id)
  }
}
