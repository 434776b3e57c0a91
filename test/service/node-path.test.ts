/** Which path of Node a service starts. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { stableNodePath } from '../../src/service/node-path.ts'

/** A prefix of Homebrew, with a version of a formula. `linked`: the version that `opt` has a link to. */
const homebrew = (formula: string, version: string, linked: string | null) => {
  const prefix = realpathSync(mkdtempSync(join(tmpdir(), 'agent-swarm-brew-')))
  onTestFinished(() => rmSync(prefix, { recursive: true }))
  for (const each of [version, linked ?? version]) {
    mkdirSync(join(prefix, 'Cellar', formula, each, 'bin'), { recursive: true })
    writeFileSync(join(prefix, 'Cellar', formula, each, 'bin/node'), '', { mode: 0o755 })
  }
  mkdirSync(join(prefix, 'opt'))
  if (linked !== null) symlinkSync(`../Cellar/${formula}/${linked}`, join(prefix, 'opt', formula))
  return { prefix, node: join(prefix, 'Cellar', formula, version, 'bin/node') }
}

test.for(['node@24', 'node'])('of %s of Homebrew, the link that an upgrade keeps', formula => {
  const { prefix, node } = homebrew(formula, '24.11.0', '24.11.0')
  expect(stableNodePath(node)).toBe(join(prefix, 'opt', formula, 'bin/node'))
})

test.for([
  ['no link', null],
  ['a link to another version', '24.12.0'],
] as const)('of a version of Homebrew with %s, the version', ([, linked]) => {
  const { node } = homebrew('node@24', '24.11.0', linked)
  expect(stableNodePath(node)).toBe(node)
})
