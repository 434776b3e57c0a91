import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, onTestFinished, test } from 'vitest'
import { backupsFolder, listBackups, writeBackup } from '../src/backups.ts'
import { damageOf, onDamage } from '../src/damage.ts'
import { openRegistry } from '../src/registry/registry.ts'
import { restoreDamaged } from '../src/restore-backup.ts'
import { openDatabase } from '../src/sqlite.ts'
import { openStore } from '../src/store/sqlite/index.ts'
import { delivery } from './store/fixtures.ts'
import { harms, loseLog } from './support/harm.ts'

const newHome = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-damage-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  return home
}
const by = { via: 'cli', who: 'ada' } as const
/** Each database with some hundred pages of content. */
const databases = {
  'bot.db': async (path: string) => {
    const store = openStore(path, Date.now)
    await store.inbox.accept(
      Array.from({ length: 200 }, (_, n) => delivery(`${n}`, 'a', { body: JSON.stringify('x'.repeat(3_000)) })),
    )
    await store.close()
  },
  'registry.db': async (path: string) => {
    const registry = openRegistry(path)
    for (let n = 1; n <= 300; n++)
      registry.startOperation({
        ...{ actionId: `${n}`, correlation: null, ticket: `DROP-${n}`, kind: 'stop', at: '2026-11-24T10:00:00Z' },
        by: { ...by, who: 'ada'.repeat(300) },
      })
    registry.close()
  },
} as const
const cases = (Object.keys(databases) as (keyof typeof databases)[]).flatMap(name =>
  Object.keys(harms).map(harm => [name, harm] as const),
)

test.for(cases)('%s: damage of %s is found, and its newest backup takes its place', async ([name, harm]) => {
  const path = join(newHome(), name)
  await databases[name](path)
  expect(damageOf(path)).toBeNull()
  writeBackup(path, Date.parse('2026-11-24T03:00:00Z'))
  harms[harm]?.(path)
  expect(damageOf(path)).toEqual(expect.any(String))
  const before = readFileSync(path)
  const restored = restoreDamaged(path, Date.parse('2026-11-25T10:00:00Z'))
  expect(restored).toMatchObject({ backup: { madeAt: Date.parse('2026-11-24T03:00:00Z') } })
  expect(readFileSync(`${path}.damaged-20261125-100000`)).toEqual(before)
  expect(damageOf(path)).toBeNull()
  await databases[name](path)
})

test('a good database is left as it is', () => {
  const path = join(newHome(), 'bot.db')
  openStore(path, Date.now).close()
  writeBackup(path, 0)
  const before = readFileSync(path)
  expect(restoreDamaged(path, 1)).toBeNull()
  expect(readFileSync(path)).toEqual(before)
})

/** A copy of what a killed process leaves. */
const killed = (rows = 1): string => {
  const [alive, dead] = [join(newHome(), 'bot.db'), join(newHome(), 'bot.db')]
  const { db } = openDatabase(alive, ['create table thing (name text)'])
  for (let n = 0; n < rows; n++) db.exec('insert into thing values (hex(zeroblob(3000)))')
  for (const end of ['', '-wal', '-shm']) copyFileSync(`${alive}${end}`, `${dead}${end}`)
  db.close()
  return dead
}

test.for(['bot.db', 'registry.db'] as const)('%s is not damaged when its maker was killed in the middle', name => {
  const path = join(newHome(), name)
  const maker = new DatabaseSync(join(newHome(), name))
  maker.exec('pragma auto_vacuum = incremental; create table one (n); pragma cache_size = 1; begin immediate')
  // More than the cache holds: pages of the change are in the file, and those of before in its journal.
  const numbers = 'with recursive number (n) as (select 1 union all select n + 1 from number where n < 100)'
  maker.exec(`${numbers} insert into one select randomblob(4000) from number`)
  for (const end of ['', '-journal']) copyFileSync(`${maker.location()}${end}`, `${path}${end}`)
  maker.close()
  expect(damageOf(path)).toBeNull()
  openDatabase(path, []).db.close()
})

test('what a killed process left is whole, and without its log it is not', () => {
  const path = killed()
  expect(damageOf(path)).toBeNull()
  const lost = killed()
  loseLog(lost)
  expect(damageOf(lost)).toMatch(/bot\.db-wal, is missing/)
  expect(() => openDatabase(lost, [])).toThrow(/opening .*bot\.db: it is damaged: its log/)
})

