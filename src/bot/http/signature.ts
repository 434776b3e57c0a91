/** Proofs that a request comes from who it should, compared in constant time. */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

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

/** The bearer token of an `Authorization` header; null when it carries none. */
export const bearerOf = (header: string | undefined): string | null =>
  header?.match(/^Bearer (\S{1,512})$/)?.[1] ?? null

/** Whether an `Authorization` header carries this bearer token. */
export const isBearer = (expected: string, header: string | undefined): boolean => {
  const given = bearerOf(header)
  return given !== null && isToken(expected, given)
}

/** A new token of a runner. */
export const newRunnerToken = (): string => `swarm_${randomBytes(32).toString('base64url')}`
/** How a token is stored, and looked up: the time of a look-up by this reveals nothing about a token. SHA-256, in hex. */
export const tokenHash = (token: string): string => createHash('sha256').update(token).digest('hex')
