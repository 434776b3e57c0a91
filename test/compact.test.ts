import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, onTestFinished, test } from 'vitest'
import { compact } from '../src/compact.ts'
import { openDatabase } from '../src/sqlite.ts'

const MIB = 1024 * 1024
const TABLE = 'create table thing (id integer primary key, body text not null)'
const file = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-compact-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  return join(home, 'things.db')
}
const open = (path: string): DatabaseSync => {
  const { db } = openDatabase(path, [TABLE])
  onTestFinished(() => db.close())
  return db
}
const sizes = (path: string) => [path, `${path}-wal`].map(name => Math.ceil(statSync(name).size / MIB))
/** Writes 40 MiB, and deletes nearly all of it. */
const fillAndEmpty = (db: DatabaseSync): void => {
  const insert = db.prepare('insert into thing (body) values (?)')
  db.exec('begin')
  for (let n = 0; n < 5_000; n += 1) insert.run('x'.repeat(8_000))
  db.exec('commit; delete from thing where id > 100; pragma wal_checkpoint(passive)')
}
const never = () => false

test('what is free goes back to the disk, and the log is cut', async () => {
  const path = file()
  const db = open(path)
  fillAndEmpty(db)
  expect(sizes(path)[0]).toBeGreaterThan(30)
  await compact(db, never)
  const [size = 0, log] = sizes(path)
  expect(size).toBeLessThan(6)
  expect(log).toBe(0)
  expect(db.prepare('select count(*) as n from thing').get()).toEqual({ n: 100 })
  expect(db.prepare('pragma integrity_check').get()).toEqual({ integrity_check: 'ok' })
})

test('a file of an earlier version is rewritten once, and shrinks in steps from then on', async () => {
  const path = file()
  const before = new DatabaseSync(path)
  before.exec(`${TABLE}; pragma journal_mode = wal; pragma user_version = 1`)
  fillAndEmpty(before)
  before.close()
  const db = open(path)
  await compact(db, never)
  expect(sizes(path)[0]).toBeLessThan(6)
  expect(db.prepare('pragma auto_vacuum').get()).toEqual({ auto_vacuum: 2 })
})

test('while another process reads, the log is cut later, and nobody waits', async () => {
  const path = file()
  const [db, reader] = [open(path), open(path)]
  fillAndEmpty(db)
  reader.exec('begin')
  reader.prepare('select count(*) from thing').get()
  db.exec("insert into thing (body) values ('y')")
  await compact(db, never)
  reader.exec('commit')
  await compact(db, never)
  expect(sizes(path)[1]).toBe(0)
  expect(db.prepare('pragma busy_timeout').get()).toEqual({ timeout: 60_000 })
})
