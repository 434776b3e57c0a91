/** What the `bot …` commands share: access to the bot's inbox whether it runs or not, and deliveries as text and JSON. */

import { existsSync, mkdirSync } from 'node:fs'
import { type AskBot, answerFrom, findBot } from '../bot/http/operator.ts'
import { aboutOf } from '../bot/inbox/lanes.ts'
import type { Config } from '../config/config.ts'
import { storeFile } from '../config/home.ts'
import { fail } from '../errors.ts'
import type { DeliveryRow } from '../store/port.ts'
import { openStore } from '../store/sqlite/index.ts'
import { type Invocation, onOneLine, printNote, stripControls } from './terminal/output.ts'

/** `runs`: a running bot answers. */
export type Inbox = { runs: boolean; ask: AskBot; close(): Promise<void> }

export const openInbox = async ({ home }: Config): Promise<Inbox> => {
  const ask = await findBot(home)
  if (ask !== null) return { runs: true, ask, close: async () => {} }
  mkdirSync(home, { recursive: true, mode: 0o700 })
  const store = openStore(storeFile(home), Date.now)
  return { runs: false, ask: question => answerFrom(store, question), close: store.close }
}

/** Runs `work` on the store of the bot, which is made when no bot ever ran. */
export const withStore = async <T>(invocation: Invocation, work: (inbox: Inbox) => Promise<T>): Promise<T> => {
  const inbox = await openInbox(await invocation.config())
  try {
    return await work(inbox)
  } finally {
    await inbox.close()
  }
}

/** Runs `work` on the inbox of the bot; `work` gets null, after a note, when no bot ever ran. */
export const withInbox = async <T>(invocation: Invocation, work: (inbox: Inbox | null) => Promise<T>): Promise<T> => {
  const { home } = await invocation.config()
  if (existsSync(storeFile(home))) return withStore(invocation, work)
  printNote(`No bot has run with AGENT_SWARM_HOME ${home} yet.`, invocation.terminal)
  return work(null)
}

/** The value of `--limit`. */
export const limitOf = ({ flags }: Invocation): number => {
  const limit = Number(flags.limit ?? 50)
  if (!Number.isInteger(limit) || limit < 1 || limit > 10_000)
    throw fail('usage', `--limit must be a whole number from 1 to 10000, not "${flags.limit}"`)
  return limit
}

const inTime = (milliseconds: number) => {
  if (milliseconds <= 0) return 'now'
  return milliseconds < 90_000
    ? `in ${Math.ceil(milliseconds / 1000)} s`
    : `in ${Math.round(milliseconds / 60_000)} min`
}

/** The actions that a delivery became, the reason of its verdict, or why it waits. */
export const resultText = ({ verdict, reason, actions, dueAt, attempt }: DeliveryRow, now: number): string => {
  const why = reason === null ? '' : stripControls(reason)
  if (verdict === 'waiting')
    return attempt === 0 ? 'not decided yet' : `${why}; attempt ${attempt} failed, next ${inTime((dueAt ?? now) - now)}`
  if (verdict !== 'actions' || actions.length === 0) return why
  return actions
    .map(({ kind, ticket, state, result, reason }) => {
      const because = reason === null ? '' : `: ${onOneLine(reason)}`
      return `${kind} ${ticket} (${result ?? state}${because})`
    })
    .join(', ')
}

export const eventText = ({ source, event }: DeliveryRow) => stripControls(`${source} ${event}`)

export const iso = (at: number) => new Date(at).toISOString()
/** The delivery as JSON, with times in ISO 8601, UTC. */
export const toJson = ({ lane, receivedAt, dueAt, settledAt, ...row }: DeliveryRow) => ({
  ...row,
  about: aboutOf(lane),
  receivedAt: iso(receivedAt),
  dueAt: dueAt === null ? null : iso(dueAt),
  settledAt: settledAt === null ? null : iso(settledAt),
})
