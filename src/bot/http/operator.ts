/**
 * The operator's door: what `bot inbox`, `bot replay` and `bot audit` ask of a running bot. It listens on loopback, on a port of
 * its own, so that no proxy in front of the webhooks leads to it. Address and token are in a file that only the bot's user
 * can read. A runner's token opens nothing here.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import * as v from 'valibot'
import type { Clock } from '../../clock.ts'
import { ENVIRONMENT_KEY, type Ticket } from '../../domain.ts'
import { fail, failureOf } from '../../errors.ts'
import { writeFileAtomic } from '../../files.ts'
import type { Log } from '../../log.ts'
import type { Whereabouts } from '../../schema/runner-protocol.ts'
import {
  type DeliveryRow,
  type HeldRow,
  isHeldId,
  type ListedRunner,
  type ReplayResult,
  type Request,
  RUNNER_AWAY_MS,
  type Store,
} from '../../store/port.ts'
import { lanesOf } from '../inbox/lanes.ts'
import { whereIs } from '../whereabouts.ts'
import { jsonObject, readBody } from './body.ts'
import { refuse, respond } from './respond.ts'
import { isBearer, newRunnerToken, tokenHash } from './signature.ts'

const BODY_LIMIT = 16 * 1024
const DEADLINE_MS = 10_000
/** Every user of the host reaches loopback, and each connection is an open file of the bot. */
const MAX_CONNECTIONS = 32

// ── Questions and answers ──

/** A command as the audit shows it. `at` is epoch ms; `ticket` is null when the command names none. */
type AuditLine = {
  at: number
  who: string
  /** A Jira account's display name. */
  name: string | null
  place: string
  ticket: Ticket | null
  what: string
  verdict: 'allowed' | 'refused'
  reason: string
}

const limit = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(10_000))
const word = v.pipe(v.string(), v.maxLength(1_000))
/** The name of a runner, as its operator knows it. */
export const runnerName = v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9.-]{0,62}$/))
/** The id of a runner whose token has no name. */
export const runnerNameOrId = v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$/))
const questions = v.variant('ask', [
  v.object({ ask: v.literal('deliveries'), words: v.pipe(v.array(word), v.maxLength(10)), limit }),
  v.object({ ask: v.literal('audit'), ticket: v.nullable(word), limit }),
  v.object({ ask: v.literal('replay'), id: word }),
  v.object({ ask: v.literal('held'), limit }),
  v.object({ ask: v.literal('add-runner'), name: runnerName, as: v.nullable(word) }),
  v.object({ ask: v.literal('list-runners') }),
  v.object({
    ask: v.literal('where'),
    ticket: v.pipe(word, v.regex(ENVIRONMENT_KEY)),
    asker: v.optional(v.nullable(word), null),
  }),
  v.object({ ask: v.literal('revoke-runner'), name: runnerName }),
  v.object({ ask: v.literal('forget-runner'), runner: runnerNameOrId, dryRun: v.boolean() }),
])
type Question = v.InferOutput<typeof questions>
type Problem = Extract<Awaited<ReturnType<Store['runnerTokens']['add']>>, { problem: string }>
type Answers = {
  deliveries: DeliveryRow[]
  audit: AuditLine[]
  replay: ReplayResult
  held: HeldRow[]
  'add-runner': { runnerId: string; token: string } | Problem
  'list-runners': ListedRunner[]
  /** Null: no runner has reported a machine of it. */
  where: Whereabouts | null
  /** The runner's id; null when no runner has this name. */
  'revoke-runner': { runnerId: string | null }
  /** `not-known`: nobody can know yet, or at all, whether it is connected. */
  'forget-runner': Awaited<ReturnType<Store['runners']['forget']>> | { problem: 'not-known' }
}

const auditLine = ({ at, by, place, ticket, what, verdict, reason }: Request): AuditLine => ({
  ...{ at, place, ticket, what },
  who: by.who ?? 'nobody',
  name: by.name ?? null,
  verdict: verdict === 'refused' ? 'refused' : 'allowed',
  reason: reason ?? '',
})
const answers: {
  [Ask in Question['ask']]: (store: Store, question: Extract<Question, { ask: Ask }>) => Promise<Answers[Ask]>
} = {
  deliveries: async (store, { words, limit }) => {
    const filters = await Promise.all(words.map(async word => ({ word, lanes: await lanesOf(store, word) })))
    return store.inbox.list(filters, limit)
  },
  audit: async (store, { ticket, limit }) => (await store.requests.audit(ticket, limit)).map(auditLine),
  replay: (store, { id }) => (isHeldId(id) ? store.held.replay(id) : store.inbox.replay(id)),
  held: (store, { limit }) => store.held.list(limit),
  'add-runner': async (store, { name, as }) => {
    const token = newRunnerToken()
    const added = await store.runnerTokens.add({ name, as, hash: tokenHash(token) })
    return 'problem' in added ? added : { ...added, token }
  },
  'list-runners': store => store.runnerTokens.list(),
  where: (store, { ticket, asker }) => whereIs(store, ticket, asker),
  'revoke-runner': async (store, { name }) => ({ runnerId: await store.runnerTokens.revoke(name) }),
  // Runners report to a bot that runs.
  'forget-runner': async (store, { runner, dryRun }) =>
    dryRun ? store.runners.forget(runner, { dryRun }) : { problem: 'not-known' },
}
/** Answers from the store, whether a bot runs or not. */
export const answerFrom = <Q extends Question>(store: Store, question: Q): Promise<Answers[Q['ask']]> =>
  (answers[question.ask] as (store: Store, question: Question) => Promise<Answers[Q['ask']]>)(store, question)

