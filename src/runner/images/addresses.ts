/** From where an image may be downloaded, and to where such an address may lead. */
import { fail } from '../../errors.ts'

const REDIRECTS = [301, 302, 303, 307, 308]
const MOST_REDIRECTS = 5
const LOOPBACK = /^(?:127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/

export const isAddress = (text: string): boolean => /^[a-z][a-z0-9+.-]*:\/\//i.test(text)

const isLoopback = ({ protocol, hostname }: URL): boolean => protocol === 'http:' && LOOPBACK.test(hostname)
const isAllowed = (url: URL): boolean => url.protocol === 'https:' || isLoopback(url)

/** The address of an image: https, or http on this computer. Fails with `usage`. */
export const imageAddress = (text: string): URL => {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null) throw fail('usage', `${JSON.stringify(text.slice(0, 200))} is not an address`)
  if (!isAllowed(url))
    throw fail(
      'usage',
      `${shownAddress(url)} is not an https address`,
      'An image is downloaded over https alone. Or download it yourself, and name the file.',
    )
  if (url.username !== '' || url.password !== '')
    throw fail(
      'usage',
      `the address at ${url.host} holds a user name or a password, which would be written down with the image`,
      'Download the image yourself, and name the file.',
    )
  return url
}

/** Without what may be secret: a query may hold a signature. */
export const shownAddress = (url: URL): string => `${url.origin}${url.pathname}`

type Rules = {
  /** A redirect leads to the same origin alone. */
  sameOrigin: boolean
}

const nextAddress = (response: Response, from: URL, { sameOrigin }: Rules): URL | null => {
  const location = REDIRECTS.includes(response.status) ? response.headers.get('location') : null
  if (location === null || !URL.canParse(location, from.href)) return null
  const next = new URL(location, from)
  if (sameOrigin && next.origin !== from.origin)
    throw fail('refused', `reading ${shownAddress(from)}: it redirects to ${next.origin}, which is another address`)
  // What runs on this computer is not for others to name.
  if (!isAllowed(next) || (isLoopback(next) && !isLoopback(from)))
    throw fail('refused', `downloading ${shownAddress(from)}: it redirects to ${next.origin}, which is not https`)
  return next
}

/** A GET that follows redirects to https alone. */
export const get = async (
  url: URL,
  { headers = {}, signal, ...rules }: Rules & { headers?: Record<string, string>; signal: AbortSignal },
): Promise<Response> => {
  let at = url
  for (let count = 0; count <= MOST_REDIRECTS; count += 1) {
    // Compressed, the length and the place to go on from would be others.
    const asked = { 'accept-encoding': 'identity', ...headers }
    const response = await fetch(at, { redirect: 'manual', headers: asked, signal })
    let next: URL | null = null
    try {
      next = nextAddress(response, at, rules)
      if (next === null) return response
    } finally {
      // What a redirect itself says is of no use.
      if (next !== null || response.status >= 300) await response.body?.cancel()
    }
    at = next
  }
  throw fail('refused', `downloading ${shownAddress(url)}: it redirects more than ${MOST_REDIRECTS} times`)
}
