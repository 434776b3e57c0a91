/** Requests to the bot, over HTTP. The runner only ever calls out, so that it works behind NAT. */
import { setTimeout as delay } from 'node:timers/promises'
import * as v from 'valibot'
import { backoff } from '../backoff.ts'
import { type FailureError, fail, failureOf, isFailure } from '../errors.ts'
import type { Log } from '../log.ts'
import { HEARTBEAT_MS, refusedResponse } from '../schema/runner-protocol.ts'
import { post } from './post.ts'

const REQUEST_DEADLINE_MS = 15_000
/** A response is a lease or a list of at most a hundred waiting actions. */
const MAX_RESPONSE_BYTES = 1024 * 1024
const UNAUTHORIZED = 401
/** Characters of an error response in the log. */
const MAX_ERROR_TEXT = 400
const SAME_VERSION =
  'If their versions differ, install the same version of agent-swarm on the hosts of the bot and the runner.'
/** A bot that is back is noticed before its pages need the next heartbeat. */
export const botBackoff = backoff({ first: 250, most: HEARTBEAT_MS })

type Path = 'acquire' | 'renew' | 'complete' | 'fail' | 'heartbeat' | 'git-token' | 'where'
type RequestOptions = { signal: AbortSignal; deadlineMs?: number }
type Post<Options> = <Schema extends v.GenericSchema>(
  path: Path,
  body: unknown,
  schema: Schema,
  options: Options,
) => Promise<v.InferOutput<Schema> | null>

export type BotClient = {
  /**
   * Posts `body`, and parses the response; null when it is empty (204). Fails with `network` when the bot cannot be reached
   * or has a problem, and with `refused` when it does not accept the request or its response cannot be understood.
   */
  post: Post<RequestOptions>
  /** Posts until the bot has answered: an outcome is not lost because the bot is away. Null when it never accepted it. */
  insist: Post<AbortSignal>
  /** Logs, once for each kind of problem, that the bot gives no work, and that it does again (null). */
  report(error: unknown): void
  /** Why this runner may do nothing for the bot's tickets: it does not accept the token any more. Null: it does, as far as is known. */
  closed(): string | null
}

/** Text of the bot for one line of the log. */
const oneLine = (text: string): string => text.slice(0, MAX_ERROR_TEXT).replaceAll(/[\p{C}\s]+/gu, ' ')

/** What an answer other than 2xx means. */
export const refusal = (path: Path, status: number, text: string): FailureError => {
  // 429: the bot is still at work on what this runner sent before.
  if (status >= 500 || status === 429) return fail('network', `${path}: HTTP ${status}`)
  // A proxy answers in HTML.
  const refused = v.safeParse(v.pipe(v.string(), v.parseJson(), refusedResponse), text)
  const why = oneLine(refused.success ? refused.output.error : text)
  const remedy = refused.success && refused.output.remedy !== null ? oneLine(refused.output.remedy) : null
  if (status === UNAUTHORIZED)
    return fail(
      'refused',
      'HTTP 401: AGENT_SWARM_RUNNER_TOKEN is not one that the bot knows',
      remedy ?? "On the bot's host, make one: agent-swarm bot runner add NAME",
    )
  return fail('refused', `${path}: HTTP ${status}: ${why}`, remedy ?? SAME_VERSION)
}

const parse = <Schema extends v.GenericSchema>(path: Path, text: string, schema: Schema): v.InferOutput<Schema> => {
  try {
    return v.parse(schema, JSON.parse(text))
  } catch (error) {
    throw fail('refused', failureOf(error, `${path}: reading the bot's response`).message, null, error)
  }
}

type Bot = {
  url: string
  token: string
  log: Log
  /** The bot does not accept the token any more: it was revoked. */
  onClosed?: () => void
}
type Sending = Pick<Bot, 'url' | 'token'>

/** One request. Fails with `network` without an answer. */
export const send = async ({ url, token }: Sending, path: Path, body: unknown, options: RequestOptions) => {
  const { signal, deadlineMs = REQUEST_DEADLINE_MS } = options
  const late = new AbortController()
  // AbortSignal.timeout would wake the process also when the bot has answered long ago.
  const timer = setTimeout(() => late.abort(new Error(`no answer within ${deadlineMs / 1000} s`)), deadlineMs)
  try {
    const { status, text } = await post(new URL(`/runner/v1/${path}`, url), JSON.stringify(body), {
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.any([signal, late.signal]),
      maxBytes: MAX_RESPONSE_BYTES,
    })
    return { status, ok: status >= 200 && status < 300, text }
  } catch (error) {
    throw fail('network', failureOf(late.signal.reason ?? error, path).message, null, error)
  } finally {
    clearTimeout(timer)
  }
}

export const openBotClient = (bot: Bot): BotClient => {
  const { url, log, onClosed = () => {} } = bot
  /** The last problem; null while the bot answers. */
  let problem: string | null = null
  let isAccepted = true
  const note = (status: number, ok: boolean): void => {
    const wasAccepted = isAccepted
    if (ok) isAccepted = true
    if (status === UNAUTHORIZED) isAccepted = false
    if (wasAccepted && !isAccepted) onClosed()
  }
  const report = (error: unknown) => {
    const failure = error === null ? null : failureOf(error, 'requesting work')
    // The text of a connection's end differs from one to the next.
    const current = failure?.kind === 'refused' ? failure.message : (failure?.kind ?? null)
    if (current === problem) return
    problem = current
    if (failure === null) return log.info({ bot: url, happened: 'connection' }, 'the bot answers again')
    const { message, remedy } = failure
    log.warn({ bot: url, ...(remedy === null ? {} : { remedy }) }, `no work from the bot: ${message}`)
  }
  const postParsed: BotClient['post'] = async (path, body, schema, options) => {
    const { status, ok, text } = await send(bot, path, body, options)
    note(status, ok)
    if (!ok) throw refusal(path, status, text)
    return status === 204 ? null : parse(path, text, schema)
  }
  const insist: BotClient['insist'] = async (path, body, schema, signal) => {
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      try {
        const answer = await postParsed(path, body, schema, { signal })
        report(null)
        return answer
      } catch (error) {
        if (isFailure(error) && error.failure.kind !== 'network') {
          log.error({ path, err: error }, 'the bot refused what the runner reported')
          return null
        }
        if (!signal.aborted) report(error)
      }
      await delay(botBackoff(attempt), undefined, { signal }).catch(() => {})
    }
    return null
  }
  const closed = () =>
    isAccepted ? null : 'the bot does not accept the token of this runner: it was revoked, or is not the right one'
  return { post: postParsed, insist, report, closed }
}
