/** What `bot inbox`, `bot replay` and `bot audit` share: the way to a bot that runs or does not, and a delivery as a person reads it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type AskBot, answerFrom, findBot } from '../bot/http/operator.ts'
import { aboutOf } from '../bot/inbox/lanes.ts'
import type { Config } from '../config/config.ts'
import { fail } from '../errors.ts'
import type { DeliveryRow } from '../store/port.ts'
import { openMemory } from '../store/sqlite/memory.ts'
import { openQueue } from '../store/sqlite/queue.ts'
import { type Invocation, stripControls } from './terminal/output.ts'

/** `runs`: the bot does, and answers. Null: no bot ever ran on this folder. */
export type Inbox = { runs: boolean; ask: AskBot; close(): void }

export const openInbox = async ({ home }: Config): Promise<Inbox | null> => {
  const ask = await findBot(home)
  if (ask !== null) return { runs: true, ask, close: () => {} }
  const path = join(home, 'bot.db')
  if (!existsSync(path)) return null
  const queue = openQueue(path, Date.now)
  const memory = openMemory(join(home, 'memory.db'), Date.now)
  return {
    runs: false,
    ask: async question => answerFrom({ queue, memory }, question),
    close: () => {
      queue.close()
      memory.close()
    },
  }
}

/** How many lines are asked for. */
export const limitOf = ({ flags }: Invocation): number => {
  const limit = Number(flags.limit ?? 50)
  if (!Number.isInteger(limit) || limit < 1 || limit > 10_000)
    throw fail('usage', `--limit must be a whole number from 1 to 10000, and is "${flags.limit}"`)
  return limit
}

export const noBot = ({ home }: Config) => `No bot ever ran with AGENT_SWARM_HOME ${home}: nothing is known there.`

const inTime = (milliseconds: number) =>
  milliseconds <= 0
    ? 'now'
    : milliseconds < 90_000
      ? `in ${Math.ceil(milliseconds / 1000)} s`
      : `in ${Math.round(milliseconds / 60_000)} min`

/** What a delivery became, or why it waits. */
export const told = ({ verdict, reason, actions, dueAt, attempt }: DeliveryRow, now: number): string => {
  const because = reason === null ? '' : stripControls(reason)
  if (verdict === 'waiting') {
    return attempt === 0
      ? 'not decided yet'
      : `${because}; tried ${attempt} times, again ${inTime((dueAt ?? now) - now)}`
  }
  if (verdict !== 'actions' || actions.length === 0) return because
  return actions
    .map(one => {
      const why = one.because === null ? '' : `: ${stripControls(one.because.replaceAll(/\s+/g, ' '))}`
      return `${one.kind} ${one.ticket} (${one.result ?? one.state}${why})`
    })
    .join(', ')
}

export const eventOf = ({ source, event }: DeliveryRow) => stripControls(`${source} ${event}`)

export const iso = (at: number) => new Date(at).toISOString()
/** Times are ISO 8601, UTC. */
export const asJson = ({ lane, receivedAt, dueAt, settledAt, ...row }: DeliveryRow) => ({
  ...row,
  about: aboutOf(lane),
  receivedAt: iso(receivedAt),
  dueAt: dueAt === null ? null : iso(dueAt),
  settledAt: settledAt === null ? null : iso(settledAt),
})
