import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, test } from 'vitest'
import { openStore } from '../../src/store/sqlite/index.ts'
import { delivery } from './fixtures.ts'

test('kill -9, again and again: nothing that was acknowledged is lost', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-store-'))
  const path = join(home, 'bot.db')
  const acknowledged: number[] = []
  for (let round = 0; round < 2; round += 1) {
    const first = (acknowledged.at(-1) ?? -1) + 2
    const child = spawn(process.execPath, [join(import.meta.dirname, 'die.ts'), path, String(first)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let written = 0
    for await (const chunk of child.stdout) {
      const numbers = String(chunk).split('\n').slice(0, -1).map(Number)
      acknowledged.push(...numbers)
      written += numbers.length
      if (written >= 40) child.kill('SIGKILL')
    }
  }
  expect(acknowledged.length).toBeGreaterThanOrEqual(80)
  const store = openStore(path, Date.now)
  const stored = new Set((await store.queue.list()).map(row => row.id))
  expect(acknowledged.filter(n => !stored.has(`a${n}`))).toEqual([])
  expect(await store.inbox.accept(acknowledged.map(n => delivery(`d${n}`)))).toBe(0)
  await store.close()
  const db = new DatabaseSync(path)
  expect(db.prepare('pragma integrity_check').get()).toEqual({ integrity_check: 'ok' })
  db.close()
  rmSync(home, { recursive: true })
})
