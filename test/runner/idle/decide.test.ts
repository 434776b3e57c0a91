import { expect, test } from 'vitest'
import { decide, type Idle, isUsed, MAX_GAP_MS } from '../../../src/runner/idle/decide.ts'

const MINUTE = 60_000
const hour = { minutes: 60 }
const idle = (minutes: number, warnedAt: number | null = null): Idle => ({
  idleMs: minutes * MINUTE,
  warnedMs: warnedAt === null ? null : warnedAt * MINUTE,
})
const unused = (minutes: number | null) => ({ used: false, passedMs: minutes === null ? null : minutes * MINUTE })
const used = { used: true, passedMs: MINUTE }

test.for([
  ['the first look counts nothing', null, unused(null), hour, 'nothing', idle(0)],
  ['each further look counts the time since', idle(3), unused(1), hour, 'nothing', idle(4)],
  ['a use begins anew', idle(40), used, hour, 'nothing', null],
  ['15 minutes before, it is warned', idle(44), unused(1), hour, 'warn', idle(45, 45)],
  ['it is warned once', idle(45, 45), unused(1), hour, 'nothing', idle(46, 45)],
  ['a use after the warning withdraws it', idle(50, 45), used, hour, 'withdraw', null],
  ['15 minutes after the warning, it is put to sleep', idle(59, 45), unused(1), hour, 'sleep', idle(60, 45)],
  ['a host that slept for a day adds nothing', idle(40), unused(1_440), hour, 'nothing', idle(40)],
  ['a host that slept after the warning does not shorten it', idle(50, 45), unused(600), hour, 'nothing', idle(50, 45)],
  ['a clock that goes back adds nothing', idle(40), unused(-5), hour, 'nothing', idle(40)],
  ['after a restart of the runner, what was kept counts', idle(44), unused(null), hour, 'nothing', idle(44)],
  ['a short time is warned of at once', null, unused(null), { minutes: 5 }, 'warn', idle(0, 0)],
  [
    ...([
      'soon after a warning was withdrawn, no other comes',
      idle(8),
      { ...unused(1), withdrawnMs: 9 * MINUTE },
    ] as const),
    ...([{ minutes: 5 }, 'nothing', idle(9)] as const),
  ],
  [
    ...(['15 minutes after it, one does', idle(13), { ...unused(1), withdrawnMs: 15 * MINUTE }] as const),
    ...([{ minutes: 5 }, 'warn', idle(14, 14)] as const),
  ],
  ['and leaves 15 minutes all the same', idle(14, 0), unused(0.5), { minutes: 5 }, 'nothing', idle(14.5, 0)],
] as const)('%s', ([, before, look, rule, does, after]) =>
  expect(decide(before, look, rule)).toEqual({ does, idle: after }),
)

test('a day of looks with gaps that are too long never puts a machine to sleep', () => {
  let state: Idle | null = null
  for (let look = 0; look < 300; look += 1) {
    const verdict = decide(state, { used: false, passedMs: MAX_GAP_MS + 1 }, hour)
    expect(verdict.does).toBe('nothing')
    state = verdict.idle
  }
})

const rest = { sessions: 0, connections: 0, load: 0.05 }
const nobody = { hasAgent: false, hasOperation: false }
test.for([
  ['nothing', rest, nobody, false],
  ['a login or a forwarding', { ...rest, sessions: 1 }, nobody, true],
  ['a connection to a port of its project', { ...rest, connections: 2 }, nobody, true],
  ['load', { ...rest, load: 0.9 }, nobody, true],
  ['an agent', rest, { ...nobody, hasAgent: true }, true],
  ['an operation', rest, { ...nobody, hasOperation: true }, true],
] as const)('%s: whether it is used', ([, guest, host, expected]) => expect(isUsed(guest, host)).toBe(expected))
