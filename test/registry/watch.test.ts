import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openRegistry } from '../../src/registry/registry.ts'
import { watchRegistry } from '../../src/registry/watch.ts'
import { until } from '../support/wait.ts'

test('a write by another connection is told, and nothing while nobody writes', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-watch-'))
  const path = join(home, 'registry.db')
  const [own, other] = [openRegistry(path), openRegistry(path)]
  own.runnerId()
  let seen = 0
  let version = own.dataVersion()
  const stop = watchRegistry(home, () => {
    if (own.dataVersion() !== version) seen += 1
    version = own.dataVersion()
  })
  onTestFinished(() => {
    stop()
    own.close()
    other.close()
    rmSync(home, { recursive: true })
  })
  other.setSshConfig({ folder: '/home/dev/.ssh', made: [] })
  await until('the first write', () => seen === 1)
  other.setSshConfig({ folder: '/home/dev/.ssh', made: [] })
  await until('the second write', () => seen === 2)
  expect(seen).toBe(2)
})
