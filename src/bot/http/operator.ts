/**
 * The operator's door: what `bot inbox`, `bot replay` and `bot audit` ask of a bot that runs. It listens on loopback alone, on a port of
 * its own, so that no proxy in front of the webhooks leads to it; address and token are in a file that only the bot's user
 * can read. A runner's token opens nothing here.
 */
import { randomBytes } from 'node:crypto'
import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import * as v from 'valibot'
import { fail, failureOf } from '../../errors.ts'
import type { Log } from '../../log.ts'
import type { DeliveryRow, Queue, Replayed } from '../../store/port.ts'
import type { AuditLine } from '../../store/sqlite/audit.ts'
import type { Memory } from '../../store/sqlite/memory.ts'
import { lanesOf } from '../inbox/lanes.ts'
import { isToken, jsonObject, readBody, refuse, respond } from './body.ts'

const BODY_LIMIT = 16 * 1024
const DEADLINE_MS = 10_000

const fileIn = (home: string) => join(home, 'operator.json')

const limit = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(10_000))
const questions = v.variant('ask', [
  v.object({
    ask: v.literal('deliveries'),
    words: v.pipe(v.array(v.pipe(v.string(), v.maxLength(1_000))), v.maxLength(10)),
    limit,
  }),
  v.object({ ask: v.literal('audit'), ticket: v.nullable(v.pipe(v.string(), v.maxLength(1_000))), limit }),
  v.object({ ask: v.literal('replay'), id: v.pipe(v.string(), v.maxLength(1_000)) }),
])
type Question = v.InferOutput<typeof questions>
type Answers = { deliveries: DeliveryRow[]; audit: AuditLine[]; replay: Replayed }
/** Where the answers are. */
type Stores = { queue: Queue; memory: Memory }

const answers: {
  [Ask in Question['ask']]: (stores: Stores, question: Extract<Question, { ask: Ask }>) => Answers[Ask]
} = {
  deliveries: ({ queue, memory }, { words, limit }) =>
    queue.deliveries({ words, limit, lanesOf: word => lanesOf(memory, word) }),
  audit: ({ memory }, { ticket, limit }) => memory.audit(ticket, limit),
  replay: ({ queue }, { id }) => queue.replay(id),
}
export const answerFrom = <Q extends Question>(stores: Stores, question: Q): Answers[Q['ask']] =>
  (answers[question.ask] as (stores: Stores, question: Question) => Answers[Q['ask']])(stores, question)

export const openOperator = async ({
  home,
  queue,
  memory,
  onReplay,
  log,
}: Stores & {
  home: string
  /** A delivery is due again. */
  onReplay: () => void
  log: Log
}): Promise<{ close(): Promise<void> }> => {
  const token = randomBytes(32).toString('hex')
  const server = createServer({ requestTimeout: DEADLINE_MS, headersTimeout: DEADLINE_MS })
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const given = request.headers.authorization?.match(/^Bearer (\S{1,512})$/)?.[1]
    if (request.method !== 'POST' || given === undefined || !isToken(token, given)) {
      refuse(request, response, 401, 'this is for the user who runs the bot')
      return
    }
    readBody(
      request,
      response,
      BODY_LIMIT,
      body => {
        const asked = v.safeParse(questions, jsonObject(body.toString('utf8')))
        if (!asked.success) {
          respond(response)(400, { error: asked.issues[0].message })
          return
        }
        const answered = answerFrom({ queue, memory }, asked.output)
        if (asked.output.ask === 'replay') {
          log.info({ correlation: asked.output.id, replay: answered }, 'an operator asked for a replay')
          if (answered === 'again') onReplay()
        }
        respond(response)(200, answered)
      },
      error => log.error({ err: error }, 'a question of the operator could not be answered; it was told so'),
    )
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  const text = JSON.stringify({ url: `http://127.0.0.1:${port}`, token })
  // Whole or not there at all.
  const written = `${fileIn(home)}.${process.pid}`
  writeFileSync(written, text, { mode: 0o600 })
  chmodSync(written, 0o600)
  renameSync(written, fileIn(home))
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

const readText = (home: string): string | null => {
  try {
    return readFileSync(fileIn(home), 'utf8')
  } catch {
    return null
  }
}

export type AskBot = <Q extends Question>(question: Q) => Promise<Answers[Q['ask']]>

/** The way to the bot that runs on `home`; null when none does: a file that a killed one left leads nowhere. */
export const findBot = async (home: string): Promise<AskBot | null> => {
  const text = readText(home)
  const found = v.safeParse(v.object({ url: v.string(), token: v.string() }), text === null ? null : jsonObject(text))
  if (!found.success) return null
  const { url, token } = found.output
  const post = (question: unknown) =>
    fetch(url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify(question),
      signal: AbortSignal.timeout(DEADLINE_MS),
    })
  try {
    const response = await post({ ask: 'deliveries', words: [], limit: 1 })
    await response.arrayBuffer()
    // Somebody else has that port now.
    if (response.status !== 200 && response.status !== 503) return null
  } catch (error) {
    if (error instanceof Error && error.name === 'TimeoutError')
      throw fail(
        'timeout',
        `asking the bot at ${url}: no answer within ${DEADLINE_MS / 1000} s`,
        'Is it stopped or very busy? Look at its log.',
      )
    return null
  }
  return async question => {
    const response = await post(question).catch(error => {
      throw fail('network', failureOf(error, `asking the bot at ${url}`).message, 'Did it end just now? Try again.')
    })
    if (!response.ok)
      throw fail(
        'refused',
        `asking the bot at ${url}: HTTP ${response.status}: ${(await response.text()).slice(0, 300)}`,
      )
    return (await response.json()) as never
  }
}
