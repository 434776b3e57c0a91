/** A host boots with a clock that is days off, and the clock is set: what the registry noted meanwhile holds nothing up. */
import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DAY_MS } from '../../src/clock.ts'
import { isDoubtful } from '../../src/runner/pool/pools.ts'
import { isLeftToQueue } from '../../src/runner/recovery.ts'
import type { Action } from '../../src/schema/action.ts'
import { actions, openTestContext, type TestContext, wrapProviders } from '../support/context.ts'

const NOW = Date.parse('2026-11-28T12:00:00Z')
const iso = (at: number): string => new Date(at).toISOString()

describe.for([-400, -1, 1, 400])('a clock that was %i days ahead', days => {
  const off = NOW + days * DAY_MS
  let it: TestContext
  let now: number
  beforeEach(async () => {
    it = await openTestContext()
    it.context.clock = () => new Date(now)
    wrapProviders(it.context, provider => ({ ...provider, liveCheckpoints: true }))
    now = off
    await it.do(actions.create('DROP-1'))
  })
  afterEach(() => it.close())

  const queued = (action: Action) =>
    it.do({ ...action, by: { via: 'github', who: 'dev' }, at: iso(now) }, { actionId: randomUUID() })
  const push = (n: number) => it.do(actions.push('DROP-1', `abcdef${n}`))
  const names = () => it.context.registry.checkpoints('DROP-1').map(({ name }) => name)

  test('a merge deletes the machine that somebody started by hand before', async () => {
    await it.do(actions.start('DROP-1'))
    now = NOW
    expect(await queued(actions.delete('DROP-1'))).toMatchObject({ result: 'done' })
  })

  test('the newest five checkpoints of pushes are kept', async () => {
    for (const n of [1, 2, 3, 4, 5]) await push(n)
    now = NOW
    for (const n of [6, 7]) await push(n)
    expect(names()).toEqual([3, 4, 5, 6, 7].map(n => `push-abcdef${n}`))
  })

  test('a checkpoint that only the hypervisor knows keeps its place', async () => {
    for (const n of [1, 2, 3]) await push(n)
    it.context.registry.removeCheckpoint('DROP-1', 'push-abcdef2')
    now = NOW
    await push(4)
    expect(names()).toEqual([1, 2, 3, 4].map(n => `push-abcdef${n}`))
  })

  test('an operation that died is not left to the queue', () => {
    expect(isLeftToQueue({ actionId: 'github:1:0', startedAt: iso(off) }, new Date(NOW))).toBe(false)
    expect(isLeftToQueue({ actionId: 'github:1:0', startedAt: iso(off) }, new Date(off))).toBe(true)
  })

  test('failed claims keep nobody from machines that were made since', () => {
    const failed = { count: 2, at: iso(off) }
    expect(isDoubtful({ since: iso(NOW) }, { failed, now: new Date(NOW) })).toBe(false)
    expect(isDoubtful({ since: iso(off) }, { failed, now: new Date(off) })).toBe(true)
  })
})
