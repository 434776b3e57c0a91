/** The operator's own steps: what they are, and whose they must be. */
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { isFailure } from '../../../src/errors.ts'
import { readSteps } from '../../../src/runner/images/steps.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'agent-swarm-steps-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))
const write = (name: string, text = 'true\n', mode = 0o644) => {
  writeFileSync(join(folder, name), text)
  chmodSync(join(folder, name), mode)
}
const read = (required = true) => readSteps(folder, { required })
const failure = () => {
  try {
    return read()
  } catch (error) {
    return isFailure(error) ? error.failure : error
  }
}

test('the scripts, in the order of their names', () => {
  write('20-maven.sh', 'apt-get install maven\n')
  write('10-ca.sh', 'update-ca-certificates\n', 0o700)
  write('README.md')
  expect(read()).toEqual([
    { name: '10-ca', text: 'update-ca-certificates\n' },
    { name: '20-maven', text: 'apt-get install maven\n' },
  ])
})

test('without the folder there are none, unless it was named', () => {
  folder = join(folder, 'missing')
  expect(read(false)).toEqual([])
  expect(failure()).toMatchObject({ kind: 'usage', message: expect.stringContaining('there is no such folder') })
})

test.for<[string, () => void, string]>([
  ['a file that others can change', () => write('a.sh', '', 0o664), 'other users can change it (mode 0664)'],
  [
    'a folder that others can change',
    () => {
      write('a.sh')
      chmodSync(folder, 0o777)
    },
    'other users can change it (mode 0777)',
  ],
  ['a link', () => symlinkSync('/etc/profile', join(folder, 'a.sh')), 'it is not a regular file'],
  ['a folder', () => mkdirSync(join(folder, 'a.sh')), 'it is not a regular file'],
  ['a name that is more than a name', () => write('a;b.sh'), 'its name is not like 10-maven.sh'],
  ['more than a script', () => write('a.sh', 'x'.repeat(300_000)), 'it has more than 256 KiB'],
])('%s is refused', ([, prepare, text]) => {
  prepare()
  expect(failure()).toMatchObject({ message: expect.stringContaining(text) })
})

test.runIf(process.getuid?.() === 0)("another user's file is refused", () => {
  write('a.sh')
  chownSync(join(folder, 'a.sh'), 12_345, 12_345)
  expect(failure()).toMatchObject({ kind: 'refused', message: expect.stringContaining('another user (12345)') })
})
