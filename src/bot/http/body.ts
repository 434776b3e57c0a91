/** Reading a request's body, with a limit for each and a budget for all. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { refuse } from './respond.ts'

/**
 * Bytes left for bodies that nobody has verified yet. Whoever sends many large ones at once uses up this budget, and not the
 * memory. Small bodies need none, so that those of others still come through.
 */
export type BodyBudget = { left: number }
const SMALL = 64 * 1024

/** A body that grows. One buffer: kept as received, tiny chunks would cost hundreds of bytes each. */
const openBuffer = (limit: number, budget: BodyBudget) => {
  let buffer: Buffer = Buffer.alloc(0)
  let [size, taken] = [0, 0]
  return {
    /** Why the chunk is not taken; null when it is. */
    add: (chunk: Buffer): 'too-large' | 'no-budget' | null => {
      const before = size
      size += chunk.length
      if (size > limit) return 'too-large'
      if (size > buffer.length) {
        const length = before === 0 ? size : Math.min(limit, Math.max(size, 2 * buffer.length))
        const needed = length > SMALL ? length - taken : 0
        if (needed > budget.left) return 'no-budget'
        budget.left -= needed
        taken += needed
        // Most bodies come in one chunk.
        if (before === 0) {
          buffer = chunk
          return null
        }
        const larger = Buffer.allocUnsafe(length)
        buffer.copy(larger, 0, 0, before)
        buffer = larger
      }
      chunk.copy(buffer, before)
      return null
    },
    whole: () => buffer.subarray(0, size),
    release: () => {
      buffer = Buffer.alloc(0)
      budget.left += taken
      taken = 0
    },
  }
}

/**
 * The whole body; null when it was refused (413 over `limit` bytes, 503 over the budget) or its sender is gone. What it took
 * from the budget returns when the request is closed.
 */
export const readBody = (
  request: IncomingMessage,
  response: ServerResponse,
  limit: number,
  budget: BodyBudget = { left: Number.POSITIVE_INFINITY },
): Promise<Buffer | null> => {
  const tooLarge = `the body is limited to ${limit} bytes`
  if (Number(request.headers['content-length'] ?? 0) > limit) {
    refuse(request, response, 413, tooLarge)
    return Promise.resolve(null)
  }
  const buffer = openBuffer(limit, budget)
  const { promise, resolve } = Promise.withResolvers<Buffer | null>()
  const stop = (status: number, error: string) => {
    request.removeAllListeners('data')
    request.removeAllListeners('end')
    buffer.release()
    refuse(request, response, status, error)
    resolve(null)
  }
  request.on('data', (chunk: Buffer) => {
    const problem = buffer.add(chunk)
    if (problem === 'too-large') stop(413, tooLarge)
    else if (problem === 'no-budget') stop(503, 'too many large bodies arrive at once; send it again')
  })
  request.on('end', () => resolve(buffer.whole()))
  request.on('close', () => {
    buffer.release()
    resolve(null)
  })
  request.on('error', () => {})
  return promise
}

/** The JSON object in a body; null when it holds something else. */
export const jsonObject = (text: string): Record<string, unknown> | null => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null
  } catch {
    return null
  }
}
