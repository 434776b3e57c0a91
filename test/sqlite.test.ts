import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { openStore } from '../src/sqlite.ts'

const migrations = ['create table thing (name text) strict']
/** A store with a few pages, which `harm` is done to. */
const harmed = (harm: (path: string) => void): string => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-store-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'memory.db')
  const { db } = openStore(path, migrations)
  db.exec(`insert into thing select hex(zeroblob(1000)) from (values (1), (2), (3), (4), (5), (6), (7), (8))`)
  db.close()
  harm(path)
  return path
}

test.for([
  ['is something else', (path: string) => writeFileSync(path, 'hello '.repeat(1_000)), /damaged/],
  ['was cut', (path: string) => truncateSync(path, 6_000), /damaged/],
  [
    'is a folder',
    (path: string) => {
      rmSync(path)
      mkdirSync(path)
    },
    /May this user write there/,
  ],
] as [string, (path: string) => void, RegExp][])(
  'a file that %s is named, with what to do about it',
  ([, harm, remedy]) => {
    const path = harmed(harm)
    expect(() => openStore(path, migrations)).toThrow(
      expect.objectContaining({
        failure: {
          kind: 'unknown',
          message: expect.stringContaining(`opening ${path}: `),
          remedy: expect.stringMatching(remedy),
        },
      }),
    )
  },
)
