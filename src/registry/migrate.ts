/** Versioned migrations of a SQLite file: each is run once, all in one transaction, and a newer file is refused. */
import type { DatabaseSync } from 'node:sqlite'
import { fail } from '../errors.ts'

export const migrate = (db: DatabaseSync, path: string, migrations: readonly string[]): void => {
  const version = () => Number(db.prepare('pragma user_version').get()?.user_version ?? 0)
  const refuseNewer = () => {
    if (version() <= migrations.length) return
    throw fail(
      'newer-schema',
      `opening ${path}: it was written by a newer agent-swarm (schema ${version()}, this one knows ${migrations.length})`,
      'Install that version again, or a later one. Nothing was changed.',
    )
  }
  refuseNewer()
  if (version() === migrations.length) return
  db.exec('begin immediate')
  try {
    // Another process may have migrated it while this one waited for the lock.
    refuseNewer()
    for (const sql of migrations.slice(version())) db.exec(sql)
    db.exec(`pragma user_version = ${migrations.length}`)
    db.exec('commit')
  } catch (error) {
    db.exec('rollback')
    throw error
  }
}
