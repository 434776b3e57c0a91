/** What a heartbeat has of 1,000 environments: what the bot has not recorded yet, and no more. */
import { expect, test } from 'vitest'
import { openHeartbeatNews } from '../../src/runner/heartbeat-news.ts'
import type { Known } from '../../src/runner/known-environments.ts'
import type { Checkpoint, Environment } from '../../src/schema/environment.ts'
import { environmentOf } from '../store/fixtures.ts'

const COUNT = 1_000
/** The bot takes bodies of 5 MiB. */
const BODY = 5 * 1024 * 1024
const bytes = (value: unknown) => Buffer.byteLength(JSON.stringify(value))
const checkpoints = (count: number): Checkpoint[] =>
  Array.from({ length: count }, (_, n) => ({
    ...{ name: `push-${n.toString(16).padStart(7, '0')}`, why: 'push', commit: 'a'.repeat(40), withMemory: true },
    ...{ createdAt: '2026-11-23T09:45:00.000Z', sizeBytes: 1_000_000 },
  }))
const all = (each: Partial<Environment> = {}, count = COUNT): Environment[] =>
  Array.from({ length: count }, (_, n) => environmentOf(`DROP-${n + 1}`, each))
const known = (environments: readonly Environment[], isSettled = true): Known => ({
  ...{ environments, manualOperations: [], isSettled: () => isSettled },
})
type News = ReturnType<typeof openHeartbeatNews>
/** What one heartbeat says of environments, which the bot then records. */
const beat = (news: News, now: Known, leftOut: string[] = []) => {
  news.compare(now)
  const members = news.next()
  news.recorded('an-id', leftOut)
  return members
}
const ticketsOf = (environments: readonly { ticket: string }[] = []) => environments.map(({ ticket }) => ticket)

test('all of many checkpoints is sent in pieces that the bot takes, and the first one names the rest', () => {
  const news = openHeartbeatNews()
  const now = known(all({ checkpoints: checkpoints(100) }))
  expect(bytes(now.environments)).toBeGreaterThan(3 * BODY)
  const first = beat(news, now)
  expect(first.environments).toBeUndefined()
  const pieces = [first]
  while (news.hasNews()) pieces.push(beat(news, now))
  for (const piece of pieces) expect(bytes(piece)).toBeLessThan(BODY / 2)
  const sent = ticketsOf(pieces.flatMap(({ beginning, changes }) => beginning?.environments ?? changes?.changed ?? []))
  expect(sent).toEqual(ticketsOf(now.environments))
  const named = [...ticketsOf(first.beginning?.environments), ...ticketsOf(first.beginning?.others)]
  expect(named).toEqual(sent)
  expect(beat(news, now).changes).toEqual({ follows: 'an-id', changed: [], gone: [] })
})

test('one environment that is larger than a piece is sent alone', () => {
  const news = openHeartbeatNews(100)
  expect(beat(news, known(all({}, 3))).beginning?.environments).toHaveLength(1)
})

test('a heartbeat without a change is as small with 1,000 environments as with one; a change is one row', () => {
  const sizes = [1, COUNT].map(count => {
    const news = openHeartbeatNews()
    const now = known(all({}, count))
    beat(news, now)
    const unchanged = bytes(beat(news, now))
    // The registry was written, and nothing of it is visible.
    expect(bytes(beat(news, known(all({ observedAt: '2026-11-23T10:00:00.000Z' }, count))))).toBe(unchanged)
    return unchanged
  })
  expect(sizes[1]).toBe(sizes[0])
  const news = openHeartbeatNews()
  beat(news, known(all()))
  const [first, ...others] = all()
  const changed = { ...(first ?? environmentOf('DROP-1')), status: 'stopped' } as const
  expect(beat(news, known([changed, ...others])).changes?.changed).toEqual([changed])
})

test('what did not change is not even looked at', () => {
  const news = openHeartbeatNews()
  let looks = 0
  const toJSON = () => {
    looks += 1
  }
  const now = known(all({ toJSON } as object))
  beat(news, now)
  expect(looks).toBe(COUNT)
  for (let n = 0; n < 10; n += 1) beat(news, now)
  expect(looks).toBe(COUNT)
})

test('what the bot left out is sent again, when nothing else is', () => {
  const news = openHeartbeatNews()
  const now = known(all({}, 3))
  beat(news, now, ['DROP-2'])
  expect(news.hasNews()).toBe(false)
  expect(ticketsOf(beat(news, now, ['DROP-2']).changes?.changed)).toEqual(['DROP-2'])
  const changed = known(all({ status: 'stopped' }, 1).concat(all({}, 3).slice(1)))
  expect(ticketsOf(beat(news, changed).changes?.changed)).toEqual(['DROP-1'])
  expect(ticketsOf(beat(news, changed).changes?.changed)).toEqual(['DROP-2'])
  expect(beat(news, changed).changes?.changed).toEqual([])
})

test('what was sent before the hypervisor was asked is sent again once it was: the bot may have known something newer', () => {
  const news = openHeartbeatNews()
  beat(news, known(all({}, 2)))
  const changed = all({ status: 'stopped' }, 1).concat(all({}, 2).slice(1))
  expect(ticketsOf(beat(news, known(changed, false)).changes?.changed)).toEqual(['DROP-1'])
  expect(beat(news, known([...changed], false)).changes?.changed).toEqual([])
  expect(ticketsOf(beat(news, known([...changed])).changes?.changed)).toEqual(['DROP-1'])
  expect(beat(news, known([...changed])).changes?.changed).toEqual([])
})
