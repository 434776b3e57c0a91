/** Which programs a unit of the system may start. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { checkPrograms } from '../../src/service/programs.ts'

const me = { name: 'me', uid: process.getuid?.() ?? 0, home: '/' }
const other = { name: 'swarmbot', uid: 4_711, home: '/' }

const program = () => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-programs-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  chmodSync(folder, 0o755)
  mkdirSync(join(folder, 'bin'))
  writeFileSync(join(folder, 'bin/node'), '', { mode: 0o755 })
  return { folder: join(folder, 'bin'), file: join(folder, 'bin/node') }
}

test('those of its user, or of root', () => {
  expect(() => checkPrograms(me, [program().file, process.platform === 'win32' ? '' : '/bin/sh'])).not.toThrow()
})

test('not those that every user may replace, also by a folder above', () => {
  const { folder, file } = program()
  chmodSync(folder, 0o777)
  expect(() => checkPrograms(me, [file])).toThrow('is open for writing to every user')
  chmodSync(folder, 0o755)
  chmodSync(file, 0o757)
  expect(() => checkPrograms(me, [file])).toThrow('is open for writing to every user')
})

test('not those that its user cannot reach, or of which another one is the owner', () => {
  const { folder, file } = program()
  chmodSync(folder, 0o700)
  expect(() => checkPrograms(other, [file])).toThrow(me.uid === 0 ? 'is closed to swarmbot' : 'could replace it')
})
