/**
 * A bot that decides everything and does nothing. It decides on a copy of its store in memory, shows what it would write on
 * GitHub or in Jira, and gives no work to runners. Deliveries are kept: the next real start decides them again, and acts.
 */
import { openDatabaseCopy } from '../sqlite.ts'
import type { QueuedAction, Store, StoredDelivery, Verdict } from '../store/port.ts'
import { openStore } from '../store/sqlite/index.ts'

export type Shown =
  | ({ what: 'delivery'; actions: QueuedAction[]; verdict: Verdict; reason: string | null } & Pick<
      StoredDelivery,
      'source' | 'event' | 'id'
    >)
  | { what: 'request'; to: 'GitHub' | 'Jira'; method: string; path: string; body: unknown }
/** Where a dry run shows what would be done. */
export type Show = (shown: Shown) => void

/** The store of a dry run on this file: everything happens to the copy. `clock` gives epoch milliseconds. */
export const openDryStore = (path: string, clock: () => number): Store => {
  const real = openStore(path, clock)
  const copy = openStore(path, clock, openDatabaseCopy)
  return {
    ...copy,
    inbox: {
      ...copy.inbox,
      // What is delivered is on disk in the real store as well, before it is answered.
      accept: async deliveries => {
        await real.inbox.accept(deliveries)
        return copy.inbox.accept(deliveries)
      },
    },
    probe: real.probe,
    close: async () => {
      await copy.close()
      await real.close()
    },
  }
}

/** Asking for a token, which an App needs to read, changes nothing that anybody sees. */
const TOKEN_PATH = /^\/(api\/v3\/)?app\/installations\/\d+\/access_tokens$/

/** A `fetch` that shows each request to GitHub that would change something, and answers as if it had been done. */
export const showingFetch =
  (show: Show, fetch: typeof globalThis.fetch): typeof globalThis.fetch =>
  async (url, init = {}) => {
    const method = (init.method ?? 'GET').toUpperCase()
    const path = new URL(String(url)).pathname
    if (method === 'GET' || method === 'HEAD' || (method === 'POST' && TOKEN_PATH.test(path))) return fetch(url, init)
    const body: unknown = typeof init.body === 'string' && init.body !== '' ? JSON.parse(init.body) : null
    show({ what: 'request', to: 'GitHub', method, path, body })
    return method === 'DELETE' ? new Response(null, { status: 204 }) : Response.json({ id: 0 })
  }
