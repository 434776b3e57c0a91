import { expect, onTestFinished, test } from 'vitest'
import { openOutcomes } from '../../../src/bot/runners/outcomes.ts'
import type { Action } from '../../../src/schema/action.ts'
import type { Outcome } from '../../../src/schema/outcome.ts'
import type { HeartbeatRequest } from '../../../src/schema/runner-protocol.ts'
import type { ActionRow, Message } from '../../../src/store/port.ts'
import { openMemory } from '../../../src/store/sqlite/memory.ts'
import { environmentOf } from '../stage.ts'

const start = Date.parse('2026-11-24T10:00:00Z')
const stage = ({ toJira = true } = {}) => {
  let now = start
  const clock = () => now
  const memory = openMemory(':memory:', clock)
  onTestFinished(() => memory.close())
  const { onOutcome, onHeartbeat } = openOutcomes({ memory, toJira, secrets: ['hunter22'], clock })
  const keys = (messages: Message[]) => messages.map(one => one.key)
  return {
    memory,
    pass: (ms: number) => {
      now += ms
    },
    outcome: (action: Action, outcome: Outcome, id = 'github:d:0') => onOutcome(rowOf(action, id), outcome),
    heard: (environments: HeartbeatRequest['environments'], runnerId = 'runner-1') =>
      keys(
        onHeartbeat({
          runnerId,
          host: 'studio',
          version: '0.1.0',
          providers: [{ name: 'synthetic', live: true }],
          environments,
        }),
      ),
    keys,
  }
}
const rowOf = (action: Action, id: string): ActionRow => ({
  id,
  action,
  correlation: 'd',
  seq: 1,
  state: 'active',
  attempt: 1,
  runnerId: 'runner-1',
  leaseUntil: null,
  progress: null,
  createdAt: start,
  notBefore: 0,
  outcome: null,
})
const by = { via: 'github', who: 'dev' } as const
const replyTo = { repo: 'acme/shop', number: 7, commentId: 500, line: 0 }
const asked = (kind: 'create' | 'start' | 'stop' | 'status', to: Action['replyTo'] = null): Action => ({
  kind,
  ticket: 'DROP-1',
  by,
  replyTo: to,
})
const remove: Action = { kind: 'delete', force: false, ticket: 'DROP-1', by, replyTo: null }
const running = environmentOf('DROP-1', { observedAt: '2026-11-24T10:00:00.000Z' })
const done = (environment: typeof running | null = running): Outcome => ({
  result: 'done',
  summary: 'done',
  environment,
  seconds: 1,
})
const failed = (kind: 'capacity' | 'unsaved-work', message = 'no'): Outcome => ({
  result: 'failed',
  failure: { kind, message, remedy: null },
  environment: null,
})

test.for([
  ['a create of Jira', asked('create'), done(), ['status:DROP-1', 'jira:ready:as-drop-1-1a2b3c4d']],
  [
    'a create by a command',
    asked('create', replyTo),
    done(),
    ['reply:acme/shop:500', 'reaction:acme/shop:500:done', 'status:DROP-1', 'jira:ready:as-drop-1-1a2b3c4d'],
  ],
  ['a failed create of Jira', asked('create'), failed('capacity'), ['jira:failed:github:d:0']],
  [
    'a failed create by a command, whose asker is answered',
    asked('create', replyTo),
    failed('capacity'),
    ['reply:acme/shop:500', 'reaction:acme/shop:500:done'],
  ],
  ['a delete that kept the machine', remove, failed('unsaved-work'), ['jira:failed:github:d:0']],
  [
    'a delete that saved work first',
    remove,
    { ...done(null), rescued: 'its unsaved work is kept in ~/x' },
    ['jira:kept:github:d:0'],
  ],
  ['a delete that had nothing to save', remove, done(null), []],
  ['a failed stop, which needs nobody', asked('stop'), failed('capacity'), []],
  ['a start that is done', asked('start'), done(), ['status:DROP-1']],
] as [string, Action, Outcome, string[]][])('who is told of %s', ([, action, outcome, expected]) => {
  const { outcome: tell, keys, memory } = stage()
  if (action.replyTo !== null) memory.heardCommand(action.replyTo, { actionId: 'github:d:0', action })
  expect(keys(tell(action, outcome))).toEqual(expected)
})

