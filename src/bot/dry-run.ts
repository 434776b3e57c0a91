/**
 * A bot that decides everything and does nothing. It decides on copies of its stores in memory, what it would write on
 * GitHub or Jira is shown, and runners get no work. What is delivered is kept: the next real start decides it anew, and acts.
 */
import type { Queue, QueuedAction, StoredDelivery, Verdict } from '../store/port.ts'

export type Shown =
  | ({ what: 'delivery'; actions: QueuedAction[] } & Pick<StoredDelivery, 'source' | 'event' | 'id'> & Verdict)
  | { what: 'request'; to: 'GitHub' | 'Jira'; method: string; path: string; body: unknown }
/** Where a dry run shows what would be done. */
export type Show = (shown: Shown) => void

/** To read as an App, a token must be asked for: that changes nothing that anybody sees. */
const READING = /^\/(api\/v3\/)?app\/installations\/\d+\/access_tokens$/

/** A `fetch` that shows each request to GitHub that would change something, and answers it as if it had been done. */
export const showingFetch =
  (show: Show, fetch: typeof globalThis.fetch): typeof globalThis.fetch =>
  async (url, init = {}) => {
    const method = (init.method ?? 'GET').toUpperCase()
    const path = new URL(String(url)).pathname
    if (method === 'GET' || method === 'HEAD' || (method === 'POST' && READING.test(path))) return fetch(url, init)
    const body: unknown = typeof init.body === 'string' && init.body !== '' ? JSON.parse(init.body) : null
    show({ what: 'request', to: 'GitHub', method, path, body })
    return method === 'DELETE' ? new Response(null, { status: 204 }) : Response.json({ id: 0 })
  }

/** The queue of a dry run: all is done to the copy, and what is delivered is on disk as well before it is answered. */
export const queueBeside = (store: Queue, copy: Queue): Queue => ({
  ...copy,
  accept: deliveries => {
    store.accept(deliveries)
    return copy.accept(deliveries)
  },
  probe: store.probe,
  close: () => {
    copy.close()
    store.close()
  },
})
