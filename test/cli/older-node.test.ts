import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const entry = resolve(import.meta.dirname, '../../bin/agent-swarm.js')
/** Some older Node of this machine, if it has one: npm's own folders come first on PATH and hold a newer one. */
const older = (process.env.PATH ?? '')
  .split(delimiter)
  .map(folder => join(folder, 'node'))
  .filter(file => existsSync(file))
  .find(file => Number(execFileSync(file, ['-p', 'process.versions.node.split(".")[0]'], { encoding: 'utf8' })) < 24)

test.skipIf(older === undefined)('an older Node is told in one sentence what is missing', () => {
  const { status, stdout, stderr } = spawnSync(older ?? '', [entry, 'list'], { encoding: 'utf8' })
  expect(stdout).toBe('')
  expect(stderr).toMatch(/^agent-swarm needs Node 24 or newer, and this is Node \d+\.\d+\.\d+\. .*\n$/)
  expect(status).toBe(1)
})
