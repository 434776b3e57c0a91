import { describe, expect, test } from 'vitest'
import type { QueuedAction } from '../../../src/store/port.ts'
import { command, delivery, done, MINUTE, offer, queued, request, settlement, status } from '../fixtures.ts'
import { type Open, openStage } from './stage.ts'

export const settleContract = (open: Open) => {
  describe('settling', () => {
    const broken = { ...queued('2'), action: null } as unknown as QueuedAction

    test('a delivery leaves the inbox with everything that follows from it, or not at all', async () => {
      const { store, settle, messages } = await openStage(open)
      await store.inbox.accept([delivery('1')])
      const [first] = await store.inbox.due(1)
      const all = {
        actions: [queued('1')],
        messages: [status('DROP-1')],
        requests: [request('1', queued('1').action)],
        effects: [{ kind: 'change-reported', change: 'c1', delivery: '1' } as const],
      }
      await expect(settle(first, { ...all, actions: [queued('1'), broken] })).rejects.toThrow()
      expect(await store.queue.list()).toEqual([])
      expect(await messages()).toEqual([])
      expect(await store.requests.get('1')).toBeNull()
      expect(await store.tickets.reportedBy('c1')).toBeNull()
      expect(await store.counts()).toMatchObject({ inbox: 1 })
      // It is in progress still: whoever settles it may try again.
      await settle(first, all)
      expect(await store.queue.list()).toHaveLength(1)
      expect(await messages()).toEqual(['status:DROP-1'])
      expect(await store.requests.get('1')).toMatchObject({ id: '1', ended: null })
      expect(await store.tickets.reportedBy('c1')).toBe('1')
      expect((await store.outbox.due(1))[0]?.correlation).toBe('1')
    })

    test('several deliveries settle together or not at all', async () => {
      const { store } = await openStage(open)
      await store.inbox.accept([delivery('1'), delivery('2', 'b')])
      const [first, second] = (await store.inbox.due(2)).map(({ seq }) => seq)
      await expect(
        store.inbox.settle([
          { seq: first ?? 0, ...settlement({ actions: [queued('1')] }) },
          { seq: second ?? 0, ...settlement({ actions: [broken] }) },
        ]),
      ).rejects.toThrow()
      expect(await store.queue.list()).toEqual([])
      expect(await store.counts()).toMatchObject({ inbox: 2 })
    })

    test('a delivery has one effect, however often it is settled', async () => {
      const { store, settle, messages } = await openStage(open)
      await store.inbox.accept([delivery('1')])
      const [first] = await store.inbox.due(1)
      await settle(first, { actions: [queued('1')] })
      await settle(first, { actions: [queued('2')], messages: [status('DROP-1')] })
      await settle(undefined, { actions: [queued('3')] })
      expect((await store.queue.list()).map(({ id }) => id)).toEqual(['1'])
      expect(await messages()).toEqual([])
    })

    test('one delivery is scheduled for a ticket, and accepted once when it is due', async () => {
      const { store, effects, now, pass, due } = await openStage(open)
      const later = (id: string, minutes: number) =>
        delivery(id, 'clock:DROP-1', { source: 'clock', receivedAt: now() + minutes * MINUTE })
      await effects({ kind: 'schedule', ticket: 'DROP-1', delivery: later('1', 1) })
      await effects({ kind: 'schedule', ticket: 'DROP-1', delivery: later('2', 5) })
      await effects({ kind: 'schedule', ticket: 'DROP-2', delivery: later('3', 5) })
      expect(await store.inbox.scheduledAt('DROP-1')).toBe(now() + 5 * MINUTE)
      const merged = { ...later('4', 5), body: JSON.stringify({ at: now() }) }
      await effects({ kind: 'schedule', ticket: 'DROP-2', delivery: merged })
      // What was asked for before the merge does not cancel its delete.
      await effects({ kind: 'unschedule', ticket: 'DROP-2', before: now() - 1 })
      expect(await store.inbox.scheduledAt('DROP-2', now() - 1)).toBeNull()
      expect(await store.inbox.scheduledAt('DROP-2', now() + 1)).toBe(now() + 5 * MINUTE)
      await effects({ kind: 'unschedule', ticket: 'DROP-2', before: now() + 1 })
      expect(await store.inbox.scheduledAt('DROP-2')).toBeNull()
      expect(await store.inbox.acceptScheduled(now() + MINUTE)).toBe(0)
      pass(5 * MINUTE)
      expect(await store.inbox.acceptScheduled(now())).toBe(1)
      expect(await store.inbox.acceptScheduled(now())).toBe(0)
      expect(await store.inbox.scheduledAt('DROP-1')).toBeNull()
      expect(await store.inbox.due(9)).toMatchObject([{ source: 'clock', id: '2', receivedAt: now() }])
      expect(await due()).toEqual([])
    })

    test('an event cancels older deletes that wait and that no command asked for', async () => {
      const { store, effects, add, decide, claim } = await openStage(open)
      const at = '2026-11-24T09:00:00.000Z'
      await add(queued('running', 'delete', 'DROP-2', { at }))
      await claim()
      await decide({
        actions: [queued('old', 'delete', 'DROP-1', { at })],
        requests: [request('old', queued('old', 'delete').action)],
      })
      await add(
        queued('by-command', 'delete', 'DROP-1', {
          at,
          replyTo: { repo: 'acme/shop', number: 7, commentId: 1, line: 0 },
        }),
        queued('later', 'delete', 'DROP-1', { at: '2026-11-24T11:00:00.000Z' }),
        queued('of-another', 'delete', 'DROP-3', { at }),
        queued('a-stop', 'stop', 'DROP-1', { at }),
      )
      for (const ticket of ['DROP-1', 'DROP-2'])
        await effects({ kind: 'cancel-deletes', ticket, before: '2026-11-24T10:00:00.000Z' })
      expect((await store.queue.list({ state: 'cancelled' })).map(({ id }) => id)).toEqual(['old'])
      expect((await store.requests.get('old'))?.ended).toMatchObject({ ok: false, outcome: null })
    })

    test('effects record what was decided about tickets and pull requests', async () => {
      const { store, effects, now } = await openStage(open)
      const pullRequest = { repo: 'acme/shop', number: 7 }
      const link = { ...pullRequest, ticket: 'DROP-1', branch: 'DROP-1', state: 'open', closedAt: null } as const
      await store.pullRequests.link(link)
      await effects(
        { kind: 'pull-request-decided', pullRequest, state: 'open' },
        { kind: 'pull-request-decided', pullRequest: { repo: 'acme/shop', number: 8 }, state: 'open' },
        { kind: 'pull-request-ready', pullRequest, ready: false },
        { kind: 'pull-request-ready', pullRequest, ready: true },
        { kind: 'allow-commit', pullRequest, commit: 'abc1234' },
        { kind: 'allow-commit', pullRequest, commit: 'def5678' },
        { kind: 'ticket-decided', ticket: 'DROP-1', state: { category: 'new', assignee: null } },
        { kind: 'change-reported', change: 'c1', delivery: '1' },
        { kind: 'change-reported', change: 'c1', delivery: '2' },
      )
      expect(await store.pullRequests.get(pullRequest)).toEqual({
        ...link,
        ready: true,
        decided: { state: 'open', at: now() },
      })
      expect(await store.pullRequests.get({ repo: 'acme/shop', number: 8 })).toBeNull()
      expect(await store.pullRequests.allowedCommit(pullRequest)).toBe('def5678')
      expect((await store.tickets.get('DROP-1')).decided).toEqual({ category: 'new', assignee: null })
      expect(await store.tickets.reportedBy('c1')).toBe('1')
    })

    test('a request that is known stays as it is, and its action is queued once', async () => {
      const { store, decide, claim } = await openStage(open)
      const action = queued('github:comment:500:0', 'stop')
      const first = command(action.id, action.action, { what: '/swarm stop' })
      await decide({ actions: [action], requests: [first] })
      const lease = await claim()
      await store.queue.complete(lease.id, lease.token, done(), [])
      await decide({ actions: [action], requests: [{ ...first, what: 'again' }] })
      expect(await store.requests.get(action.id)).toMatchObject({ what: '/swarm stop', ended: { ok: true } })
      expect(await store.queue.claim('runner-1', offer)).toBeNull()
    })
  })
}