test('without Jira nothing is told there', () => {
  const { outcome, keys } = stage({ toJira: false })
  expect(keys(outcome(asked('create'), done()))).toEqual(['status:DROP-1'])
})

test('a comment with several commands gets its last reaction when all are done, and it tells of the worst', () => {
  const { outcome, memory } = stage()
  const [first, second] = [asked('start', replyTo), asked('stop', { ...replyTo, line: 1 })]
  memory.heardCommand(replyTo, { actionId: 'a', action: first })
  memory.heardCommand({ ...replyTo, line: 1 }, { actionId: 'b', action: second })
  const reactions = (messages: Message[]) =>
    messages.flatMap(one => (one.body.kind === 'reaction' ? one.body.content : []))
  expect(reactions(outcome(first, failed('capacity'), 'a'))).toEqual([])
  expect(reactions(outcome(second, done(), 'b'))).toEqual(['confused'])
})

test('a secret in the message of a failure is read by nobody', () => {
  const { outcome, memory } = stage()
  memory.heardCommand(replyTo, { actionId: 'a', action: asked('create', replyTo) })
  const messages = outcome(asked('create', replyTo), failed('capacity', 'curl -u dev:hunter22 failed'), 'a')
  expect(JSON.stringify([messages, memory.commandsOf(replyTo), memory.operations('DROP-1')])).not.toContain('hunter22')
})

test('a heartbeat is news when a reader would see a difference', () => {
  const { heard } = stage()
  expect(heard([running])).toEqual(['status:DROP-1'])
  expect(heard([{ ...running, observedAt: '2026-11-24T10:00:05.000Z' }])).toEqual([])
  expect(heard([{ ...running, status: 'stopped', observedAt: '2026-11-24T10:00:10.000Z' }])).toEqual(['status:DROP-1'])
})

test('a heartbeat that is older than an outcome does not take it back', () => {
  const { heard, outcome, memory } = stage()
  heard([running])
  const stopped = { ...running, status: 'stopped', observedAt: '2026-11-24T10:00:10.000Z' } as const
  outcome(asked('stop'), done(stopped))
  expect(heard([{ ...running, observedAt: '2026-11-24T10:00:09.000Z' }])).toEqual([])
  expect(memory.environment('DROP-1')?.status).toBe('stopped')
})

test('what a runner sees after its clock was put right counts, though it saw something later before', () => {
  const { heard, memory, pass } = stage()
  heard([{ ...running, observedAt: '2026-11-24T11:00:00.000Z' }])
  pass(5_000)
  const stopped = { ...running, status: 'stopped', observedAt: '2026-11-24T10:00:05.000Z' } as const
  expect(heard([stopped])).toEqual(['status:DROP-1'])
  expect(memory.environment('DROP-1')?.status).toBe('stopped')
})

test('a machine is gone when two heartbeats have it not: the first may have been put together before it was made', () => {
  const { heard, outcome, memory } = stage()
  heard([])
  outcome(asked('create'), done())
  expect(heard([])).toEqual([])
  expect(memory.ticket('DROP-1').endedSinceNew).toBe(false)
  expect(heard([running])).toEqual([])
  heard([])
  expect(heard([])).toEqual(['status:DROP-1'])
  expect(memory.environment('DROP-1')).toBeNull()
  expect(memory.ticket('DROP-1').endedSinceNew).toBe(true)
})

test('what one runner does not have is no news about what another has', () => {
  const { heard, memory } = stage()
  heard([running], 'runner-1')
  heard([], 'runner-2')
  heard([], 'runner-2')
  expect(memory.environment('DROP-1')).not.toBeNull()
})

