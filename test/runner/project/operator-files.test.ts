import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { operatorFiles } from '../../../src/runner/project/operator-files.ts'

const newHome = (): string => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-test-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  return home
}
const homeWith = (count: number): string => {
  const home = newHome()
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

const put = (home: string, file: string) => {
  mkdirSync(join(home, 'files', dirname(file)), { recursive: true })
  writeFileSync(join(home, 'files', file), file, { mode: 0o600 })
}

test.for([
  ['its own in lower case', ['acme/shop/.env'], ['acme/shop/.env'], []],
  ['another case of the repository', ['acme/Shop/.env'], ['acme/Shop/.env'], []],
  ['another case of the owner', ['ACME/api/.env', 'Acme/shop/.env'], ['Acme/shop/.env'], []],
  [
    'two folders of one repository',
    ['Acme/shop/.env', 'acme/shop/.env'],
    [],
    [
      'AGENT_SWARM_HOME/files/Acme/shop and AGENT_SWARM_HOME/files/acme/shop are both for acme/SHOP: put the files into one of them',
    ],
  ],
  ['none', ['acme/api/.env'], [], []],
] as const)('the name of a repository has no case: %s', ([, there, contents, problems]) => {
  const home = newHome()
  for (const file of there) put(home, file)
  const found = operatorFiles(home, 'acme/SHOP')
  expect(found.files.map(({ content }) => Buffer.from(content).toString())).toEqual(contents)
  expect(found.problems).toEqual(problems)
})
