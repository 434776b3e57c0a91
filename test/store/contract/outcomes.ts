import { describe, expect, test } from 'vitest'
import type { Action } from '../../../src/schema/action.ts'
import type { Lease } from '../../../src/schema/runner-protocol.ts'
import {
  actionOf,
  command,
  comment,
  done,
  environmentOf,
  failure,
  heartbeatOf,
  MINUTE,
  queued,
  START,
} from '../fixtures.ts'
import { type Open, openStage, type Stage } from './stage.ts'

const failing = (retry: boolean) => ({ failure, retry, environment: null, messages: [] })

export const outcomesContract = (open: Open) => {
  describe('what an outcome records', () => {
    const stageWith = async (action: Action): Promise<{ stage: Stage; lease: Lease }> => {
      const stage = await openStage(open)
      await stage.store.runners.heartbeat(heartbeatOf([]))
      await stage.decide({
        actions: [{ id: 'a', correlation: 'd', action }],
        requests: [command('a', action, { at: START - MINUTE })],
      })
      return { stage, lease: await stage.claim() }
    }

    test('its environment, and the end of its request', async () => {
      const { stage, lease } = await stageWith(actionOf('create'))
      const outcome = done(environmentOf('DROP-1'))
      stage.pass(3_000)
      await stage.store.queue.complete('a', lease.token, outcome, [])
      expect(await stage.store.runners.environment('DROP-1')).toEqual({
        environment: environmentOf('DROP-1'),
        runnerId: 'runner-1',
        heardAt: START + 3_000,
        goneAt: null,
      })
      expect((await stage.store.requests.get('a'))?.ended).toEqual({ at: START + 3_000, ok: true, outcome })
      expect(await stage.store.requests.unfinishedComments(stage.now(), 9)).toEqual([])
    })

    test('a delete: the machine is gone, and the ticket ended when the delete was asked for', async () => {
      const { stage, lease } = await stageWith(actionOf('delete'))
      await stage.store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1')]))
      await stage.store.tickets.sawCategory('DROP-1', 'new', START - MINUTE - 1)
      await stage.store.queue.complete('a', lease.token, done(), [])
      expect((await stage.store.runners.environment('DROP-1'))?.goneAt).toBe(START)
      expect((await stage.store.tickets.get('DROP-1')).endedSinceNew).toBe(true)
      await stage.store.tickets.sawCategory('DROP-1', 'new', START - MINUTE + 1)
      expect((await stage.store.tickets.get('DROP-1')).endedSinceNew).toBe(false)
    })

    test('a failure without an environment says nothing about it; another outcome without one says that it is gone', async () => {
      const { stage, lease } = await stageWith(actionOf('stop'))
      const { store } = stage
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1')]))
      await store.queue.fail('a', lease.token, failing(false))
      expect(await store.runners.environment('DROP-1')).toMatchObject({ goneAt: null })
      await stage.add(queued('b'))
      const { token } = await stage.claim()
      await store.queue.complete('b', token, { result: 'skipped', reason: 'no machine', environment: null }, [])
      expect(await store.runners.environment('DROP-1')).toMatchObject({ goneAt: START })
    })

    test('a failure with an environment records it; a retry ends nothing', async () => {
      const { stage, lease } = await stageWith(actionOf('stop'))
      const { store } = stage
      await store.queue.fail('a', lease.token, failing(true))
      expect((await store.requests.get('a'))?.ended).toBeNull()
      stage.pass(10 * MINUTE)
      const { token } = await stage.claim()
      const environment = environmentOf('DROP-1', { status: 'failed' })
      await store.queue.fail('a', token, { ...failing(false), environment })
      expect(await store.runners.environment('DROP-1')).toMatchObject({ environment: { status: 'failed' } })
      expect((await store.requests.ofComment(comment))[0]?.ended).toMatchObject({ ok: false })
    })
  })
}