test('a deleted machine does not come back with a heartbeat that was on its way, and a new one of the ticket does', () => {
  const { heard, outcome, memory } = stage()
  heard([running])
  outcome(remove, done(null))
  expect(heard([running])).toEqual([])
  expect(memory.environment('DROP-1')).toBeNull()
  const next = { ...running, vmId: 'as-drop-1-99999999', observedAt: '2026-11-24T11:00:00.000Z' }
  expect(heard([next])).toEqual(['status:DROP-1'])
  expect(memory.environment('DROP-1')?.vmId).toBe('as-drop-1-99999999')
})

test('a failure that tells of no environment is no evidence that there is none', () => {
  const { heard, outcome, memory } = stage()
  heard([running])
  outcome(asked('stop'), failed('capacity'))
  expect(memory.environment('DROP-1')).not.toBeNull()
})

test('a runner that was away and is back is news for the tickets that it has', () => {
  const { heard, pass, memory } = stage()
  heard([running])
  pass(60_000)
  expect(memory.runners()).toMatchObject([{ id: 'runner-1', connected: false }])
  expect(heard([running])).toEqual(['status:DROP-1'])
  expect(memory.runners()).toMatchObject([{ connected: true }])
})

test.for([
  ['never ended', [], false],
  ['ended', [['ended', 5]], true],
  [
    'back to new after it',
    [
      ['ended', 5],
      ['new', 6],
    ],
    false,
  ],
  [
    'new before it, told late',
    [
      ['ended', 5],
      ['new', 4],
    ],
    true,
  ],
  [
    'ended once more',
    [
      ['ended', 5],
      ['new', 6],
      ['ended', 7],
    ],
    true,
  ],
  [
    'an older end, told late',
    [
      ['new', 6],
      ['ended', 5],
    ],
    false,
  ],
  [
    'other categories',
    [
      ['ended', 5],
      ['indeterminate', 6],
      ['done', 7],
    ],
    true,
  ],
] as [string, ['ended' | 'new' | 'indeterminate' | 'done', number][], boolean][])(
  'whether the last environment ended since the ticket was new: %s',
  ([, events, expected]) => {
    const { memory } = stage()
    for (const [what, at] of events) {
      if (what === 'ended') memory.ended('DROP-1', at)
      else memory.sawCategory('DROP-1', what, at)
    }
    expect(memory.ticket('DROP-1').endedSinceNew).toBe(expected)
  },
)

test('what is old and over is forgotten, what waits is kept', () => {
  const { memory, pass, outcome } = stage()
  memory.heardCommand(replyTo, { actionId: 'a', action: asked('start', replyTo) })
  memory.heardCommand({ ...replyTo, commentId: 501 }, { actionId: 'b', action: asked('start', replyTo) })
  outcome(asked('start', replyTo), done(), 'a')
  pass(1_000)
  memory.purge(start + 1)
  expect(memory.commandsOf(replyTo)).toEqual([])
  expect(memory.commandsOf({ ...replyTo, commentId: 501 })).toHaveLength(1)
})

test('what a person asked for last is not forgotten', () => {
  const { memory } = stage()
  const stop = { ticket: 'DROP-1', kind: 'stop', by: { via: 'github', who: 'octocat' } } as const
  memory.noteAsked('a', { ...stop, kind: 'create' }, { at: 1, person: true })
  memory.noteAsked('b', stop, { at: 2, person: true })
  memory.noteAsked('c', { ...stop, kind: 'start', by: { via: 'jira', who: null } }, { at: 3, person: false })
  memory.noteAsked('d', { ...stop, kind: 'checkpoint' }, { at: 4, person: true })
  memory.purge(5)
  expect(memory.wish('DROP-1', 'people')?.kind).toBe('stop')
  expect(memory.wish('DROP-1', 'anything')?.kind).toBe('start')
  expect(['a', 'b', 'c', 'd'].map(memory.askedAt)).toEqual([null, 2, 3, null])
})
