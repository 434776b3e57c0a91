import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { operatorFiles } from '../../../src/runner/project/operator-files.ts'

const homeWith = (count: number): string => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  const folder = join(home, 'files/acme/shop')
  mkdirSync(join(folder, 'deep'), { recursive: true })
  for (let n = 0; n < count; n += 1) writeFileSync(join(folder, `deep/${n}`), 'x', { mode: 0o600 })
  return home
}
const LEFT_OUT = 'AGENT_SWARM_HOME/files/acme/shop holds more than 200 files, and the rest is left out'

test.for([
  [200, []],
  [201, [LEFT_OUT]],
] as const)('of %i files, 200 are taken, and a problem says that others are left out', ([count, problems]) => {
  const found = operatorFiles(homeWith(count), 'acme/shop')
  expect([found.files.length, found.problems]).toEqual([200, problems])
})
