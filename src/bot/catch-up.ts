/**
 * Finds what webhooks missed: GitHub delivers again what failed on its way, and what is so now is compared with what was
 * decided. Either way it goes through the same inbox and the same handlers, which read the present state before they act. That
 * something is absent from a list or a search proves nothing.
 */
import type { Clock } from '../clock.ts'
import type { Delivery, Store } from '../store/port.ts'

/** What a poll makes of news, in the shape of a webhook. The next poll makes the same id. */
export type PolledDelivery = Omit<Delivery, 'receivedAt'>

/** A schedule row's `run`: one step after the other. Each step logs its own failures. */
export const catchUp =
  (steps: readonly ((signal: AbortSignal) => Promise<unknown>)[]) =>
  async (signal: AbortSignal): Promise<void> => {
    for (const step of steps) if (!signal.aborted) await step(signal)
  }

/**
 * Accepts deliveries that a poll found. A poll finds again what the one before found; nobody sent that again, so what is known is
 * left as it is. `onAccepted` is called when there are new ones.
 */
export const acceptPolled =
  ({ inbox }: Pick<Store, 'inbox'>, clock: Clock, onAccepted: () => void) =>
  async (deliveries: readonly PolledDelivery[]): Promise<void> => {
    for (const source of ['github', 'jira'] as const) {
      const ofSource = deliveries.filter(delivery => delivery.source === source)
      if (ofSource.length === 0) continue
      const known = await inbox.known(
        source,
        ofSource.map(({ id }) => id),
      )
      const fresh = ofSource.filter(({ id }) => !known.has(id)).map(delivery => ({ ...delivery, receivedAt: clock() }))
      if (fresh.length > 0 && (await inbox.accept(fresh)) > 0) onAccepted()
    }
  }
