import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Outcome } from '../../../src/schema/outcome.ts'
import { LEASE_MS, type Lease } from '../../../src/schema/runner-protocol.ts'
import { MAX_ATTEMPTS, MAX_WAIT_MS } from '../../../src/store/port.ts'
import {
  done,
  environmentOf,
  failure,
  heartbeatOf,
  MINUTE,
  offer,
  queued,
  request,
  status,
  timeAt,
  withFree,
} from '../fixtures.ts'
import { type Open, openStage } from './stage.ts'

const failing = (retry: boolean) => ({ failure, retry, environment: null, messages: [] })
const create = (id: string, ticket: string, machine: object = {}) => queued(id, 'create', ticket, { machine })

export const queueContract = (open: Open) => {
  describe('order', () => {
    test('an action is queued once, also after it has ended', async () => {
      const { store, add, claim } = await openStage(open)
      expect(await add(queued('1'), queued('1'))).toEqual(['added', 'duplicate'])
      const lease = await claim()
      expect(await store.queue.complete(lease.id, lease.token, done(), [])).toBe('ok')
      expect(await add(queued('1'))).toEqual(['duplicate'])
      expect(await store.queue.get('1')).toMatchObject({ state: 'done', outcome: done(), token: null })
      expect(await store.queue.get('2')).toBeNull()
    })

    test('actions of a ticket run one after the other, those of others do not wait', async () => {
      const { store, add, claim } = await openStage(open)
      await add(queued('1'), queued('2'), queued('3', 'stop', 'DROP-2'))
      const first = await claim()
      expect(first).toEqual({ ...queued('1'), attempt: 1, token: expect.stringMatching(/^\w{32}$/) })
      expect(await claim()).toMatchObject({ id: '3' })
      expect(await store.queue.claim('runner-1', offer)).toBeNull()
      await store.queue.complete(first.id, first.token, done(), [])
      expect(await claim()).toMatchObject({ id: '2' })
    })

    test('what an event asks for while a fork makes attempts holds for them, and they are its runner’s', async () => {
      const { store, add, claim } = await openStage(open)
      const by = (cause?: 'merge' | 'command') => ({
        by: { via: 'github' as const, who: 'dev', ...(cause === undefined ? {} : { cause }) },
      })
      await add(queued('1', 'fork', 'DROP-1', { count: 2, from: null }))
      const { id, token } = await claim()
      await add(
        queued('2', 'stop', 'DROP-1', by('command')),
        queued('3', 'delete', 'DROP-1', { force: false, ...by('merge') }),
        // For the machine that a promote makes the ticket's.
        queued('4', 'delete', 'DROP-1', { force: false, promoted: 1, ...by('merge') }),
      )
      // A runner names the attempts, and may name no other ticket.
      const attempts = ['DROP-1~1', 'DROP-1~2', 'DROP-2~1', 'DROP-1'].map(ticket => ({
        ...{ ticket, vmId: 'as-a-1-0000000a', status: 'running' as const, branch: null, ssh: null },
      }))
      await store.queue.complete(id, token, { ...done(), attempts } as Outcome, [])
      expect(
        (await store.queue.list({ state: 'pending' })).map(row => [row.id, row.action.kind, row.action.ticket]),
      ).toEqual([
        ...[
          ['2', 'stop', 'DROP-1'],
          ['3', 'delete', 'DROP-1'],
          ['4', 'delete', 'DROP-1'],
        ],
        ...[
          ['3:DROP-1~1', 'delete', 'DROP-1~1'],
          ['3:DROP-1~2', 'delete', 'DROP-1~2'],
        ],
      ])
      expect(await store.queue.pinnedTo('DROP-1~1')).toBe('runner-1')
      expect(await store.queue.pinnedTo('DROP-2~1')).toBeNull()
    })

    test('an action that waits for its next attempt holds its ticket and no other', async () => {
      const { store, add, claim, pass } = await openStage(open)
      await add(queued('1'), queued('2'), queued('3', 'stop', 'DROP-2'))
      const first = await claim()
      expect(await store.queue.fail(first.id, first.token, failing(true))).toBe('retry')
      expect(await claim()).toMatchObject({ id: '3' })
      expect(await store.queue.claim('runner-1', offer)).toBeNull()
      pass(10 * MINUTE)
      expect(await claim()).toMatchObject({ id: '1', attempt: 2 })
    })

    test('an action that failed for good has an outcome and messages, and the next one runs', async () => {
      const { store, add, claim, messages } = await openStage(open)
      await add(queued('1'), queued('2'))
      const lease = await claim()
      const failed = { ...failing(false), messages: [status('DROP-1')] }
      expect(await store.queue.fail(lease.id, lease.token, failed)).toBe('dead')
      expect(await store.queue.get('1')).toMatchObject({ state: 'dead', outcome: { result: 'failed', failure } })
      expect(await messages()).toEqual(['status:DROP-1'])
      expect((await store.outbox.due(1))[0]?.correlation).toBe('1')
      expect(await claim()).toMatchObject({ id: '2' })
    })

    test('retries end, and the waits between them grow to five minutes at most', async () => {
      const { store, add, claim, pass, now, messages } = await openStage(open)
      await add(queued('1'))
      const waits: number[] = []
      for (let attempt = 1; attempt < MAX_ATTEMPTS; attempt += 1) {
        const { token } = await claim()
        expect(await store.queue.fail('1', token, { ...failing(true), messages: [status('DROP-1')] })).toBe('retry')
        waits.push(((await store.queue.get('1'))?.notBefore ?? 0) - now())
        pass(10 * MINUTE)
      }
      expect([...waits].sort((a, b) => a - b)).toEqual(waits)
      expect(waits[0]).toBeGreaterThan(0)
      expect(waits.at(-1)).toBeLessThanOrEqual(5 * MINUTE)
      expect(await messages()).toEqual([])
      const { token } = await claim()
      expect(await store.queue.fail('1', token, { ...failing(true), messages: [status('DROP-1')] })).toBe('dead')
      expect(await messages()).toEqual(['status:DROP-1'])
      expect(await store.counts()).toMatchObject({ pending: 0, active: 0 })
      expect(await store.queue.get('1')).toMatchObject({ state: 'dead' })
    })

    test('an action that waits longer than MAX_WAIT_MS waits for a clock that was set back, and runs', async () => {
      const { store, add, claim, pass } = await openStage(open)
      await add(queued('1'))
      const { token } = await claim()
      await store.queue.fail('1', token, failing(true))
      pass(-MAX_WAIT_MS)
      expect(await claim()).toMatchObject({ id: '1', attempt: 2 })
    })

    test('only pending actions can be cancelled or rejected; that ends their requests', async () => {
      const { store, add, claim, decide, messages } = await openStage(open)
      await add(queued('1'))
      await decide({
        actions: [queued('2'), queued('3')],
        requests: ['2', '3'].map(id => request(id, queued(id).action)),
      })
      await claim()
      const cancelled = []
      for (const id of ['1', '2', '4']) cancelled.push(await store.queue.cancel(id))
      expect(cancelled).toEqual(['too-late', 'cancelled', 'too-late'])
      const rejected = []
      for (const id of ['1', '3', '3', '4'])
        rejected.push(await store.queue.reject(id, failure, [status(`DROP-${id}`)]))
      expect(rejected).toEqual(['too-late', 'dead', 'too-late', 'too-late'])
      expect(await store.queue.get('3')).toMatchObject({ state: 'dead', outcome: { result: 'failed', failure } })
      expect(await messages()).toEqual(['status:DROP-3'])
      expect((await store.requests.get('2'))?.ended).toMatchObject({ ok: false, outcome: null })
      expect((await store.requests.get('3'))?.ended).toMatchObject({ ok: false, outcome: { result: 'failed' } })
      expect((await store.queue.list({ ticket: 'DROP-1', state: 'cancelled' })).map(({ id }) => id)).toEqual(['2'])
    })
  })

  describe('leases', () => {
    test('the holder of a lost lease can neither renew, complete nor fail the action', async () => {
      const { store, add, claim, pass, messages } = await openStage(open)
      await add(queued('1'))
      const lost = await claim()
      expect(await store.queue.expired()).toEqual([])
      pass(LEASE_MS + 1)
      const [expired] = await store.queue.expired()
      expect(expired).toMatchObject({ id: '1', token: lost.token, runnerId: 'runner-1' })
      expect(await store.queue.giveBack('1', lost.token)).toBe('ok')
      expect(await store.queue.giveBack('1', lost.token)).toBe('lost')
      const holder = await claim()
      expect(holder).toMatchObject({ id: '1', attempt: 2 })
      expect(await store.queue.renew('1', lost.token, null)).toBe('lost')
      expect(await store.queue.complete('1', lost.token, done(environmentOf('DROP-1')), [status('DROP-1')])).toBe(
        'lost',
      )
      expect(await store.queue.fail('1', lost.token, failing(true))).toBe('lost')
      expect(await store.queue.fail('1', lost.token, { ...failing(false), messages: [status('DROP-1')] })).toBe('lost')
      expect(await store.queue.giveBack('1', lost.token)).toBe('lost')
      expect(await messages()).toEqual([])
      expect(await store.runners.environment('DROP-1')).toBeNull()
      expect(await store.queue.complete('1', holder.token, done(), [])).toBe('ok')
      expect(await store.queue.complete('1', holder.token, done(), [])).toBe('lost')
    })

    test('a renewed lease holds, and keeps the progress', async () => {
      const { store, add, claim, pass } = await openStage(open)
      await add(queued('1'))
      const { token } = await claim()
      for (const phase of ['clone', 'boot', 'ssh']) {
        pass(LEASE_MS - 1)
        expect(await store.queue.renew('1', token, { phase, at: timeAt(0) })).toBe('ok')
        expect(await store.queue.expired()).toEqual([])
      }
      expect(await store.queue.renew('1', token, null)).toBe('ok')
      expect(await store.queue.get('1')).toMatchObject({ progress: { phase: 'ssh' }, runnerId: 'runner-1' })
      await store.queue.giveBack('1', token)
      expect(await store.queue.get('1')).toMatchObject({ progress: null, state: 'pending', token: null })
    })

    test('a lease from before the clock was set back has run out', async () => {
      const { store, add, claim, pass } = await openStage(open)
      await add(queued('1'))
      await claim()
      pass(-MAX_WAIT_MS)
      expect(await store.queue.expired()).toMatchObject([{ id: '1' }])
    })
  })

  describe('which runner takes an action', () => {
    test.for([
      ['was deleted', true],
      ['was never known', false],
    ] as const)(
      'a promote goes to the runner of its attempt when the machine of the ticket %s',
      async ([, wasKnown]) => {
        const { store, add, claim } = await openStage(open)
        const attempt = environmentOf('DROP-1~2')
        await store.runners.heartbeat(heartbeatOf(wasKnown ? [environmentOf('DROP-1'), attempt] : [attempt]))
        for (let n = 0; n < 2; n += 1) await store.runners.heartbeat(heartbeatOf([attempt]))
        expect(await store.queue.pinnedTo('DROP-1')).toBeNull()
        await add(queued('1', 'promote', 'DROP-1', { attempt: 2 }), queued('2', 'delete'))
        expect(await store.queue.claim('runner-2', offer)).toBeNull()
        const promote = await claim('runner-1')
        expect(promote).toMatchObject({ id: '1' })
        await store.queue.complete(promote.id, promote.token, done(environmentOf('DROP-1')), [])
        expect(await store.runners.environment('DROP-1')).toMatchObject({ goneAt: null })
        expect(await store.queue.claim('runner-2', offer)).toBeNull()
        expect(await claim('runner-1')).toMatchObject({ id: '2' })
      },
    )

    test('a create pins its ticket: what follows goes to that runner alone', async () => {
      const { store, add, claim } = await openStage(open)
      await add(create('1', 'DROP-1'), queued('2'))
      const lease = await claim('runner-1')
      await store.queue.complete(lease.id, lease.token, done(environmentOf('DROP-1')), [])
      expect(await store.queue.pinnedTo('DROP-1')).toBe('runner-1')
      expect(await store.queue.claim('runner-2', offer)).toBeNull()
      expect(await claim('runner-1')).toMatchObject({ id: '2' })
      expect(await store.queue.pinnedTo('DROP-2')).toBeNull()
    })

    test('a create waits for room, and keeps the later actions of its ticket waiting, and no others', async () => {
      const { store, add, claim } = await openStage(open)
      await add(
        create('large', 'DROP-1', { memoryMiB: 8192 }),
        queued('after', 'stop', 'DROP-1'),
        create('small', 'DROP-2'),
        queued('other', 'stop', 'DROP-3'),
      )
      expect(await claim('runner-1', withFree(4096))).toMatchObject({ id: 'small' })
      expect(await claim('runner-1', withFree(1024))).toMatchObject({ id: 'other' })
      expect(await store.queue.claim('runner-1', withFree(4096))).toBeNull()
      expect(await store.queue.pinnedTo('DROP-1')).toBeNull()
      expect(await claim('runner-2', withFree(8192))).toMatchObject({ id: 'large' })
    })

    test('a create goes to a runner that has its base image and a hypervisor, within its limits', async () => {
      const { store, add, claim } = await openStage(open)
      await add(create('1', 'DROP-1', { baseImage: 'debian-13' }), create('2', 'DROP-2', { cpus: 16 }))
      expect(await store.queue.claim('runner-1', offer)).toBeNull()
      const without = { ...offer, defaults: { ...offer.defaults, provider: null } }
      expect(await store.queue.claim('runner-1', without)).toBeNull()
      const [kvm] = offer.providers
      const image = { ...offer, providers: kvm === undefined ? [] : [{ ...kvm, images: ['debian-13'] }] }
      expect(await claim('runner-2', image)).toMatchObject({ id: '1' })
      const large = { ...offer, limits: { ...offer.limits, cpus: 16 } }
      expect(await claim('runner-3', large)).toMatchObject({ id: '2' })
    })

    test('an action on an existing machine needs no room, and neither does a create of a ticket that has its machine', async () => {
      const { store, add, claim } = await openStage(open)
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1'), environmentOf('DROP-2')]))
      await add(create('1', 'DROP-1'), queued('2', 'start', 'DROP-2'))
      expect(await claim('runner-1', withFree(0))).toMatchObject({ id: '1' })
      expect(await claim('runner-1', withFree(0))).toMatchObject({ id: '2' })
    })

    test('many creates that do not fit keep nothing else waiting', async () => {
      const { store, add, claim } = await openStage(open)
      await add(
        ...Array.from({ length: 500 }, (_, n) => create(`large-${n}`, `DROP-${n + 1}`, { memoryMiB: 8000 + (n % 50) })),
        create('small', 'SHOP-1'),
      )
      expect(await claim('runner-1', withFree(4096))).toMatchObject({ id: 'small' })
      expect(await store.queue.claim('runner-1', withFree(4096))).toBeNull()
      expect(await claim('runner-1', offer)).toMatchObject({ id: 'large-0' })
    })
  })

  test('whatever runners do, actions of a ticket never overlap and end in their order', async () => {
    const steps = fc.array(
      fc.record({
        step: fc.constantFrom('add', 'add', 'claim', 'claim', 'complete', 'fail', 'retry', 'expire', 'cancel', 'stale'),
        n: fc.nat({ max: 8 }),
      }),
      { minLength: 10, maxLength: 60 },
    )
    await fc.assert(
      fc.asyncProperty(steps, async all => {
        const { store, add, pass } = await openStage(open)
        const leases: Lease[] = []
        const lost: Lease[] = []
        const ended: string[] = []
        let added = 0
        for (const { step, n } of all) {
          const lease = leases[n % Math.max(1, leases.length)]
          const drop = () => leases.splice(leases.indexOf(lease as Lease), 1)
          if (step === 'add') await add(queued(String(added++), 'stop', `DROP-${(n % 3) + 1}`))
          else if (step === 'claim') {
            const claimed = await store.queue.claim(`runner-${n % 2}`, offer)
            if (claimed !== null) leases.push(claimed)
          } else if (step === 'cancel') await store.queue.cancel(String(n))
          else if (step === 'expire') {
            pass(10 * MINUTE)
            for (const { id, token } of await store.queue.expired()) await store.queue.giveBack(id, token ?? '')
            lost.push(...leases.splice(0))
          } else if (step === 'stale') {
            for (const { id, token } of lost) expect(await store.queue.complete(id, token, done(), [])).toBe('lost')
          } else if (lease !== undefined) {
            drop()
            if (step === 'complete') expect(await store.queue.complete(lease.id, lease.token, done(), [])).toBe('ok')
            else expect(await store.queue.fail(lease.id, lease.token, failing(step === 'retry'))).not.toBe('lost')
            if ((await store.queue.get(lease.id))?.state !== 'pending') ended.push(lease.id)
          }
          const active = (await store.queue.list({ state: 'active' })).map(({ action }) => action.ticket)
          expect(new Set(active).size).toBe(active.length)
        }
        const ticketOf = new Map((await store.queue.list()).map(({ id, action }) => [id, action.ticket]))
        for (const ticket of new Set(ticketOf.values())) {
          const order = ended.filter(id => ticketOf.get(id) === ticket).map(Number)
          expect(order).toEqual([...order].sort((a, b) => a - b))
        }
      }),
      { numRuns: 25, seed: 11 },
    )
  })
}
