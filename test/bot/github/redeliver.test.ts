/** What never arrived is delivered again by GitHub, and no more often than it helps. */
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { openGitHub } from '../../../src/bot/github/open.ts'
import { openRedeliver } from '../../../src/bot/github/redeliver.ts'
import { openLog } from '../../../src/log.ts'
import { openStore } from '../../../src/store/sqlite/index.ts'
import { delivery } from '../../store/fixtures.ts'
import { type GitHubStandIn, startGitHub, WEBHOOK_SECRET } from '../../support/github.ts'

let hub: GitHubStandIn
let now: number
let store: ReturnType<typeof openStore>
let redeliver: ReturnType<typeof openRedeliver>
beforeEach(async () => {
  hub = await startGitHub()
  onTestFinished(() => hub.stop())
  vi.useFakeTimers({ toFake: ['Date'] })
  onTestFinished(() => void vi.useRealTimers())
  now = Date.now()
  store = openStore(':memory:', () => now)
  const log = openLog('silent')
  const github = await openGitHub(
    {
      via: 'app',
      appId: hub.app.id,
      privateKey: hub.app.privateKey,
      webhookSecret: WEBHOOK_SECRET,
      repositories: ['acme/shop'],
      apiUrl: hub.url,
    },
    { log, paced: false },
  )
  redeliver = openRedeliver({ github, store, clock: () => now, log })
})

const round = async () => {
  vi.setSystemTime(now)
  const before = hub.requests.length
  await redeliver(new AbortController().signal)
  const paths = hub.requests.slice(before).map(({ path }) => path)
  const attempts = paths.flatMap(path => path.match(/deliveries\/(\d+)\/attempts$/)?.[1] ?? [])
  return { attempts: attempts.map(Number), lists: paths.filter(path => path.includes('/hook/deliveries?')).length }
}
/** A delivery in GitHub's list. */
const listed = (guid: string, status_code: number, event = 'push', at = now) => {
  const id = hub.deliveries.length + 1_000
  const delivered_at = new Date(at).toISOString()
  hub.deliveries.push({ id, guid, delivered_at, redelivery: false, status: '', status_code, event, payload: {} })
  return id
}
const arrived = (...guids: string[]) => store.inbox.accept(guids.map(guid => delivery(guid)))

test('those that never arrived, oldest first; not what arrived, what arrived later, or what is not handled', async () => {
  listed('before the first round', 502)
  now += 60_000
  expect((await round()).attempts).toEqual([])
  now += 60_000
  const first = listed('one', 502)
  listed('known', 502)
  listed('later', 504)
  listed('later', 202)
  listed('a star', 502, 'star')
  listed('twice', 0)
  const second = listed('twice', 0)
  await arrived('known')
  expect((await round()).attempts).toEqual([first, second])
})

test('each at most three times', async () => {
  await round()
  const counts: number[] = []
  for (let n = 0; n < 6; n += 1) {
    now += 15 * 60_000
    listed('bad', 500)
    counts.push((await round()).attempts.length)
  }
  expect(counts).toEqual([1, 1, 1, 0, 0, 0])
})

test('over many pages, a hundred a round; what is three days old is given up', async () => {
  await round()
  now += 5 * 24 * 60 * 60_000
  listed('long ago', 502, 'push', now - 4 * 24 * 60 * 60_000)
  for (let n = 0; n < 130; n += 1) listed(`lost ${n}`, 502)
  const first = await round()
  expect(first.attempts).toHaveLength(100)
  expect(first.lists).toBe(2)
  now += 15 * 60_000
  await arrived(...hub.deliveries.slice(0, 101).map(({ guid }) => guid))
  expect((await round()).attempts).toHaveLength(30)
  now += 15 * 60_000
  await arrived(...hub.deliveries.map(({ guid }) => guid))
  expect((await round()).attempts).toEqual([])
})

test('a schedule that closes stops it, and the next round goes on', async () => {
  await round()
  now += 60_000
  listed('one', 502)
  const closed = new AbortController()
  closed.abort()
  await redeliver(closed.signal)
  expect((await round()).attempts).toHaveLength(1)
})

test.for([-400, -1, 4, 400])('with a clock that is %i days off, what never arrived is delivered again', async days => {
  await round()
  const right = now
  const id = listed('lost', 502, 'push', right + 1_000)
  vi.setSystemTime(right + 60_000)
  now = right + 60_000 + days * 24 * 60 * 60_000
  const before = hub.requests.length
  await redeliver(new AbortController().signal)
  const paths = hub.requests.slice(before).map(({ path }) => path)
  expect(paths.filter(path => path.endsWith('/attempts'))).toEqual([expect.stringContaining(`/${id}/`)])
})