// ── The bot's end ──

type OperatorOptions = {
  home: string
  store: Store
  /** A delivery is due again. */
  onReplay: () => void
  /** The token of this runner was revoked. */
  onRevoke: (runnerId: string) => void
  /** A runner was forgotten: actions, deliveries and messages are due. */
  onForget: () => void
  /** Since when every runner that is there could report, epoch ms. */
  hereSince: () => number
  clock: Clock
  log: Log
}

const forgetRunner = async (
  { store, onRevoke, onForget, hereSince, clock, log }: OperatorOptions,
  { runner, dryRun }: Extract<Question, { ask: 'forget-runner' }>,
): Promise<Answers['forget-runner']> => {
  if (!dryRun && clock() - hereSince() <= RUNNER_AWAY_MS) return { problem: 'not-known' }
  const result = await store.runners.forget(runner, { dryRun })
  if (dryRun || 'problem' in result) return result
  const { id, host, machines } = result
  log.info({ runner: id, host, machines: machines.map(({ ticket }) => ticket) }, 'an operator forgot a runner')
  onRevoke(id)
  onForget()
  return result
}

/** Answers, and tells the rest of the bot what changed. */
const carryOut = async (options: OperatorOptions, question: Question): Promise<unknown> => {
  const { store, onReplay, onRevoke, log } = options
  if (question.ask === 'forget-runner') return forgetRunner(options, question)
  if (question.ask === 'replay') {
    const result = await answerFrom(store, question)
    log.info({ correlation: question.id, result }, 'an operator asked for a replay')
    if (result === 'again') onReplay()
    return result
  }
  if (question.ask === 'revoke-runner') {
    const result = await answerFrom(store, question)
    log.info({ name: question.name, runner: result.runnerId }, "an operator revoked a runner's token")
    if (result.runnerId !== null) onRevoke(result.runnerId)
    return result
  }
  if (question.ask === 'add-runner') log.info({ name: question.name, as: question.as }, 'an operator added a runner')
  return answerFrom(store, question)
}

const handle = async (
  options: OperatorOptions,
  token: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  if (request.method !== 'POST' || !isBearer(token, request.headers.authorization))
    return refuse(request, response, 401, 'only the user who runs the bot may use this')
  const body = await readBody(request, response, BODY_LIMIT)
  if (body === null) return
  const question = v.safeParse(questions, jsonObject(body.toString('utf8')))
  if (!question.success) return respond(response)(400, { error: question.issues[0].message })
  respond(response)(200, await carryOut(options, question.output))
}

const fileIn = (home: string) => join(home, 'operator.json')
const readText = (home: string): string | null => {
  try {
    return readFileSync(fileIn(home), 'utf8')
  } catch {
    return null
  }
}
export const openOperator = async (options: OperatorOptions): Promise<{ close(): Promise<void> }> => {
  const { home, log } = options
  const token = randomBytes(32).toString('hex')
  const server = createServer({ requestTimeout: DEADLINE_MS, headersTimeout: DEADLINE_MS })
  server.maxConnections = MAX_CONNECTIONS
  server.on('request', async (request, response) => {
    try {
      await handle(options, token, request, response)
    } catch (error) {
      log.error({ err: error }, 'a request of the operator failed; it was answered with 503')
      respond(response)(503, { error: 'the request failed; try again' })
    }
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  const text = JSON.stringify({ url: `http://127.0.0.1:${port}`, token })
  writeFileAtomic(fileIn(home), text, { mode: 0o600 })
  return {
    close: () =>
      new Promise(resolve => {
        // Another bot of this folder may have written its own since.
        if (readText(home) === text) rmSync(fileIn(home), { force: true })
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

// ── The operator's end ──

export type AskBot = <Q extends Question>(question: Q) => Promise<Answers[Q['ask']]>

/** The bot that runs on `home`; null when none does. A killed bot leaves its file, which then leads nowhere. */
export const findBot = async (home: string): Promise<AskBot | null> => {
  const text = readText(home)
  const file = v.safeParse(v.object({ url: v.string(), token: v.string() }), text === null ? null : jsonObject(text))
  if (!file.success) return null
  const { url, token } = file.output
  const post = (question: unknown) =>
    fetch(url, {
      method: 'POST',
      redirect: 'error',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(question),
      signal: AbortSignal.timeout(DEADLINE_MS),
    })
  try {
    const response = await post({ ask: 'deliveries', words: [], limit: 1 })
    await response.arrayBuffer()
    // Another program may have that port now.
    if (response.status !== 200 && response.status !== 503) return null
  } catch (error) {
    if (error instanceof Error && error.name === 'TimeoutError')
      throw fail(
        'timeout',
        `contacting the bot at ${url}: no response within ${DEADLINE_MS / 1000} s`,
        'It may be stopped or very busy: look at its log.',
      )
    return null
  }
  return async question => {
    const response = await post(question).catch(error => {
      throw fail(
        'network',
        failureOf(error, `contacting the bot at ${url}`).message,
        'It may have ended just now: try again.',
      )
    })
    if (!response.ok)
      throw fail(
        'refused',
        `contacting the bot at ${url}: HTTP ${response.status}: ${(await response.text()).slice(0, 300)}`,
      )
    return (await response.json()) as never
  }
}
