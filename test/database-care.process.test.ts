/** What a server does for its databases beside its work, in processes of their own. */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { backupsFolder, listBackups, writeBackup } from '../src/backups.ts'
import { damageOf, onDamage } from '../src/damage.ts'
import { careFor } from '../src/database-care.ts'
import { openRun } from '../src/exec.ts'
import { openDatabase } from '../src/sqlite.ts'
import { harms } from './support/harm.ts'
import { until } from './support/wait.ts'

const AT = Date.parse('2026-11-24T03:00:00Z')
const stage = () => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-care-'))
  onTestFinished(() => rmSync(home, { recursive: true }))
  const lines: { level: number; msg: string }[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) }) as never
  return { path: join(home, 'bot.db'), lines, log }
}
const fill = (path: string, megabytes: number) => {
  const { db } = openDatabase(path, ['create table thing (body text)'])
  const insert = db.prepare('insert into thing values (hex(zeroblob(500000)))')
  for (let n = 0; n < megabytes; n++) insert.run()
  return db
}

test('a backup is made beside the work of others, and the next one when it is due', async () => {
  const { path, lines, log } = stage()
  const db = fill(path, 1)
  // An open transaction: writers and the backup do not wait for each other.
  db.exec(`begin immediate; insert into thing values ('x')`)
  let now = AT
  const care = careFor(path, { clock: () => now, log, firstBackupMs: 0 })
  await until('a backup', () => listBackups(path, Date.now()).length === 1)
  await until('a line of the log', () => lines.some(({ msg }) => msg === `backed up ${path}`))
  care.close()
  now += 1_000
  // Not due.
  careFor(path, { clock: () => now, log, firstBackupMs: 0 }).close()
  now += 24 * 60 * 60_000
  const next = careFor(path, { clock: () => now, log, firstBackupMs: 0 })
  await until('the next backup', () => listBackups(path, Date.now()).length === 2)
  next.close()
  db.exec('commit')
  db.close()
})

test('a backup that cannot be made is told, and nothing else', async () => {
  const { path, lines, log } = stage()
  const db = fill(path, 1)
  writeFileSync(backupsFolder(path), 'no folder')
  const care = careFor(path, { clock: () => AT, log, firstBackupMs: 0 })
  await until('an error', () => lines.some(({ level, msg }) => level === 50 && msg.startsWith('backing up ')))
  db.exec(`insert into thing values ('x')`)
  care.close()
  db.close()
})

test('a large database is looked at beside the start, and its damage is told', async () => {
  const { path, log } = stage()
  fill(path, 20).close()
  const told: string[] = []
  onDamage(({ failure }) => void told.push(failure.message))
  const whole = careFor(path, { clock: () => AT, log })
  await whole.checked
  whole.close()
  expect(told).toEqual([])
  harms['its end']?.(path)
  const care = careFor(path, { clock: () => AT, log })
  await care.checked
  care.close()
  expect(told).toEqual([expect.stringMatching(/bot\.db: it is damaged/)])
})

test('a small one is looked at before anything starts', () => {
  const { path, log } = stage()
  fill(path, 1).close()
  harms['its middle']?.(path)
  expect(() => careFor(path, { clock: () => AT, log })).toThrow(/bot\.db: it is damaged/)
})

test('a second look at a database in use takes no lock away from this process', async () => {
  const { path, log } = stage()
  const db = fill(path, 1)
  db.exec('begin immediate')
  openDatabase(path, ['']).db.close()
  careFor(path, { clock: () => AT, log }).close()
  const other = `new (require('node:sqlite').DatabaseSync)(process.argv[1], { timeout: 0 }).exec('begin immediate')`
  await expect(openRun({})(process.execPath, ['-e', other, path])).rejects.toThrow(/database is locked/)
  db.exec('commit')
  await openRun({})(process.execPath, ['-e', other, path])
  db.close()
})

test.for([
  ['as soon as it has a file', 0],
  ['while it copies', 1],
  ['while it copies on', 8_000_000],
  ['when it is about to be checked', 19_000_000],
] as const)('a backup that is killed (-9) %s counts as none, or is whole', async ([, size]) => {
  const { path } = stage()
  fill(path, 20).close()
  const program = join(import.meta.dirname, '../src/read-database.ts')
  const child = spawn(process.execPath, [program, 'backup', path, String(AT)], { stdio: 'ignore' })
  const ended = new Promise(resolve => child.once('exit', resolve))
  const sizes = () => {
    const folder = backupsFolder(path)
    return existsSync(folder) ? readdirSync(folder).map(name => statSync(join(folder, name)).size) : []
  }
  await until('the copy', () => child.exitCode !== null || sizes().some(bytes => bytes >= size), { every: 1 })
  child.kill('SIGKILL')
  await ended
  for (const { file } of listBackups(path, AT)) expect(damageOf(file)).toBeNull()
  writeBackup(path, AT + 1_000)
  expect(damageOf(listBackups(path, AT + 1_000)[0]?.file ?? '')).toBeNull()
  expect(readdirSync(backupsFolder(path)).filter(name => !name.endsWith('.db'))).toEqual([])
})
