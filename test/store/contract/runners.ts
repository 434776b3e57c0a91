import { describe, expect, test } from 'vitest'
import type { AgentReport, Environment } from '../../../src/schema/environment.ts'
import { type Delivery, RUNNER_AWAY_MS } from '../../../src/store/port.ts'
import {
  delivery,
  dev,
  done,
  environmentOf,
  heartbeatOf,
  MINUTE,
  offer,
  queued,
  START,
  settlement,
  timeAt,
} from '../fixtures.ts'
import { type Open, openStage, type Stage } from './stage.ts'

const running = environmentOf('DROP-1')
const beats =
  ({ store }: Stage) =>
  async (environments: Environment[], more: Parameters<typeof heartbeatOf>[1] = {}) =>
    (await store.runners.heartbeat(heartbeatOf(environments, more))).changed
const statusOf = async ({ store }: Stage, ticket = 'DROP-1') => {
  const known = await store.runners.environment(ticket)
  return known === null || known.goneAt !== null ? null : known.environment.status
}
/** Runs an action of DROP-1 to its end. */
const finish = async ({ store, add, claim }: Stage, kind: 'stop' | 'create' | 'delete', outcome = done()) => {
  await add(queued(`${kind}-${Math.random()}`, kind))
  const { id, token } = await claim()
  await store.queue.complete(id, token, outcome, [])
}

