/** The folder in which root keeps the state of a libvirt of its own (test/kvm/namespace.sh, also for the demo), and who may run it. */
import { execFile } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'

const script = resolve(import.meta.dirname, 'kvm/namespace.sh')
const isRoot = process.geteuid?.() === 0
/** Debian's `nobody`. */
const OTHER = 65_534

let parent: string
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'agent-swarm-root-'))
})
afterEach(() => rmSync(parent, { recursive: true }))

/** Without a command it checks the folder, and prints how it is used. */
const open = (state: string): Promise<{ code: number; stderr: string }> =>
  new Promise(done => {
    execFile('bash', [script, state], (error, _stdout, stderr) =>
      done({ code: error === null ? 0 : Number(error.code), stderr }),
    )
  })
const inParent = (name: string, mode: number, owner = 0): string => {
  const path = join(parent, name)
  mkdirSync(path)
  chmodSync(path, mode)
  chownSync(path, owner, owner)
  return path
}
const USAGE = 2

test.skipIf(!isRoot)('root makes it for root alone, and takes its own again', async () => {
  const state = join(parent, 'state')
  expect(await open(state)).toEqual({ code: USAGE, stderr: '' })
  expect(statSync(state).mode & 0o777).toBe(0o700)
  expect(await open(state)).toEqual({ code: USAGE, stderr: '' })
  expect(await open(inParent('older', 0o755))).toEqual({ code: USAGE, stderr: '' })
  expect(await open(join(inParent('sticky', 0o1777), 'state'))).toEqual({ code: USAGE, stderr: '' })
})

test.skipIf(!isRoot).for([
  ["another user's", () => inParent('state', 0o700, OTHER)],
  ['one that everybody can write to', () => inParent('state', 0o777)],
  ['one that a group can write to', () => inParent('state', 0o770)],
  ['one that is sticky: others may have put files there', () => inParent('state', 0o1777)],
  [
    'a link, also to a folder of root',
    () => {
      symlinkSync(inParent('real', 0o700), join(parent, 'state'))
      return join(parent, 'state')
    },
  ],
  ["a folder in another user's", () => join(inParent('theirs', 0o755, OTHER), 'state')],
  ['a folder in one that everybody can write to', () => join(inParent('open', 0o777), 'state')],
] as const)('refused: %s', async ([, make]) => {
  const state = make()
  const { code, stderr } = await open(state)
  expect(code).toBe(1)
  expect(stderr).toMatch(/^namespace\.sh: .*root's alone\nName a folder that only root can make and change/)
  expect(existsSync(join(state, 'lock'))).toBe(false)
})

test('where they cannot run, the tests on real libvirt fail, or are left out with the reason when that was asked for', async () => {
  writeFileSync(join(parent, 'id'), '#!/bin/sh\necho 1000\n', { mode: 0o755 })
  const run = (...args: string[]): Promise<{ code: number; stderr: string }> =>
    new Promise(done => {
      const env = { ...process.env, PATH: `${parent}:${process.env.PATH}` }
      execFile('bash', [resolve(import.meta.dirname, 'kvm/run.sh'), ...args], { env }, (error, _stdout, stderr) =>
        done({ code: error === null ? 0 : Number(error.code), stderr }),
      )
    })
  const reason = 'The tests on real libvirt need root: sudo npm run test:kvm\n'
  expect(await run('some.test.ts')).toEqual({ code: 1, stderr: reason })
  expect(await run('--if-possible', 'some.test.ts')).toEqual({ code: 0, stderr: `Left out: some.test.ts\n${reason}` })
})
