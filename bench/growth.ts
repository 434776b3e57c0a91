/** (g) How much 20,000 deliveries leave in memory and on disk. (h) How much a flood of bad signatures costs. */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { KEPT_PAYLOADS } from '../src/bot/schedule-rows.ts'
import { openStore } from '../src/store/sqlite/index.ts'
import { startGitHub, WEBHOOK_SECRET } from '../test/support/github.ts'
import { until } from '../test/support/wait.ts'
import { pound, push, type Served, serve } from './deliveries.ts'
import type { Row } from './main.ts'
import { botEnvironment, entry, privateKey, resident, withHome } from './measure.ts'

const CONNECTIONS = 20
/** As many as the inbox decides at once. */
const BRANCHES = 8
/** After these, everything that is loaded and compiled late is. */
const WARM = 2_000
const DELIVERIES = 20_000
const FLOOD = 10_000
const FLOODS = 3
/** On average a payload fills half of its last page in the store. */
const TARGETS = { heap: 1.1, resident: 1.25, lines: 10, payloads: 2, perDelivery: 1_024 } as const

const mebi = (bytes: number) => bytes / 1024 / 1024

/** A bot whose garbage collector runs on demand, through Node's inspector. */
const openWatched = async (home: string, more: Record<string, string> = {}) => {
  const environment = { ...botEnvironment(home, privateKey()), LOG_LEVEL: 'info', ...more }
  const bot = await serve(['--inspect=127.0.0.1:0', entry, 'bot'], environment)
  const socket = new WebSocket(bot.output().match(/ws:\S+/)?.[0] ?? '')
  await new Promise((resolve, reject) => {
    socket.onopen = resolve
    socket.onerror = reject
  })
  let requests = 0
  const request = (
    method: string,
  ): Promise<{ usedSize: number; embedderHeapUsedSize: number; backingStorageSize: number }> => {
    requests += 1
    const id = requests
    return new Promise(resolve => {
      socket.addEventListener('message', ({ data }) => {
        const response = JSON.parse(String(data))
        if (response.id === id) resolve(response.result)
      })
      socket.send(JSON.stringify({ id, method }))
    })
  }
  return {
    ...bot,
    /** MiB in use after a collection: JavaScript's heap with its buffers, and resident memory. */
    memory: async () => {
      await until('an empty inbox', () => idle(bot), { within: 600_000, every: 250 })
      for (const _ of [1, 2]) await request('HeapProfiler.collectGarbage')
      const { usedSize, backingStorageSize } = await request('Runtime.getHeapUsage')
      return { heap: mebi(usedSize + backingStorageSize), resident: resident(bot.pid) }
    },
  }
}
const idle = async ({ url }: Served) =>
  (await (await fetch(`${url}/metrics`)).text()).includes('agent_swarm_inbox_deliveries 0\n')

type Memory = { heap: number; resident: number }
const grown = (row: string, after: string, before: Memory, now: Memory): Row[] =>
  (
    [
      ['heap', 'heap with buffers, collected'],
      ['resident', 'resident memory'],
    ] as const
  ).map(([what, label]) => ({
    row,
    what: `${label}, after ${after} / before`,
    measured: `${(now[what] / before[what]).toFixed(2)} (${now[what].toFixed(1)} / ${before[what].toFixed(1)} MiB)`,
    target: `<= ${TARGETS[what]}`,
    ok: now[what] / before[what] <= TARGETS[what],
  }))

const onLinux = (row: string, what: string, measure: () => Promise<Row[]>) => (): Promise<Row[]> =>
  process.platform === 'linux'
    ? measure()
    : Promise.resolve([{ row, what, measured: 'only on Linux', target: '', ok: null }])

export const growth = onLinux('g', 'growth', () =>
  withHome(async home => {
    // Answers the bot's requests for the rules of the repository.
    const github = await startGitHub()
    const bot = await openWatched(home, {
      ...github.settings,
    })
    const repository = { ...(await github.api('acme', 'GET', `/repos/${github.repo}`)) }
    const more = { repository, installation: { id: github.app.installation } }
    const deliveries = Array.from({ length: BRANCHES }, (_, n) => push(`branch-${n}`, more, WEBHOOK_SECRET))
    const path = join(home, 'state', 'bot.db')
    try {
      const send = async (amount: number) => {
        const { ok } = await pound(bot.url, { connections: CONNECTIONS, deliveries, amount })
        if (ok !== amount) throw new Error(`${amount - ok} of ${amount} deliveries were not accepted`)
        return bot.memory()
      }
      const before = await send(WARM)
      const now = await send(DELIVERIES)
      const all = WARM + DELIVERIES
      // The bot does this each hour.
      const store = openStore(path, Date.now)
      const startedAt = performance.now()
      await store.purge({ queueBefore: 0, knowledgeBefore: 0, payloadBytes: KEPT_PAYLOADS })
      const took = performance.now() - startedAt
      await store.close()
      const db = new DatabaseSync(path, { readOnly: true })
      const number = (pragma: string) => Number(Object.values(db.prepare(`pragma ${pragma}`).get() ?? {})[0])
      const used = (number('page_count') - number('freelist_count')) * number('page_size')
      db.close()
      const most = TARGETS.payloads * KEPT_PAYLOADS + all * TARGETS.perDelivery
      return [
        ...grown('g', `${DELIVERIES} deliveries`, before, now),
        {
          row: 'g',
          what: `store in use after ${all} deliveries without an effect and the hourly retention (its file; the time it took)`,
          measured: `${Math.round(mebi(used))} MiB (${Math.round(mebi(statSync(path).size))} MiB; ${Math.round(took)} ms)`,
          target: `<= ${Math.round(mebi(most))} MiB`,
          ok: used <= most,
        },
      ]
    } finally {
      bot.stop()
      await github.stop()
    }
  }),
)

export const flood = onLinux('h', 'a flood of bad signatures', () =>
  withHome(async home => {
    const bot = await openWatched(home)
    const deliveries = [push('main', {}, 'another-secret')]
    try {
      const send = async () => {
        const { ok, bad } = await pound(bot.url, { connections: CONNECTIONS, deliveries, amount: FLOOD })
        if (ok > 0 || bad < FLOOD) throw new Error(`${ok} of ${FLOOD} deliveries with a bad signature were accepted`)
      }
      const lines = () => bot.output().split('\n').length
      await send()
      const [before, linesBefore] = [await bot.memory(), lines()]
      for (let n = 0; n < FLOODS; n += 1) await send()
      const now = await bot.memory()
      const each = (lines() - linesBefore) / FLOODS
      return [
        ...grown('h', `${FLOODS * FLOOD} bad signatures`, before, now),
        {
          row: 'h',
          what: `lines of log for each ${FLOOD} bad signatures`,
          measured: each.toFixed(1),
          target: `<= ${TARGETS.lines}`,
          ok: each <= TARGETS.lines,
        },
      ]
    } finally {
      bot.stop()
    }
  }),
)