export const runnersContract = (open: Open) => {
  describe('heartbeats', () => {
    test('a heartbeat is news when a reader would see a difference, and puts the status message', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      expect(await beat([running])).toEqual(['DROP-1'])
      expect(await stage.messages()).toEqual(['status:DROP-1'])
      expect(await beat([{ ...running, observedAt: timeAt(5) }])).toEqual([])
      expect(await beat([{ ...running, status: 'stopped', observedAt: timeAt(10) }])).toEqual(['DROP-1'])
      expect(await stage.store.runners.withMachine()).toEqual(['DROP-1'])
    })

    test('a partial heartbeat says nothing of what it does not name; what it names is gone the second time', async () => {
      const stage = await openStage(open)
      const { store } = stage
      const beat = beats(stage)
      const partial = (changed: Environment[], gone: { ticket: string; vmId: string }[], runnerId = 'runner-1') =>
        beat([], { runnerId, environments: undefined, changes: { follows: 'x', changed, gone } })
      const other = environmentOf('DROP-2')
      await beat([running, other])
      expect(await partial([], [])).toEqual([])
      expect(await partial([], [])).toEqual([])
      expect(await store.runners.withMachine()).toEqual(['DROP-1', 'DROP-2'])
      // Another runner frees nothing, and neither does the name of a former machine.
      for (let n = 0; n < 2; n += 1) {
        await partial([], [running, other], 'runner-2')
        await partial([], [{ ticket: 'DROP-1', vmId: 'a-former-one' }])
      }
      expect(await store.runners.withMachine()).toEqual(['DROP-1', 'DROP-2'])
      expect(await store.queue.pinnedTo('DROP-1')).toBe('runner-1')
      expect(await partial([{ ...other, status: 'stopped', observedAt: timeAt(5) }], [running])).toEqual(['DROP-2'])
      expect(await partial([], [running])).toEqual(['DROP-1'])
      expect(await store.runners.withMachine()).toEqual(['DROP-2'])
      expect(await store.queue.pinnedTo('DROP-1')).toBe(null)
    })

    test('a machine that is lost, or paused, is told on the ticket once', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      await beat([running])
      const paused = { ...running, paused: 'disk full' }
      await beat([{ ...paused, observedAt: timeAt(5) }])
      await beat([{ ...paused, observedAt: timeAt(10) }])
      expect(await stage.messages()).toEqual([
        `jira:paused:${running.vmId}:disk full:${timeAt(5).slice(0, 10)}`,
        'status:DROP-1',
      ])
      await beat([{ ...running, status: 'lost', observedAt: timeAt(15) }])
      await beat([{ ...running, status: 'lost', observedAt: timeAt(20) }])
      expect(await stage.messages()).toContain(`jira:lost:${running.vmId}`)
      expect(await stage.messages()).toHaveLength(3)
    })

    test('the ticket says once that the hypervisor takes a machine back, that it did, and that it runs again', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      const { vmId } = running
      await beat([running])
      const announced = { state: 'announced', by: 'AWS', cause: 'no room', next: 'it comes back' } as const
      const taken = { ...announced, state: 'stopped' } as const
      const stopped = { ...running, status: 'stopped', ssh: null } as const
      await beat([{ ...running, interruption: announced, observedAt: timeAt(5) }])
      await beat([{ ...running, interruption: announced, observedAt: timeAt(10) }])
      // An action's report says nothing of it.
      await beat([{ ...running, observedAt: timeAt(12) }])
      await beat([{ ...running, interruption: announced, observedAt: timeAt(14) }])
      await beat([{ ...stopped, interruption: taken, observedAt: timeAt(15) }])
      await beat([{ ...running, observedAt: timeAt(20) }])
      const hour = timeAt(5).slice(0, 13)
      expect((await stage.messages()).filter(key => key.startsWith('jira:'))).toEqual(
        ['announced', 'stopped', 'over'].map(state => `jira:interruption:${vmId}:${state}:${hour}`),
      )
    })

    test('the ticket says once that nobody uses a machine, that it sleeps, and that it is awake again', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      const { vmId } = running
      await beat([running])
      const warned = { state: 'warned', since: timeAt(1), becomes: 'saved', at: timeAt(60), reason: null } as const
      await beat([{ ...running, idle: warned, observedAt: timeAt(5) }])
      await beat([{ ...running, idle: warned, observedAt: timeAt(10) }])
      const notes = async () => (await stage.messages()).filter(key => key.startsWith('jira:')).toSorted()
      expect(await notes()).toEqual([`jira:idle:${vmId}:warned:saved:${timeAt(1)}`])
      const asleep = { ...running, status: 'stopped', ssh: null, idle: { state: 'saved', at: timeAt(12) } } as const
      await beat([{ ...asleep, observedAt: timeAt(15) }])
      await beat([{ ...asleep, observedAt: timeAt(20) }])
      await beat([{ ...running, observedAt: timeAt(25) }])
      await beat([{ ...running, observedAt: timeAt(30) }])
      expect(await notes()).toEqual([
        `jira:idle:${vmId}:awake:${timeAt(12)}`,
        `jira:idle:${vmId}:saved:${timeAt(12)}`,
        `jira:idle:${vmId}:warned:saved:${timeAt(1)}`,
      ])
      const stays = { ...warned, becomes: 'left running', at: null, reason: 'no room' } as const
      await beat([{ ...running, idle: warned, observedAt: timeAt(35) }])
      await beat([{ ...running, idle: stays, observedAt: timeAt(40) }])
      expect(await notes()).toContain(`jira:idle:${vmId}:warned:left running:${timeAt(1)}`)
    })

    test('a machine that a runner reports as lost at once is no news', async () => {
      const stage = await openStage(open)
      await beats(stage)([{ ...running, status: 'lost' }])
      expect(await stage.messages()).toEqual(['status:DROP-1'])
    })

    const agent: AgentReport = {
      ...{ use: 'claude', run: '0a1b2c3d', state: 'running', startedAt: timeAt(0), endedAt: null, result: null },
      ...{ reason: null, summary: null, turns: 1, tokens: 2, usd: null, rounds: 0, pullRequest: 'draft' },
    }
    const ended: AgentReport = { ...agent, state: 'ended', result: 'done', endedAt: timeAt(5) }
    const pushed = (commit: string) => ({ repo: 'acme/shop', branch: 'DROP-1-x', commit, byAgent: true, at: timeAt(1) })
    const reports = async ({ store }: Stage) =>
      (await store.inbox.list([{ word: 'runner', lanes: [] }], 50)).map(({ id }) => id).reverse()

    test('what a report says for the first time is a delivery, once, whether it comes with a heartbeat or an outcome', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      await beat([{ ...running, agent, pushes: [pushed('aaaaaaa')] }])
      expect(await reports(stage)).toEqual(['push:DROP-1:acme/shop:DROP-1-x:aaaaaaa'])
      const all = { ...running, agent: ended, pushes: [pushed('aaaaaaa'), pushed('bbbbbbb')], observedAt: timeAt(10) }
      await finish(stage, 'stop', done(all))
      const ids = ['aaaaaaa', 'bbbbbbb'].map(commit => `push:DROP-1:acme/shop:DROP-1-x:${commit}`)
      expect(await reports(stage)).toEqual([...ids, 'run:DROP-1:0a1b2c3d:ended'])
      // Decided without an effect, or long ago and forgotten: the same report is no news.
      for (let due = await stage.store.inbox.due(5); due.length > 0; due = await stage.store.inbox.due(5))
        await stage.store.inbox.settle(due.map(({ seq }) => ({ seq, ...settlement({ verdict: 'ignored' }) })))
      await beat([{ ...all, observedAt: timeAt(15) }])
      expect((await stage.store.counts()).inbox).toBe(0)
      stage.pass(MINUTE)
      await stage.store.purge({ queueBefore: stage.now(), knowledgeBefore: 0, payloadBytes: 0 })
      await beat([{ ...all, observedAt: timeAt(20) }])
      expect(await reports(stage)).toEqual([])
      await beat([{ ...all, agent: { ...ended, run: 'ffffffff' }, observedAt: timeAt(25) }])
      expect(await reports(stage)).toEqual(['run:DROP-1:ffffffff:ended'])
    })

    test('a runner that reports pushes and ends without end has 300 of them heard in a day', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      for (let n = 0; n < 30; n += 1) {
        const pushes = Array.from({ length: 20 }, (_, at) => pushed((0xaaaaaaa + n * 20 + at).toString(16)))
        const run = (0x10000000 + n).toString(16)
        await beat([{ ...running, agent: { ...ended, run }, pushes, observedAt: timeAt(10 + n) }])
      }
      expect((await stage.store.counts()).inbox).toBe(300)
      // Another ticket's are heard.
      await beat([{ ...running, ticket: 'DROP-12', vmId: 'as-drop-12-00000001', agent: ended, observedAt: timeAt(60) }])
      expect((await stage.store.counts()).inbox).toBe(301)
      stage.pass(25 * 60 * MINUTE)
      await beat([{ ...running, agent: { ...ended, run: 'ffffffff' }, observedAt: timeAt(90_000) }])
      expect((await stage.store.counts()).inbox).toBe(302)
    })

    test('what another runner says of a machine that is not its own makes no delivery', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      await beat([running])
      await beat([{ ...running, agent: ended, pushes: [pushed('aaaaaaa')] }], { runnerId: 'runner-2' })
      expect(await reports(stage)).toEqual([])
    })

    test('a ticket that got another key makes no second delivery of what was told under the first', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      const report = { ...running, agent: ended, pushes: [pushed('aaaaaaa')] }
      await beat([report])
      await stage.effects({ kind: 'rename-ticket', from: 'DROP-1', to: 'WEB-7' })
      await beat([{ ...report, observedAt: timeAt(5) }])
      await beat([{ ...report, ticket: 'WEB-7', observedAt: timeAt(9) }])
      expect(await reports(stage)).toHaveLength(2)
    })

    test('a heartbeat that is older than an outcome does not undo it', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      await beat([running])
      await finish(stage, 'stop', done({ ...running, status: 'stopped', observedAt: timeAt(10) }))
      expect(await beat([{ ...running, observedAt: timeAt(9) }])).toEqual([])
      expect(await statusOf(stage)).toBe('stopped')
    })

    test('a report counts that was made after a fast clock was set right', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      await beat([{ ...running, observedAt: timeAt(3600) }])
      stage.pass(5_000)
      expect(await beat([{ ...running, status: 'stopped', observedAt: timeAt(5) }])).toEqual(['DROP-1'])
      expect(await statusOf(stage)).toBe('stopped')
    })

    test('a machine is gone when two heartbeats lack it: the first may have been written before it was created', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      const { store } = stage
      await beat([])
      await finish(stage, 'create', done(running))
      expect(await beat([])).toEqual([])
      expect((await store.tickets.get('DROP-1')).endedSinceNew).toBe(false)
      expect(await beat([running])).toEqual([])
      expect(await beat([])).toEqual([])
      expect(await beat([])).toEqual(['DROP-1'])
      expect(await beat([])).toEqual([])
      expect(await store.runners.environment('DROP-1')).toMatchObject({ environment: running, goneAt: START })
      expect(await store.runners.withMachine()).toEqual([])
      expect((await store.tickets.get('DROP-1')).endedSinceNew).toBe(true)
      // Nothing deleted it: it may come back.
      expect(await beat([running])).toEqual(['DROP-1'])
    })

    test('a machine that is gone ended when it was last seen: a move of its ticket may have come since', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      const { store } = stage
      await beat([running])
      stage.pass(5_000)
      await store.tickets.sawCategory('DROP-1', 'new', stage.now())
      stage.pass(5_000)
      await beat([])
      await beat([])
      expect((await store.tickets.get('DROP-1')).endedSinceNew).toBe(false)
    })

    test('what Jira told of a ticket, and was ignored because it seemed to have its machine, is due again', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      const { store } = stage
      const told = async (id: string, ticket: string, more: Partial<Delivery> = {}) => {
        const lane = `jira:${ticket}`
        await store.inbox.accept([
          { ...delivery(id, lane), source: 'jira', event: 'jira:issue_updated', receivedAt: stage.now(), ...more },
        ])
        const [taken] = await store.inbox.due(1)
        await stage.settle(taken, { verdict: 'ignored' })
      }
      await told('before', 'DROP-1')
      stage.pass(1_000)
      await beat([running])
      stage.pass(1_000)
      await told('move', 'DROP-1')
      await told('comment', 'DROP-1', { event: 'comment_created' })
      await told('first', 'DROP-1', { event: 'first look' })
      await told('other', 'DROP-2')
      await beat([])
      expect(await store.inbox.due(10)).toEqual([])
      await beat([])
      expect((await store.inbox.due(10)).map(({ id }) => id)).toEqual(['move'])
    })

    test('a machine that one runner lacks may be at another', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      await beat([running])
      for (const _ of [1, 2, 3]) await beat([], { runnerId: 'runner-2' })
      expect(await statusOf(stage)).toBe('running')
    })

    test('a deleted machine does not come back, also not after the ticket has a new one', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      await beat([running])
      await finish(stage, 'delete')
      expect(await beat([running])).toEqual([])
      expect(await statusOf(stage)).toBeNull()
      const next = { ...running, vmId: 'as-drop-1-99999999', observedAt: timeAt(3600) }
      expect(await beat([next])).toEqual(['DROP-1'])
      expect(await beat([{ ...running, observedAt: timeAt(7200) }])).toEqual([])
      expect((await stage.store.runners.environment('DROP-1'))?.environment.vmId).toBe(next.vmId)
    })

    test('a machine that was deleted while a heartbeat lacked it already does not come back either', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      await beat([running])
      for (const _ of [1, 2]) await beat([])
      await finish(stage, 'delete')
      expect(await beat([running])).toEqual([])
      expect(await statusOf(stage)).toBeNull()
    })

    test('a runner that was away and is back is news for its tickets', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      await beat([running])
      stage.pass(RUNNER_AWAY_MS)
      expect(await stage.store.runners.list()).toMatchObject([{ id: 'runner-1', connected: true }])
      stage.pass(1)
      expect(await stage.store.runners.list()).toEqual([
        { id: 'runner-1', host: 'studio', seenAt: START, connected: false, offer },
      ])
      expect(await beat([running])).toEqual(['DROP-1'])
      expect(await stage.store.runners.list()).toMatchObject([{ connected: true }])
    })

    test('the runner that was heard last comes first', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      await beat([])
      stage.pass(1_000)
      await beat([], { runnerId: 'runner-2', host: 'attic' })
      expect((await stage.store.runners.list()).map(({ host }) => host)).toEqual(['attic', 'studio'])
    })
  })

  describe('pins', () => {
    test('a ticket stays with the runner that has its machine, until that is gone and nothing is queued', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      const { store, add, claim } = stage
      await beat([running])
      expect(await store.queue.pinnedTo('DROP-1')).toBe('runner-1')
      await add(queued('1'))
      await beat([])
      expect(await store.queue.pinnedTo('DROP-1')).toBe('runner-1')
      const { token } = await claim()
      await beat([], { runnerId: 'runner-2' })
      await beat([])
      expect(await store.queue.pinnedTo('DROP-1')).toBe('runner-1')
      await store.queue.complete('1', token, done(), [])
      await beat([])
      expect(await store.queue.pinnedTo('DROP-1')).toBeNull()
    })

    test('a machine of a ticket that a connected other runner has is left out, and reported', async () => {
      const stage = await openStage(open)
      const { store } = stage
      await beats(stage)([running])
      const copy = { ...running, vmId: 'as-drop-1-99999999' }
      const manual = { id: 1, ticket: 'DROP-1', kind: 'delete', by: dev, at: timeAt(0) } as const
      const other = heartbeatOf([copy], { runnerId: 'runner-2', host: 'attic', manualOperations: [manual] })
      expect(await store.runners.heartbeat(other)).toEqual({
        changed: [],
        heldElsewhere: [{ ticket: 'DROP-1', vmId: copy.vmId, host: 'studio' }],
        tooMany: [],
        isUnsure: false,
      })
      expect(await store.queue.pinnedTo('DROP-1')).toBe('runner-1')
      expect(await store.requests.lastStateChange('DROP-1', 'anything')).toBeNull()
      stage.pass(RUNNER_AWAY_MS + 1)
      expect(await store.runners.heartbeat(other)).toEqual({
        changed: ['DROP-1'],
        heldElsewhere: [],
        tooMany: [],
        isUnsure: false,
      })
      expect(await store.runners.environment('DROP-1')).toMatchObject({ runnerId: 'runner-2', environment: copy })
      expect(await store.queue.pinnedTo('DROP-1')).toBe('runner-2')
    })
  })

  describe('manual operations', () => {
    const stop = { id: 4, ticket: 'DROP-1', kind: 'stop', by: { via: 'cli', who: 'tester' }, at: timeAt(-10) } as const
    /** A delete that is scheduled after an event at `at`. */
    const scheduled = (at: number) =>
      ({
        kind: 'schedule',
        ticket: 'DROP-1',
        delivery: delivery('c', 'clock', { source: 'clock', body: JSON.stringify({ at }), receivedAt: START + MINUTE }),
      }) as const

    test('an operation by hand is a request of a person, recorded once', async () => {
      const stage = await openStage(open)
      const beat = beats(stage)
      for (const _ of [1, 2]) await beat([], { manualOperations: [stop] })
      expect(await stage.store.requests.lastStateChange('DROP-1', 'person')).toEqual({
        ...{ id: 'cli:runner-1:4', at: START - 10_000, by: stop.by, person: true, place: 'cli', command: null },
        ...{ ticket: 'DROP-1', what: 'stop', verdict: 'allowed', reason: null, answer: null },
        action: { kind: 'stop', ticket: 'DROP-1', by: stop.by, replyTo: null, at: stop.at },
        ended: { at: START - 10_000, ok: true, outcome: null },
      })
      expect(await stage.store.requests.history('DROP-1', 9)).toEqual([])
      expect(await stage.store.requests.audit(null, 9)).toEqual([])
    })

    test('the reconciler deletes an attempt: people read where its work is, and nobody asked for it', async () => {
      const stage = await openStage(open)
      const outcome = { result: 'done', summary: 'Deleted', environment: null, seconds: 1, rescued: 'in ~/x' } as const
      const by = { via: 'clock', who: null } as const
      const deleted = { ...stop, ticket: 'DROP-1~2', kind: 'delete', by, force: false, outcome } as const
      expect(await beats(stage)([], { manualOperations: [deleted] })).toEqual([])
      expect(await stage.store.requests.lastStateChange('DROP-1~2', 'person')).toBeNull()
      const notes = (await stage.store.outbox.due(9)).flatMap(({ body }) => (body.kind === 'jira-note' ? [body] : []))
      expect(notes).toMatchObject([
        { ticket: 'DROP-1', note: { kind: 'deleted', action: { ticket: 'DROP-1~2' }, rescued: 'in ~/x' } },
      ])
    })

    test('a delete by hand is told in Jira once, with the work that was rescued, and not when it is long ago', async () => {
      const stage = await openStage(open)
      const outcome = { result: 'done', summary: 'Deleted', environment: null, seconds: 1, rescued: 'in ~/x' } as const
      const deleted = { ...stop, kind: 'delete', force: false, outcome } as const
      for (const _ of [1, 2])
        await beats(stage)([], {
          manualOperations: [
            deleted,
            { ...deleted, id: 5, ticket: 'DROP-2', at: timeAt(-25 * 3600) },
            // There was nothing to delete.
            { ...stop, id: 6, ticket: 'DROP-3', kind: 'delete' },
          ],
        })
      expect(await stage.store.requests.history('DROP-1', 9)).toMatchObject([
        { what: 'delete', by: stop.by, ended: { ok: true, outcome: { result: 'done', rescued: 'in ~/x' } } },
      ])
      const notes = (await stage.store.outbox.due(9)).flatMap(({ body }) => (body.kind === 'jira-note' ? [body] : []))
      expect(notes).toMatchObject([
        {
          ticket: 'DROP-1',
          note: {
            kind: 'deleted',
            action: { kind: 'delete', ticket: 'DROP-1', by: stop.by, force: false },
            rescued: 'in ~/x',
          },
        },
      ])
    })

    test.for([
      ['an event before it', START - 20_000, null],
      ['an event after it', START - 5_000, START + MINUTE],
    ] as const)('it cancels what is scheduled after %s', async ([, at, expected]) => {
      const stage = await openStage(open)
      await stage.effects(scheduled(at))
      expect(await beats(stage)([], { manualOperations: [stop] })).toEqual(expected === null ? ['DROP-1'] : [])
      expect(await stage.store.inbox.scheduledAt('DROP-1')).toBe(expected)
      expect(await stage.messages()).toEqual(expected === null ? ['status:DROP-1'] : [])
    })

    test('an operation that is known cancels nothing that is scheduled since', async () => {
      const stage = await openStage(open)
      await beats(stage)([], { manualOperations: [stop] })
      await stage.effects(scheduled(START - 20_000))
      await beats(stage)([], { manualOperations: [stop] })
      expect(await stage.store.inbox.scheduledAt('DROP-1')).toBe(START + MINUTE)
    })

    test('a fast clock makes no request in the future, and an invalid time makes no request at all', async () => {
      const stage = await openStage(open)
      await beats(stage)([], {
        manualOperations: [
          { ...stop, id: 5, at: timeAt(3600) },
          { ...stop, id: 6, ticket: 'DROP-2', at: 'soon' },
        ],
      })
      expect(await stage.store.requests.lastStateChange('DROP-1', 'person')).toMatchObject({ at: START })
      expect(await stage.store.requests.lastStateChange('DROP-2', 'person')).toBeNull()
    })
  })

  test('purge forgets runners without a machine that were not heard', async () => {
    const stage = await openStage(open)
    await beats(stage)([running])
    await beats(stage)([], { runnerId: 'runner-2', host: 'attic' })
    stage.pass(MINUTE)
    await stage.store.purge({ queueBefore: 0, knowledgeBefore: stage.now(), payloadBytes: 0 })
    expect((await stage.store.runners.list()).map(({ id }) => id)).toEqual(['runner-1'])
  })
}
