import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, onTestFinished, test } from 'vitest'
import { backupDueIn, backupsFolder, KEPT_BACKUPS, listBackups, settleRestored, writeBackup } from '../src/backups.ts'
import { damaged } from '../src/damage.ts'
import { timestamp } from '../src/domain.ts'
import { restoreDamaged } from '../src/restore-backup.ts'
import { type Migration, openDatabase } from '../src/sqlite.ts'

const DAY = 24 * 60 * 60_000
const AT = Date.parse('2026-11-24T03:00:00Z')
const migrations: Migration[] = ['create table thing (name text)']
const newPath = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-swarm-backups-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, 'things.db')
}
const opened = (path: string, all = migrations) => {
  const database = openDatabase(path, all)
  onTestFinished(() => {
    if (database.db.isOpen) database.db.close()
  })
  return database
}
const things = (file: string) => {
  const db = new DatabaseSync(file, { readOnly: true })
  const rows = db.prepare('select name from thing').all()
  db.close()
  return rows.map(({ name }) => name)
}
const files = (path: string) => readdirSync(backupsFolder(path)).sort()

test('a backup has what was committed, not what is under way, and is for its owner alone', () => {
  const path = newPath()
  const { db } = opened(path)
  db.exec(`insert into thing values ('a')`)
  db.exec(`begin immediate; insert into thing values ('b')`)
  const { file } = writeBackup(path, AT)
  db.exec('commit')
  expect(files(path)).toEqual(['things-20261124-030000.db'])
  expect(things(file)).toEqual(['a'])
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(statSync(backupsFolder(path)).mode & 0o777).toBe(0o700)
})

test('the newest are kept, of each database', () => {
  const path = newPath()
  opened(path)
  mkdirSync(backupsFolder(path))
  writeFileSync(join(backupsFolder(path), 'others-20200101-000000.db'), '')
  for (let day = 0; day < KEPT_BACKUPS + 2; day++) writeBackup(path, AT + day * DAY)
  const kept = listBackups(path, AT + 100 * DAY)
  expect(kept).toHaveLength(KEPT_BACKUPS)
  expect(kept.at(-1)?.madeAt).toBe(AT + 2 * DAY)
  expect(files(path)).toContain('others-20200101-000000.db')
})

test('one is due a day after the newest, or when there is none; one from the future does not count', () => {
  const path = newPath()
  opened(path)
  expect(backupDueIn(path, AT)).toBe(0)
  writeBackup(path, AT)
  expect(backupDueIn(path, AT + DAY / 4)).toBe((3 * DAY) / 4)
  expect(backupDueIn(path, AT + DAY)).toBe(0)
  expect(backupDueIn(path, AT - DAY)).toBe(0)
})

test.for([1, 400])('backups of a clock that was %i days ahead come last, and are removed first', days => {
  const path = newPath()
  const { db } = opened(path)
  for (let day = 0; day < KEPT_BACKUPS; day++) writeBackup(path, AT + (days + day) * DAY)
  db.exec(`insert into thing values ('new')`)
  db.close()
  // Until the clock was set, these were the newest.
  const { file } = writeBackup(path, AT)
  expect(listBackups(path, AT)).toHaveLength(KEPT_BACKUPS)
  expect(listBackups(path, AT)[0]?.file).toBe(file)
  expect(files(path)).not.toContain(`things-${timestamp(new Date(AT + days * DAY))}.db`)
  rmSync(path)
  expect(restoreDamaged(path, AT)?.backup.file).toBe(file)
  expect(things(path)).toEqual(['new'])
})

test('the remedy of a damaged database names the backup that is taken', () => {
  const path = newPath()
  opened(path)
  const now = Date.now()
  const { madeAt } = writeBackup(path, now - DAY)
  writeBackup(path, now + 400 * DAY)
  expect(damaged('opening', path, 'torn').failure.remedy).toContain(
    `Go on from its newest backup, of ${new Date(madeAt).toISOString()}:`,
  )
})

test('half a backup does not count, and the next one removes it', () => {
  const path = newPath()
  opened(path)
  mkdirSync(backupsFolder(path))
  const dead = 'things-20261123-030000.db.4194399.new'
  for (const name of [dead, `${dead}-journal`]) writeFileSync(join(backupsFolder(path), name), 'half')
  expect(listBackups(path, AT)).toEqual([])
  writeBackup(path, AT)
  expect(files(path)).toEqual(['things-20261124-030000.db'])
})

test('a backup that fails leaves nothing, and the ones before stay', () => {
  const path = newPath()
  opened(path)
  writeBackup(path, AT)
  rmSync(path)
  expect(() => writeBackup(path, AT + DAY)).toThrow(/^backing up .*things\.db into .*backups: /)
  expect(files(path)).toEqual(['things-20261124-030000.db'])
})

test('each migration is preceded by a backup of what was there', () => {
  const path = newPath()
  const { db } = opened(path)
  db.exec(`insert into thing values ('a')`)
  db.close()
  expect(listBackups(path, Date.now())).toEqual([])
  opened(path, [...migrations, `update thing set name = 'b'`]).db.close()
  const [before] = listBackups(path, Date.now())
  expect(things(path)).toEqual(['b'])
  expect(things(before?.file ?? '')).toEqual(['a'])
  opened(path, [...migrations, `update thing set name = 'b'`])
  expect(listBackups(path, Date.now())).toHaveLength(1)
})

test('a migration without room for its backup is not begun', () => {
  const path = newPath()
  opened(path).db.close()
  writeFileSync(backupsFolder(path), 'no folder')
  expect(() => openDatabase(path, [...migrations, 'drop table thing'])).toThrow(/^backing up /)
  expect(things(path)).toEqual([])
})

test('a backup in the place of its database is noticed once', () => {
  const path = newPath()
  const original = opened(path)
  const seen: number[] = []
  const look = (database: typeof original) => settleRestored(database, madeAt => void seen.push(madeAt))
  look(original)
  const { file } = writeBackup(path, AT)
  const restored = opened(file)
  expect(() =>
    settleRestored(restored, () => {
      throw new Error('no')
    }),
  ).toThrow('no')
  look(restored)
  look(restored)
  expect(seen).toEqual([AT])
})
