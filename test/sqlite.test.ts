import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type Migration, openDatabase, openDatabaseCopy } from '../src/sqlite.ts'

const migrations: Migration[] = ['create table thing (name text) strict']
const newPath = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-sqlite-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, 'things.db')
}
/** The path of a database of a few pages, after `harm`. */
const harmed = (harm: (path: string) => void): string => {
  const path = newPath()
  const { db } = openDatabase(path, migrations)
  db.exec(`insert into thing select hex(zeroblob(1000)) from (values (1), (2), (3), (4), (5), (6), (7), (8))`)
  db.close()
  harm(path)
  return path
}

test.for([
  ['is something else', (path: string) => writeFileSync(path, 'hello '.repeat(1_000)), 'damaged', /Move the file away/],
  ['was cut', (path: string) => truncateSync(path, 6_000), 'damaged', /Move the file away/],
  [
    'is a folder',
    (path: string) => {
      rmSync(path)
      mkdirSync(path)
    },
    'unknown',
    /Check that this user may write there/,
  ],
] as [string, (path: string) => void, string, RegExp][])(
  'the failure for a file that %s names it, with a remedy',
  ([, harm, kind, remedy]) => {
    const path = harmed(harm)
    expect(() => openDatabase(path, migrations)).toThrow(
      expect.objectContaining({
        failure: {
          kind,
          message: expect.stringContaining(`opening ${path}: `),
          remedy: expect.stringMatching(remedy),
        },
      }),
    )
  },
)

test('a new file, its log and its index are for their owner alone, whatever the umask; an old one keeps its mode', () => {
  const path = newPath()
  const { db } = openDatabase(path, migrations)
  const modes = () => ['', '-wal', '-shm'].map(suffix => statSync(`${path}${suffix}`).mode & 0o777)
  expect(modes()).toEqual([0o600, 0o600, 0o600])
  db.close()
  chmodSync(path, 0o640)
  openDatabase(path, migrations).db.close()
  expect(statSync(path).mode & 0o777).toBe(0o640)
})

test('a migration runs once, and none of those that are missing takes effect when one fails', () => {
  const path = newPath()
  const insert: Migration = db => db.exec(`insert into thing values ('migrated')`)
  const names = () => {
    const { db } = openDatabase(path, [...migrations, insert])
    const rows = db.prepare('select name from thing').all()
    db.close()
    return rows
  }
  openDatabase(path, migrations).db.close()
  expect(() => openDatabase(path, [...migrations, insert, 'create table thing (name text)'])).toThrow(/already exists/)
  expect(names()).toEqual([{ name: 'migrated' }])
  expect(names()).toEqual([{ name: 'migrated' }])
})

test('a transaction takes effect as a whole, and one within it is part of it', () => {
  const { db, transaction } = openDatabase(':memory:', migrations)
  const add = (name: string) => transaction(() => db.prepare('insert into thing values (?)').run(name))
  expect(() =>
    transaction(() => {
      add('a')
      throw new Error('no')
    }),
  ).toThrow('no')
  transaction(() => {
    add('b')
    add('c')
  })
  expect(db.prepare('select name from thing').all()).toEqual([{ name: 'b' }, { name: 'c' }])
  db.close()
})

test('a copy has what the file has, and keeps its own changes to itself', () => {
  const path = newPath()
  const real = openDatabase(path, migrations).db
  real.exec(`insert into thing values ('a')`)
  const copy = openDatabaseCopy(path, migrations).db
  copy.exec(`insert into thing values ('b')`)
  expect(copy.prepare('select name from thing').all()).toEqual([{ name: 'a' }, { name: 'b' }])
  expect(real.prepare('select name from thing').all()).toEqual([{ name: 'a' }])
  copy.close()
  real.close()
})