test.for([
  ['cut off', (log: string) => truncateSync(log, 5_000)],
  ['emptied', (log: string) => truncateSync(log, 0)],
  ['damaged at its head', (log: string) => harms['its head']?.(log)],
  ['damaged at its end', (log: string) => harms['its end']?.(log)],
] as const)('a log that was %s after a kill is noticed, also when it is opened once more', ([, harm]) => {
  const path = killed(20)
  harm(`${path}-wal`)
  for (let n = 0; n < 2; n++)
    expect(() => openDatabase(path, [])).toThrow(/bot\.db: it is damaged: its log, bot\.db-wal, is damaged/)
})

test('a log that was damaged in its middle is noticed by whoever reads all of it', () => {
  const path = killed(20)
  harms['its middle']?.(`${path}-wal`)
  expect(damageOf(path)).toMatch(/its log, bot\.db-wal, is damaged/)
})

test('a log that is in use is whole, whatever is written meanwhile', () => {
  const path = join(newHome(), 'bot.db')
  const { db } = openDatabase(path, ['create table thing (name text)'])
  for (let n = 0; n < 50; n++) {
    db.exec('insert into thing values (hex(zeroblob(5000)))')
    if (n % 7 === 0) db.exec('pragma wal_checkpoint(passive)')
    if (n % 11 === 0) db.exec('pragma wal_checkpoint(restart)')
    if (n % 13 === 0) db.exec('pragma wal_checkpoint(truncate)')
    expect(damageOf(path)).toBeNull()
  }
  db.close()
  expect(damageOf(path)).toBeNull()
})

test.for([
  ['is missing', (path: string) => rmSync(path)],
  ['is empty', (path: string) => truncateSync(path, 0)],
] as const)('a file that %s is damage when there are backups of it, and a new one otherwise', ([, harm]) => {
  const path = join(newHome(), 'registry.db')
  openRegistry(path).close()
  harm(path)
  openRegistry(path).close()
  writeBackup(path, 0)
  harm(path)
  expect(() => openRegistry(path)).toThrow(/is damaged: the file is (missing|empty)/)
  expect(restoreDamaged(path, 1)).not.toBeNull()
  openRegistry(path).close()
})

test('a damaged backup is passed over, and without a good one the failure keeps the machines', () => {
  const path = join(newHome(), 'registry.db')
  openRegistry(path).close()
  const old = writeBackup(path, 1_000_000)
  const newest = writeBackup(path, 2_000_000)
  writeFileSync(newest.file, 'no database'.repeat(1_000))
  harms['its head']?.(path)
  expect(restoreDamaged(path, 3_000_000)).toMatchObject({ backup: old })
  const badBackups = () => restoreDamaged(path, 4_000_000)
  harms['its head']?.(path)
  for (const { file } of listBackups(path, Date.now())) writeFileSync(file, 'no database'.repeat(1_000))
  expect(badBackups).toThrow(
    expect.objectContaining({
      failure: expect.objectContaining({
        remedy: expect.stringMatching(/^None of its backups is good: .*rebuild-reg/),
      }),
    }),
  )
  rmSync(backupsFolder(path), { recursive: true })
  expect(() => restoreDamaged(path, 4_000_000)).toThrow(
    expect.objectContaining({
      failure: {
        kind: 'damaged',
        message: expect.stringContaining(path),
        remedy: expect.stringContaining('agent-swarm doctor --rebuild-registry'),
      },
    }),
  )
})

test('the log of the former file is not read into a backup that was put in its place', () => {
  const path = killed()
  const { file } = writeBackup(path, 0)
  copyFileSync(file, path)
  expect(() => openDatabase(path, [])).toThrow(/bot\.db-wal and -shm are of the former file\. Move them away/)
  for (const end of ['-wal', '-shm']) rmSync(`${path}${end}`)
  openDatabase(path, ['']).db.close()
})

test('a restore that died in the middle is damage still', () => {
  const path = killed()
  writeBackup(path, 0)
  // As `replace` leaves it before the backup is in place: the log is moved away, its index is not.
  loseLog(path)
  expect(restoreDamaged(path, 1)).not.toBeNull()
  expect(readdirSync(join(path, '..')).sort()).toEqual(['backups', 'bot.db', 'bot.db.damaged-19700101-000000'])
})

test('damage that is found in the middle of work is reported, with the file and what to do', async () => {
  const path = join(newHome(), 'bot.db')
  await databases['bot.db'](path)
  const told: string[] = []
  onDamage(({ failure }) => void told.push(failure.message))
  const store = openStore(path, Date.now)
  harms['its middle']?.(path)
  await expect(store.inbox.list([], 1_000)).rejects.toThrow(/using .*bot\.db: it is damaged/)
  expect(told).toEqual([expect.stringContaining(path)])
  await store.close()
})

test('a home without backups is opened as before', () => {
  const path = join(newHome(), 'registry.db')
  openRegistry(path).close()
  expect(existsSync(backupsFolder(path))).toBe(false)
  new DatabaseSync(path).close()
})
