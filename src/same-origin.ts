/** `fetch` that follows a redirect to the same origin only: no credential, and no body, goes where a response says. */

const REDIRECTS = [301, 302, 303, 307, 308]
const MOST = 5

/** The address that a response leads to; null when it leads nowhere. */
const targetOf = (response: Response, from: string): string | null => {
  const location = REDIRECTS.includes(response.status) ? response.headers.get('location') : null
  return location !== null && URL.canParse(location, from) ? new URL(location, from).href : null
}

/**
 * Throws for a redirect to another origin; for one of a request that writes, other than 307 and 308, because Octokit would take it
 * for success; and for too many.
 */
const openSameOriginFetch =
  (send: typeof fetch): typeof fetch =>
  async (input, init = {}) => {
    const given = input instanceof Request ? new Request(input, init) : null
    const { redirect = 'follow', method = 'GET' } = given ?? init
    if (redirect !== 'follow') return send(given ?? input, init)
    let url = given?.url ?? String(input)
    for (let count = 0; ; count += 1) {
      // Sending uses up the body of a request, which may be sent again.
      const response = await (given === null
        ? send(url, { ...init, redirect: 'manual' })
        : send(new Request(url, given.clone()), { redirect: 'manual' }))
      const target = targetOf(response, url)
      if (target === null) return response
      const { origin } = new URL(target)
      if (origin !== new URL(url).origin) {
        await response.body?.cancel()
        throw new Error(`it redirects to ${origin}, which is another address`)
      }
      const keepsMethod = /^(?:get|head)$/i.test(method) || response.status >= 307
      await response.body?.cancel()
      if (!keepsMethod) throw new Error(`it redirects a ${method} (${response.status}), and nothing was written`)
      if (count >= MOST) throw new Error(`it redirects more than ${MOST} times`)
      url = target
    }
  }

/** Uses the `fetch` of the moment of the call. */
export const sameOriginFetch = openSameOriginFetch((input, init) => globalThis.fetch(input, init))

const guarded = new WeakSet<typeof fetch>()
/** For a package that calls the global `fetch` and takes no other. `around` adds to it. */
export const guardGlobalFetch = (around: (send: typeof fetch) => typeof fetch): void => {
  if (guarded.has(globalThis.fetch)) return
  globalThis.fetch = around(openSameOriginFetch(globalThis.fetch))
  guarded.add(globalThis.fetch)
}
