/** Reads what an API answers to its end, and checks it: what is cut off or of another shape is no answer, and decides nothing. */
import * as v from 'valibot'

/** A hundred pull requests with long descriptions have about 3 MB. Bytes. */
const MAX_BYTES = 16 * 1024 * 1024
const NO_BODY: readonly number[] = [204, 205, 304]

/** Something answered, and what it answered cannot be used. Asking again may help. */
export type NoAnswer = Error & { isNoAnswer: true }
export const noAnswer = (why: string): NoAnswer => Object.assign(new Error(why), { isNoAnswer: true } as const)
export const isNoAnswer = (error: unknown): error is NoAnswer => error instanceof Error && 'isNoAnswer' in error

/** The response with its whole body, which the signal of its request still bounds in time. */
export const readWhole = async (response: Response, most = MAX_BYTES): Promise<Response> => {
  if (response.body === null || NO_BODY.includes(response.status)) return response
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body) {
    size += chunk.length
    if (size > most) throw noAnswer(`the response has more than ${most} bytes`)
    chunks.push(chunk)
  }
  const { status, statusText, headers, url } = response
  const whole = new Response(Buffer.concat(chunks), { status, statusText, headers })
  return Object.defineProperty(whole, 'url', { value: url })
}

/** Where the first difference is, `items.0.state`, and what was expected there. */
const difference = ([issue]: readonly v.BaseIssue<unknown>[]): string => {
  const path = (issue?.path ?? []).map(({ key }) => String(key)).join('.')
  const { expected, received } = issue ?? { expected: null, received: '' }
  const found = `${path === '' ? 'it' : path.slice(0, 100)} is ${received === 'undefined' ? 'missing' : received.slice(0, 60)}`
  return issue?.type === 'object' && received === 'undefined' ? found : `${found}, not ${expected}`
}
/** Throws a NoAnswer unless the answer has this shape. */
export const requireShape = (schema: v.GenericSchema, answer: unknown): void => {
  const result = v.safeParse(schema, answer)
  if (!result.success) throw noAnswer(`the response has another shape: ${difference(result.issues)}`)
}
