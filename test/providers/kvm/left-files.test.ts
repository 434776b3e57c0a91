/** Files for virsh that a killed process left. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { withFile } from '../../../providers/kvm/host.ts'

test('the next file removes what was left a day ago, and nothing else', async () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  onTestFinished(() => rmSync(home, { recursive: true, force: true }))
  const names = ['tmp-of-a-day', 'tmp-of-now', 'images'].map(name => join(home, 'kvm', name))
  for (const folder of names) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'file'), 'a host key')
  }
  const dayAgo = Date.now() / 1000 - 25 * 60 * 60
  for (const folder of names.filter(name => !name.endsWith('now'))) utimesSync(folder, dayAgo, dayAgo)
  expect(await withFile({ home }, 'a definition', async path => readFileSync(path, 'utf8'))).toBe('a definition')
  expect(names.map(name => existsSync(name))).toEqual([false, true, true])
})
