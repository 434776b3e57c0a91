import { expect, test } from 'vitest'
import { backoff, boundedWait } from '../src/backoff.ts'
import { atMost, openJumpWatch } from '../src/clock.ts'

test('a clock that moves on as expected did not jump', () => {
  let now = 1_000
  const jumped = openJumpWatch(() => now, { ahead: 60_000 })
  expect(jumped()).toBe(false)
  now += 60_000
  expect(jumped()).toBe(false)
})

test('a machine that slept, and a clock that was set back, are noticed once', () => {
  let now = 1_000_000
  const jumped = openJumpWatch(() => now, { ahead: 60_000 })
  now += 60_001
  expect([jumped(), jumped()]).toEqual([true, false])
  now -= 1
  expect([jumped(), jumped()]).toEqual([true, false])
})

test('small corrections backwards can be tolerated, and the time since the last call ignored', () => {
  let now = 1_000_000
  const setBack = openJumpWatch(() => now, { behind: 10_000 })
  now -= 10_000
  expect(setBack()).toBe(false)
  now += 86_400_000
  expect(setBack()).toBe(false)
  now -= 10_001
  expect(setBack()).toBe(true)
})

test('back-off doubles up to its limit', () => {
  const wait = backoff({ first: 100, most: 1_000 })
  expect([0, 1, 2, 3, 4, 50].map(wait)).toEqual([100, 200, 400, 800, 1_000, 1_000])
})

test('a server is asked again within the hour, and not at once', () => {
  expect([-5, 0, 7_000, 30 * 86_400_000].map(boundedWait)).toEqual([1_000, 1_000, 7_000, 3_600_000])
})

test('waiting ends with the work, however it ends, or at the deadline', async () => {
  await atMost(60_000, [Promise.reject(new Error('failed')), null])
  await atMost(1, [new Promise(() => {})])
})
