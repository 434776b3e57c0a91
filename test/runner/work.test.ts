/** What a runner reports of an attempt that takes long. */
import { expect, test } from 'vitest'
import { WAITING_PHASE } from '../../src/runner/executor.ts'
import { progressNow } from '../../src/runner/work.ts'
import type { RunningCommand } from '../../src/running-commands.ts'

const NOW = Date.parse('2026-11-24T10:01:00Z')
const context = { clock: () => new Date(NOW) }
const begun = (secondsAgo: number, what = 'virsh define'): RunningCommand => ({
  what,
  since: performance.now() - secondsAgo * 1_000,
  until: performance.now() + 20_000,
})
const phase = (name: string, secondsAgo: number) => ({
  phase: name,
  at: new Date(NOW - secondsAgo * 1_000).toISOString(),
})

test.for<[string, Parameters<typeof progressNow>[1], RunningCommand[], string | null]>([
  ['nothing has begun', null, [begun(60)], null],
  ['a command of 29 s', phase('clone', 60), [begun(29)], null],
  ['a command of 31 s', phase('clone', 60), [begun(31)], 'virsh define'],
  ['the oldest of several', phase('clone', 60), [begun(40, 'qemu-img'), begun(31)], 'qemu-img'],
  ['a long phase of short commands', phase('boot', 300), [begun(2)], null],
  ['a long phase without a command', phase('boot', 300), [], null],
  ['a short wait for the lock', phase(WAITING_PHASE, 29), [], null],
  ['a long wait for the lock', phase(WAITING_PHASE, 31), [], 'another command on this ticket'],
])('%s', ([, progress, commands, expected]) => {
  const reported = progressNow(context, progress, new Set(commands))
  expect(reported?.waitsFor?.what ?? null).toBe(expected)
  expect(reported?.phase).toBe(progress?.phase)
})

test('it says since when, and when it is given up', () => {
  const { since, until } = progressNow(context, phase('clone', 60), new Set([begun(40)]))?.waitsFor ?? {}
  expect([since, until].map(at => Math.round((Date.parse(at ?? '') - NOW) / 1_000))).toEqual([-40, 20])
})
