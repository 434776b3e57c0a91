/** A runner that is gone for good. */
import { describe, expect, test } from 'vitest'
import { RUNNER_AWAY_MS } from '../../../src/store/port.ts'
import { actionOf, command, comment, environmentOf, failure, heartbeatOf, MINUTE, offer, queued } from '../fixtures.ts'
import { type Open, openStage } from './stage.ts'

const AWAY = RUNNER_AWAY_MS + 1
const create = (id: string, ticket: string) => queued(id, 'create', ticket)

export const forgetRunnerContract = (open: Open) => {
  describe('a runner that is gone for good', () => {
    const stageWith = async () => {
      const stage = await openStage(open)
      const { store } = stage
      await store.runnerTokens.add({ name: 'studio', hash: 'h1', as: null })
      const added = await store.runnerTokens.identify('h1', { instance: 'i', isShared: false })
      const runnerId = added.who === 'unknown' ? '' : added.runnerId
      const beat = (tickets: string[]) =>
        store.runners.heartbeat(
          heartbeatOf(
            tickets.map(ticket => environmentOf(ticket)),
            { runnerId },
          ),
        )
      await beat(['DROP-1'])
      const forget = (dryRun = false, name = 'studio') => store.runners.forget(name, { dryRun })
      return { ...stage, runnerId, beat, forget }
    }

    test('is not forgotten while it is connected, and nobody is unknown', async () => {
      const { forget, pass, store } = await stageWith()
      pass(RUNNER_AWAY_MS)
      for (const dryRun of [true, false]) expect(await forget(dryRun)).toEqual({ problem: 'connected', host: 'studio' })
      expect(await forget(false, 'attic')).toEqual({ problem: 'unknown-runner' })
      expect(await forget(false, '')).toEqual({ problem: 'unknown-runner' })
      expect((await store.runners.environment('DROP-1'))?.goneAt).toBeNull()
    })

    test('a plan changes nothing; then machines count as gone, tickets are free and told, and the token is nobody', async () => {
      const { store, forget, pass, runnerId, claim, add, messages, now } = await stageWith()
      await add(create('made-nothing', 'DROP-2'), queued('other', 'stop', 'DROP-7'))
      await claim(runnerId)
      pass(AWAY)
      const plan = await forget(true)
      expect(plan).toMatchObject({
        ...{ id: runnerId, name: 'studio', host: 'studio', tickets: ['DROP-2'] },
        machines: [{ ticket: 'DROP-1', vmId: 'as-drop-1-1a2b3c4d', provider: 'kvm', status: 'running' }],
        ...{ released: [{ kind: 'create', ticket: 'DROP-2' }], ended: [] },
      })
      const before = await messages()
      expect(await forget(true)).toEqual(plan)
      expect(await store.queue.pinnedTo('DROP-1')).toBe(runnerId)

      expect(await forget()).toEqual(plan)
      expect(await store.runners.environment('DROP-1')).toMatchObject({ goneAt: now(), runnerForgotten: true })
      expect(await store.runners.withMachine()).toEqual([])
      for (const ticket of ['DROP-1', 'DROP-2']) expect(await store.queue.pinnedTo(ticket)).toBeNull()
      expect(await store.runnerTokens.list()).toEqual([])
      expect(await store.runnerTokens.identify('h1', { instance: 'i', isShared: false })).toEqual({ who: 'unknown' })
      expect((await messages()).filter(key => !before.includes(key))).toEqual([
        `jira:runner-gone:${runnerId}:DROP-1`,
        ...(before.includes('status:DROP-1') ? [] : ['status:DROP-1']),
      ])
      expect(await store.queue.claim('runner-2', offer)).toMatchObject({ id: 'made-nothing', attempt: 2 })
      expect(await forget()).toEqual({ problem: 'unknown-runner' })
    })

    test('what was queued for its machines ends as failed, with a reply; what it was doing is lost for it', async () => {
      const { store, forget, pass, runnerId, decide, claim, messages } = await stageWith()
      const restore = actionOf('restore', 'DROP-1', { replyTo: { ...comment, line: 0 } })
      await decide({
        actions: [
          { id: 'active', correlation: 'd', action: actionOf('checkpoint') },
          { id: 'waiting', correlation: 'd', action: restore },
        ],
        requests: [command('waiting', restore)],
      })
      const { id, token } = await claim(runnerId)
      expect(id).toBe('active')
      pass(AWAY)
      expect(await forget()).toMatchObject({
        ended: [
          { kind: 'checkpoint', ticket: 'DROP-1' },
          { kind: 'restore', ticket: 'DROP-1' },
        ],
      })
      expect(await messages()).toEqual(expect.arrayContaining(['reply:github:acme/shop:500', 'status:DROP-1']))
      expect(await store.outbox.has('reaction:acme/shop:500:done')).toBe(true)
      for (const each of ['active', 'waiting'])
        expect(await store.queue.get(each)).toMatchObject({
          state: 'dead',
          outcome: { result: 'failed', failure: { message: expect.stringContaining('gone for good') } },
        })
      expect((await store.requests.get('waiting'))?.ended).toMatchObject({ ok: false })
      expect(await store.queue.fail(id, token, { failure, retry: false, environment: null, messages: [] })).toBe('lost')
      expect(await store.queue.claim('runner-2', offer)).toBeNull()
    })

    test('with the shared token it does not come back by itself, and another runner may have that token', async () => {
      const { store, pass, forget } = await openStage(open).then(stage => ({
        ...stage,
        forget: () => stage.store.runners.forget('one', { dryRun: false }),
      }))
      const shared = (instance: string) => store.runnerTokens.identify('s', { instance, isShared: true })
      expect(await shared('one')).toEqual({ who: 'runner', runnerId: 'one' })
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1')], { runnerId: 'one' }))
      pass(AWAY)
      expect(await forget()).toMatchObject({ id: 'one', name: null })
      expect(await shared('one')).toEqual({ who: 'unknown' })
      expect(await shared('two')).toEqual({ who: 'runner', runnerId: 'two' })
      expect(await shared('one')).toEqual({ who: 'another', runnerId: 'two' })
    })

    test('back with a new token it is a new runner: its machines are its own again, but where the ticket has another', async () => {
      const { store, beat, forget, pass } = await stageWith()
      await beat(['DROP-1', 'DROP-2'])
      pass(AWAY)
      await forget()
      const other = { ...environmentOf('DROP-1'), vmId: 'as-drop-1-0000beef' }
      await store.runners.heartbeat(heartbeatOf([other], { runnerId: 'runner-2', host: 'attic' }))
      const back = heartbeatOf([environmentOf('DROP-1'), environmentOf('DROP-2')], { runnerId: 'new' })
      expect(await store.runners.heartbeat(back)).toMatchObject({
        heldElsewhere: [{ ticket: 'DROP-1', vmId: 'as-drop-1-1a2b3c4d', host: 'attic' }],
      })
      const known = await store.runners.environment('DROP-2')
      expect(known).toMatchObject({ runnerId: 'new', goneAt: null })
      expect(known).not.toHaveProperty('runnerForgotten')
    })
  })

  describe('a create that made nothing', () => {
    test('pins nothing: the next attempt goes to any runner', async () => {
      const { store, add, claim, pass } = await openStage(open)
      await add(create('1', 'DROP-1'))
      const { id, token } = await claim('runner-1')
      await store.queue.fail(id, token, { failure, retry: true, environment: null, messages: [] })
      expect(await store.queue.pinnedTo('DROP-1')).toBeNull()
      pass(MINUTE)
      const again = await claim('runner-2')
      await store.queue.fail(id, again.token, { failure, retry: false, environment: null, messages: [] })
      expect(await store.queue.pinnedTo('DROP-1')).toBeNull()
    })

    test('but a machine that failed, or a runner that was lost, keeps the ticket', async () => {
      const { store, add, claim, pass } = await openStage(open)
      await add(create('1', 'DROP-1'), create('2', 'DROP-2'))
      const made = await claim('runner-1')
      const environment = environmentOf('DROP-1', { status: 'failed' })
      await store.queue.fail(made.id, made.token, { failure, retry: false, environment, messages: [] })
      const lost = await claim('runner-1')
      pass(10 * MINUTE)
      await store.queue.fail(lost.id, lost.token, { failure, retry: false, environment: null, messages: [] })
      expect([await store.queue.pinnedTo('DROP-1'), await store.queue.pinnedTo('DROP-2')]).toEqual([
        'runner-1',
        'runner-1',
      ])
    })
  })
}
