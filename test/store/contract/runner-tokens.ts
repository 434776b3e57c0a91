import { describe, expect, test } from 'vitest'
import { environmentOf, heartbeatOf } from '../fixtures.ts'
import { type Open, openStage } from './stage.ts'

export const runnerTokensContract = (open: Open) => {
  describe('tokens of runners', () => {
    test('a token belongs to the first installation that shows it, and is nobody when it is revoked', async () => {
      const { runnerTokens } = (await openStage(open)).store
      const added = await runnerTokens.add({ name: 'studio', hash: 'h1', as: null })
      const runnerId = 'runnerId' in added ? added.runnerId : ''
      const identify = (hash: string, instance: string | null, isShared = false) =>
        runnerTokens.identify(hash, { instance, isShared })
      expect(await identify('h1', null)).toEqual({ who: 'runner', runnerId })
      expect(await identify('h1', 'a')).toEqual({ who: 'runner', runnerId })
      expect(await identify('h1', 'b')).toEqual({ who: 'another', runnerId })
      expect(await identify('h1', null)).toEqual({ who: 'runner', runnerId })
      expect(await identify('h2', 'a')).toEqual({ who: 'unknown' })
      expect(await runnerTokens.hasOwn()).toBe(true)
      expect(await runnerTokens.revoke('studio')).toBe(runnerId)
      expect(await runnerTokens.revoke('studio')).toBeNull()
      expect(await identify('h1', 'a')).toEqual({ who: 'unknown' })
      expect(await runnerTokens.hasOwn()).toBe(false)
    })

    test('the shared token is nobody before a runner names itself, and cannot be revoked by its name', async () => {
      const { runnerTokens } = (await openStage(open)).store
      const identify = (instance: string | null, hash = 'shared') =>
        runnerTokens.identify(hash, { instance, isShared: true })
      expect(await identify(null)).toEqual({ who: 'unknown' })
      expect(await identify('one')).toEqual({ who: 'runner', runnerId: 'one' })
      expect(await identify(null)).toEqual({ who: 'runner', runnerId: 'one' })
      expect(await identify('two')).toEqual({ who: 'another', runnerId: 'one' })
      expect([await runnerTokens.revoke(''), await runnerTokens.hasOwn()]).toEqual([null, false])
      expect(await identify('two', 'changed')).toEqual({ who: 'runner', runnerId: 'two' })
      expect(await runnerTokens.identify('shared', { instance: 'one', isShared: false })).toEqual({ who: 'unknown' })
    })

    test('an id that has a token of its own is claimed neither by another token nor by the shared one', async () => {
      const { store } = await openStage(open)
      const { runnerTokens } = store
      await store.runners.heartbeat(heartbeatOf([environmentOf('DROP-1')]))
      expect(await runnerTokens.add({ name: 'a', hash: 'ha', as: 'nobody' })).toEqual({ problem: 'unknown-runner' })
      expect(await runnerTokens.add({ name: 'a', hash: 'ha', as: 'runner-1' })).toEqual({ runnerId: 'runner-1' })
      expect(await runnerTokens.add({ name: 'a', hash: 'hb', as: null })).toEqual({ problem: 'name-taken' })
      expect(await runnerTokens.add({ name: 'b', hash: 'hb', as: 'runner-1' })).toEqual({
        problem: 'has-token',
        name: 'a',
      })
      expect(await runnerTokens.identify('s', { instance: 'runner-1', isShared: true })).toEqual({
        who: 'another',
        runnerId: 'runner-1',
      })
      expect(await runnerTokens.list()).toMatchObject([{ name: 'a', id: 'runner-1', token: 'own', host: 'studio' }])
    })
  })
}
