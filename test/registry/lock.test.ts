import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ifUnlocked, lockNewMachine, withLock, withLocks } from '../../src/registry/lock.ts'

let home: string
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'agent-swarm-lock-'))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

const waiting = { signal: new AbortController().signal, onWait: () => {} }

test('a ticket has one lock for everybody, and another ticket has its own', async () => {
  const order: string[] = []
  let waits = 0
  const first = withLock(home, 'DROP-1', waiting, async () => {
    expect(await ifUnlocked(home, 'DROP-1', async () => 'free')).toBeNull()
    expect(await ifUnlocked(home, 'DROP-2', async () => 'free')).toBe('free')
    order.push('first')
  })
  const second = withLock(home, 'DROP-1', { ...waiting, onWait: () => (waits += 1) }, async () => order.push('second'))
  await Promise.all([first, second])
  expect(order).toEqual(['first', 'second'])
  expect(waits).toBe(1)
  expect(await ifUnlocked(home, 'DROP-1', async () => 'free')).toBe('free')
})

test('a lock is released when its work fails, and waiting can be cancelled', async () => {
  await expect(withLock(home, 'DROP-1', waiting, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken')
  await withLock(home, 'DROP-1', waiting, async () => {
    const cancel = new AbortController()
    await expect(
      withLock(home, 'DROP-1', { signal: cancel.signal, onWait: () => cancel.abort() }, async () => 'never'),
    ).rejects.toThrow(/cancelled/)
  })
})

test('several locks are taken in one order, whatever order they are named in', async () => {
  const work = (...names: string[]) => withLocks(home, names, waiting, async () => names.join())
  await expect(
    Promise.all([work('DROP-1', 'WEB-1'), work('WEB-1', 'DROP-1'), work('DROP-1', 'DROP-1')]),
  ).resolves.toEqual(['DROP-1,WEB-1', 'WEB-1,DROP-1', 'DROP-1,DROP-1'])
})

test('a machine without a ticket has a lock, which leaves no file', async () => {
  const vmId = 'as-base-00000001'
  const unlock = lockNewMachine(home, vmId)
  expect(await ifUnlocked(home, vmId, async () => 'free')).toBeNull()
  unlock()
  expect(existsSync(join(home, 'locks', `${vmId}.lock`))).toBe(false)
})

test('only a ticket or a vmId becomes the name of a file', async () => {
  await expect(ifUnlocked(home, '../DROP-1', async () => 'free')).rejects.toThrow(/neither a ticket nor a machine/)
})
