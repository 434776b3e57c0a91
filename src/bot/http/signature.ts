/** Proofs that a request comes from who it should, compared in constant time. */
import { createHmac, timingSafeEqual } from 'node:crypto'

const SIGNATURE = /^sha256=([0-9a-f]{64})$/

/** Whether `header` is the HMAC-SHA256 of `body` under `secret`. An empty secret proves nothing. */
export const isSigned = (secret: string, header: string | string[] | undefined, body: Buffer): boolean => {
  const given = typeof header === 'string' ? header.match(SIGNATURE)?.[1] : undefined
  if (secret === '' || given === undefined) return false
  return timingSafeEqual(createHmac('sha256', secret).update(body).digest(), Buffer.from(given, 'hex'))
}

/** Compares keyed digests: they have one length, so that the time reveals nothing. */
export const isToken = (expected: string, given: string): boolean => {
  const digest = (text: string) => createHmac('sha256', 'agent-swarm').update(text).digest()
  return expected !== '' && timingSafeEqual(digest(expected), digest(given))
}

/** Whether an `Authorization` header carries this bearer token. */
export const isBearer = (expected: string, header: string | undefined): boolean => {
  const given = header?.match(/^Bearer (\S{1,512})$/)?.[1]
  return given !== undefined && isToken(expected, given)
}
