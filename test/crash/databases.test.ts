/** Migrations, backups and restores of backups die at each of their steps; the next start goes on from what they left. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, test } from 'vitest'
import { listBackups, writeBackup } from '../../src/backups.ts'
import { damageOf } from '../../src/damage.ts'
import { openRegistry } from '../../src/registry/registry.ts'
import { restoreDamaged } from '../../src/restore-backup.ts'
import { openStore } from '../../src/store/sqlite/index.ts'
import { runWith } from './crash.ts'
import { openMatrix } from './rounds.ts'
import { copyOf, remove } from './scenarios.ts'

const START = Date.parse('2026-11-24T10:00:00Z')
const DATABASES = ['bot.db', 'registry.db']

/** A home of the version before. */
const homeBefore = (): string => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-crash-'))
  for (const name of ['bot', 'memory', 'registry']) {
    const db = new DatabaseSync(join(home, `${name}.db`))
    const sql = readFileSync(resolve(import.meta.dirname, `../fixtures/home-before/${name}.sql`), 'utf8')
    db.exec(sql.replaceAll('@HOME@', home))
    db.close()
  }
  return home
}

const openBoth = async (home: string): Promise<void> => {
  await openStore(join(home, 'bot.db'), () => START).close()
  openRegistry(join(home, 'registry.db')).close()
}
/** Everything that the databases hold, but times: some are those of the migration or of the restore. */
const contentOf = (home: string): string =>
  DATABASES.map(name => {
    const db = new DatabaseSync(join(home, name))
    try {
      const tables = db.prepare(`select name from sqlite_schema where type = 'table' and name not like 'sqlite%'`).all()
      return tables
        .map(
          ({ name: table }) =>
            `${table}: ${JSON.stringify(db.prepare(`select * from "${table}" order by 1, 2`).all())}`,
        )
        .toSorted()
        .join('\n')
        .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z|\b1[78]\d{11}\b/g, '<time>')
    } finally {
      db.close()
    }
  }).join('\n')

const unfinishedIn = (home: string): string[] =>
  ['backups', '.'].flatMap(folder =>
    (existsSync(join(home, folder)) ? readdirSync(join(home, folder)) : []).filter(name =>
      /\.new(-journal)?$/.test(name),
    ),
  )
const problemsIn = (home: string, expected: string): string[] => [
  ...DATABASES.flatMap(name => damageOf(join(home, name)) ?? []),
  ...(contentOf(home) === expected ? [] : [`${DATABASES} do not hold what they held`]),
  ...DATABASES.flatMap(name => listBackups(join(home, name), Date.now())).flatMap(({ file }) => damageOf(file) ?? []),
  ...unfinishedIn(home).map(name => `${name} is left`),
]

/** `again`: as the next start does it. */
type Work = {
  name: string
  template: () => Promise<string>
  work: (home: string) => Promise<void>
  again: (home: string) => Promise<void>
}

const migrated = async (): Promise<string> => {
  const home = homeBefore()
  await openBoth(home)
  return home
}
/** A backup, and then half of each file is lost. */
const damagedHome = async (): Promise<string> => {
  const home = await migrated()
  for (const name of DATABASES) {
    const path = join(home, name)
    writeBackup(path, START)
    const bytes = readFileSync(path)
    writeFileSync(path, bytes.subarray(0, bytes.length / 2))
  }
  return home
}
const backUp = async (home: string) => {
  for (const name of DATABASES) writeBackup(join(home, name), Date.now())
}
/** `bot --from-backup`, and the start after it. */
const restoreBoth = async (home: string): Promise<void> => {
  for (const name of DATABASES) restoreDamaged(join(home, name), START)
}
const works: readonly Work[] = [
  {
    name: 'migrations, each after a backup',
    template: async () => homeBefore(),
    work: openBoth,
    again: async home => {
      await openBoth(home)
      await backUp(home)
    },
  },
  { name: 'backups', template: migrated, work: backUp, again: backUp },
  {
    name: 'restores of damaged databases from their backups',
    template: damagedHome,
    work: restoreBoth,
    again: async home => {
      await restoreBoth(home)
      await openBoth(home)
      await backUp(home)
    },
  },
]

test.for(works.map(each => [each.name, each] as const))('%s', async ([name, { template: prepare, work, again }]) => {
  const template = await prepare()
  try {
    const whole = copyOf(template)
    const { points } = await runWith(whole, null, () => work(whole))
    await again(whole)
    expect(points.length).toBeGreaterThan(0)
    const expected = contentOf(whole)
    remove(whole)
    const matrix = openMatrix(name, points)
    for (const { at, sample } of matrix.rounds({ all: 50, some: 1, points: 10 })) {
      let home = copyOf(template)
      try {
        home = (await runWith(home, { at }, () => work(home))).home
        // Half of them die once more on their way back.
        if (sample.next(2) === 0)
          home = (await runWith(home, { at: sample.next(points.length) }, () => again(home))).home
        await again(home)
        matrix.played(at, problemsIn(home, expected))
      } catch (error) {
        matrix.played(at, [`the next start: ${error instanceof Error ? error.message : error}`])
      } finally {
        remove(home)
      }
    }
    expect(matrix.end()).toEqual([])
  } finally {
    remove(template)
  }
})
