/** What the registry's queries are written with: statements of one SQLite file, and the JSON in its cells. */
import type { Requester } from '../schema/action.ts'
import { openDatabase, type Database as SqliteFile } from '../sqlite.ts'
import { migrations } from './migrations.ts'

export type Cell = string | number | bigint | null | Uint8Array
export type Row = Record<string, Cell>

export type Database = SqliteFile & {
  all: <T = Row>(sql: string, ...values: Cell[]) => T[]
  /** The rows as arrays of cells: of a thousand rows, objects take five times as long. */
  arrays: (sql: string, ...values: Cell[]) => Cell[][]
  first: <T = Row>(sql: string, ...values: Cell[]) => T | undefined
  /** Returns the id of the row that was inserted. */
  run: (sql: string, ...values: Cell[]) => number
}

export const openRegistryDatabase = (path: string): Database => {
  const file = openDatabase(path, migrations)
  const { db, noticing } = file
  return {
    ...file,
    all: <T>(sql: string, ...values: Cell[]) => noticing(() => db.prepare(sql).all(...values) as T[]),
    arrays: (sql, ...values) =>
      noticing(() => {
        const statement = db.prepare(sql)
        statement.setReturnArrays(true)
        return statement.all(...values) as unknown as Cell[][]
      }),
    first: <T>(sql: string, ...values: Cell[]) => noticing(() => db.prepare(sql).get(...values) as T | undefined),
    run: (sql, ...values) => noticing(() => Number(db.prepare(sql).run(...values).lastInsertRowid)),
  }
}

export const readJson = <T>(cell: Cell | undefined): T | null => (typeof cell === 'string' ? JSON.parse(cell) : null)

const UNKNOWN_REQUESTER: Requester = { via: 'cli', who: null }
const MAX_REQUESTERS = 1_000
const requesters = new Map<Cell | undefined, Requester>()
/** A thousand rows name few people: each text is parsed once. */
export const readRequester = (cell: Cell | undefined): Requester => {
  const cached = requesters.get(cell)
  if (cached !== undefined) return cached
  const requester = readJson<Requester>(cell) ?? UNKNOWN_REQUESTER
  if (requesters.size < MAX_REQUESTERS) requesters.set(cell, requester)
  return requester
}
