import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, test } from 'vitest'
import { openQueue } from '../../src/store/sqlite/queue.ts'
import { keepsTheQueuePromises } from './contract.ts'
import { action, delivery } from './fixtures.ts'

const folder = () => mkdtempSync(join(tmpdir(), 'agent-swarm-queue-'))

keepsTheQueuePromises('node:sqlite', clock => {
  const home = folder()
  const queue = openQueue(join(home, 'bot.db'), clock)
  return {
    queue,
    close: () => {
      queue.close()
      rmSync(home, { recursive: true })
    },
  }
})

test('kill -9, again and again: nothing that was acknowledged is lost', async () => {
  const home = folder()
  const path = join(home, 'bot.db')
  const acknowledged: number[] = []
  for (let round = 0; round < 5; round += 1) {
    const first = (acknowledged.at(-1) ?? -1) + 2
    const child = spawn(process.execPath, [join(import.meta.dirname, 'die.ts'), path, String(first)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let seen = 0
    for await (const chunk of child.stdout) {
      const numbers = String(chunk).split('\n').slice(0, -1).map(Number)
      acknowledged.push(...numbers)
      seen += numbers.length
      if (seen >= 40) child.kill('SIGKILL')
    }
  }
  const queue = openQueue(path, Date.now)
  const stored = new Set(queue.list().map(row => row.id))
  expect(acknowledged.filter(n => !stored.has(`a${n}`))).toEqual([])
  expect(queue.accept(acknowledged.map(n => delivery(`d${n}`)))).toBe(0)
  queue.close()
  const db = new DatabaseSync(path)
  expect(db.prepare('pragma integrity_check').get()).toEqual({ integrity_check: 'ok' })
  db.close()
  rmSync(home, { recursive: true })
})

test('what was in hand when the process died is due again, and a lease runs out by itself', () => {
  const home = folder()
  const path = join(home, 'bot.db')
  let now = 1_000
  const before = openQueue(path, () => now)
  before.accept([delivery('1')])
  expect(before.due(10)).toHaveLength(1)
  before.enqueue(action('1'))
  expect(before.claim({ runnerId: 'one' })).not.toBeNull()
  before.close()
  const after = openQueue(path, () => now)
  expect(after.due(10)).toHaveLength(1)
  expect(after.claim({ runnerId: 'one' })).toBeNull()
  now += 60_000
  after.reap(() => [])
  expect(after.claim({ runnerId: 'one' })).toMatchObject({ id: '1', attempt: 2 })
  after.close()
  rmSync(home, { recursive: true })
})

test('a store of a newer version is refused', () => {
  const home = folder()
  const path = join(home, 'bot.db')
  openQueue(path, Date.now).close()
  const db = new DatabaseSync(path)
  db.exec('pragma user_version = 99')
  db.close()
  expect(() => openQueue(path, Date.now)).toThrow(/written by a newer agent-swarm/)
  rmSync(home, { recursive: true })
})
