import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, onTestFinished, test } from 'vitest'
import { openLockWait } from '../src/free-lock.ts'

test('a lock that stays fails all that wait for it, with the file and what to do, and is asked for again after that', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-lock-'))
  const path = join(home, 'bot.db')
  const [other, ours] = [new DatabaseSync(path), new DatabaseSync(path, { timeout: 0 })]
  onTestFinished(() => {
    for (const db of [other, ours]) db.close()
    rmSync(home, { recursive: true })
  })
  other.exec('begin exclusive')
  let attempts = 0
  const tryLock = () => {
    attempts += 1
    ours.exec('begin immediate; rollback')
  }
  const unlocked = openLockWait(path, tryLock, 0)
  const failed = await Promise.allSettled([unlocked(), unlocked()])
  const failure = {
    kind: 'busy',
    message: expect.stringMatching(/^writing .*bot\.db: another process has had its lock for /),
    remedy: `Find that process and end it: fuser ${path}`,
  }
  expect(failed).toMatchObject([{ reason: { failure } }, { reason: { failure } }])
  // One asks for both.
  expect(attempts).toBeLessThan(4)
  other.exec('commit')
  await unlocked()
})

test('what is no lock fails at once', async () => {
  const unlocked = openLockWait('x.db', () => {
    throw new Error('disk I/O error')
  })
  await expect(unlocked()).rejects.toThrow('disk I/O error')
})
