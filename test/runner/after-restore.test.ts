/** What is done to a guest whose memory came back: a stand-in guest over SSH, whose clock is wrong. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fail } from '../../src/errors.ts'
import type { Run } from '../../src/exec.ts'
import { parseAnswer, setRight } from '../../src/runner/after-restore.ts'
import { type Target, targetOf } from '../../src/runner/operation.ts'
import { actions, openTestContext, type TestContext } from '../support/context.ts'

let it: TestContext
beforeEach(async () => {
  it = await openTestContext()
  await it.do(actions.create('DROP-1'))
})
afterEach(() => it.close())

type Guest = {
  /** Seconds. */
  behind: number
  /** Whether `date -s` does anything. */
  settable?: boolean
  random?: string
  failed?: readonly string[]
  /** Of its identity. */
  lines?: readonly string[]
}
const MACHINE_ID = `machine-id ${'0a'.repeat(16)}`

/** The scripts that the guest got on its standard input, and what people are told. */
const restored = async (guest: Guest): Promise<{ told: string[]; scripts: string[] }> => {
  const { behind, settable = true, random = 'random reseeded', failed = [], lines: identity = [MACHINE_ID] } = guest
  let offset = behind
  const scripts: string[] = []
  const now = new Date('2026-11-29T02:31:12.460Z').getTime()
  it.context.clock = () => new Date(now)
  const run: Run = async (program, argv, { input = '', onLine = () => {} } = {}) => {
    expect(program).toBe('ssh')
    expect(argv.join(' ')).toMatch(/StrictHostKeyChecking=yes.* sudo -n sh -s$/)
    scripts.push(input)
    const moved = input.match(/\$1 \+ (-?[\d.]+)/)?.[1]
    if (moved !== undefined && settable) offset -= Number(moved)
    const clock = `clock ${(now / 1000 - offset).toFixed(3)}000000`
    const lines = moved === undefined ? [random, ...identity, ...failed.map(unit => `failed ${unit}`), clock] : [clock]
    for (const line of lines) onLine(line)
    return { stdout: `${lines.join('\n')}\n`, stderr: '', exitCode: 0, milliseconds: 0 }
  }
  it.context.run = run
  const caller = { actionId: null, correlation: null, signal: new AbortController().signal, onPhase: () => {} }
  const by = { via: 'cli', who: 'tester' } as const
  const target = await targetOf({ context: it.context, caller, id: 1, by }, 'DROP-1')
  const { runInGuest: _, ownSystem: __, ...provider } = target.provider
  const sshInfo = async () => ({ host: '192.0.2.1', port: 22, user: 'agent' })
  const machine: Target = { ...target, provider: { ...provider, sshInfo } }
  return { told: await setRight(machine), scripts }
}

test('a machine that is right: fresh random bytes go in on standard input, others each time, and nothing is reported', async () => {
  const [first, second] = [await restored({ behind: 0.2 }), await restored({ behind: 0 })]
  expect([first.told, second.told]).toEqual([[], []])
  const bytes = [first, second].map(({ scripts }) => scripts[0]?.match(/^fresh=([A-Za-z0-9+/=]+)$/m)?.[1] ?? '')
  expect(Buffer.from(bytes[0] ?? '', 'base64')).toHaveLength(256)
  expect(bytes[0]).not.toBe(bytes[1])
  expect(first.scripts).toHaveLength(1)
})

test.for([
  ['behind', 151.4, 'Its clock was 151.4 s behind, and was set over SSH'],
  ['ahead', -3600, 'Its clock was 3600.0 s ahead, and was set over SSH'],
] as const)('a clock that the guest agent left %s is set over SSH, and told', async ([, behind, told]) => {
  expect((await restored({ behind })).told).toEqual([told])
})

test('a clock that is off by almost a second is set without a word', async () => {
  const { told, scripts } = await restored({ behind: 0.95 })
  expect(told).toEqual([])
  expect(scripts).toHaveLength(2)
})

test('a clock that nothing can set, random numbers that are those of the checkpoint, and failed services are told', async () => {
  const failed = ['postgresql@15-main.service', 'evil\u001b[2J.service', 'redis-server.service']
  expect((await restored({ behind: 57, settable: false, random: 'random failed', failed })).told).toEqual([
    'Its clock is 57.0 s behind: neither the guest agent nor date over SSH could set it',
    'Its random numbers could not be made new: they may be those of another machine with this memory',
    'Failed services in it: postgresql@15-main.service, redis-server.service',
  ])
})

test('a machine without an identity of its own is reported, and so is one at the address of another', async () => {
  const { registry } = it.context
  await it.do(actions.create('DROP-2'))
  const at = { host: '192.0.2.1', port: 22, user: 'agent' }
  for (const ticket of ['DROP-1', 'DROP-2']) registry.setAddress(ticket, at)
  expect((await restored({ behind: 0, lines: ['machine-id none', 'name unknown'] })).told).toEqual([
    'It has no machine-id',
    'Its address 192.0.2.1 is that of DROP-2, too',
    'It cannot look its own host name up: see /etc/hosts in it',
  ])
  registry.setAddress('DROP-2', { ...at, port: 2222 })
  expect((await restored({ behind: 0 })).told).toEqual([])
})

test('a guest that does not do as asked is reported', async () => {
  const { context } = it
  context.run = async () => {
    throw fail('guest-unreachable', 'connection timed out')
  }
  const caller = { actionId: null, correlation: null, signal: new AbortController().signal, onPhase: () => {} }
  const target = await targetOf({ context, caller, id: 1, by: { via: 'cli', who: 'tester' } }, 'DROP-1')
  const { runInGuest: _, ownSystem: __, ...provider } = target.provider
  const sshInfo = async () => ({ host: '192.0.2.1', port: 22, user: 'agent' })
  expect(await setRight({ ...target, provider: { ...provider, sshInfo } })).toEqual([
    'Its clock and its random numbers may be those of the checkpoint: connection timed out',
  ])
  // A folder has the clock of this system.
  expect(await setRight(target)).toEqual([])
})

test.for<[string, string, object]>([
  ['no nanoseconds', 'clock 1000.%N', { behind: 500, isRight: true }],
  ['a second early', 'clock 998.5', { behind: 2_000, isRight: false }],
  ['within a second of the question', 'clock 999.1', { behind: 1_400, isRight: true }],
])("the guest's time lies between the host's, give or take a second: %s", ([, line, clock]) => {
  const times = { before: 1_000_000, heardAt: 1_000_500, after: 1_000_600 }
  expect(parseAnswer(`random reseeded\n${line}\n`, times)).toMatchObject({ clock, random: 'reseeded', failed: [] })
})

test('an answer that is none is no time', () => {
  const times = { before: 0, heardAt: 0, after: 0 }
  for (const output of ['', 'clock now', 'clock -5', 'random rubbish', `failed ${'x'.repeat(200)}`])
    expect(parseAnswer(output, times)).toEqual({
      ...{ clock: null, random: 'failed', failed: [], machineId: null, knowsItsName: true },
    })
})
