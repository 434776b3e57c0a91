/** The few functions with which the store runs SQL. Statements are prepared once and kept. */
import type { StatementSync } from 'node:sqlite'
import type { Database } from '../../sqlite.ts'

type Cell = string | number | null
/** By the column's name: `seen_at` in SQL is `seenAt` everywhere else. */
export type Cells = Record<string, Cell>

/** Parses a cell that holds JSON. */
export const json = <T>(cell: string | null | undefined): T | null =>
  typeof cell === 'string' ? (JSON.parse(cell) as T) : null

const memberOf = (column: string) => column.replaceAll(/_[a-z]/g, match => match.slice(1).toUpperCase())
const columnOf = (member: string) => member.replaceAll(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
const renamed = (cells: object, nameOf: (name: string) => string) =>
  Object.fromEntries(Object.entries(cells).map(([name, cell]) => [nameOf(name), cell]))

export type Sql = ReturnType<typeof openSql>

/** `clock` gives epoch milliseconds. `R` is a row as the statement returns it. */
export const openSql = ({ db, transaction, noticing }: Database, clock: () => number) => {
  const prepared = new Map<string, StatementSync>()
  const prepare = (sql: string): StatementSync => {
    const known = prepared.get(sql)
    if (known !== undefined) return known
    const statement = db.prepare(sql)
    prepared.set(sql, statement)
    return statement
  }
  /** Returns the number of rows that it changed. */
  const run = (sql: string, ...values: Cell[]): number => noticing(() => Number(prepare(sql).run(...values).changes))
  const insert = (table: string, row: Cells, onConflict: string): number => {
    const columns = Object.keys(row).map(columnOf)
    return run(
      `insert into ${table} (${columns.join(', ')}) values (${columns.map(() => '?').join(', ')})
       on conflict do ${onConflict}`,
      ...Object.values(row),
    )
  }
  return {
    db,
    clock,
    transaction,
    run,
    get: <R>(sql: string, ...values: Cell[]) => {
      const row = noticing(() => prepare(sql).get(...values))
      return row && (renamed(row, memberOf) as R)
    },
    all: <R>(sql: string, ...values: Cell[]) =>
      noticing(() => prepare(sql).all(...values)).map(row => renamed(row, memberOf) as R),
    /** Adds a row unless its key exists. True when it was added. */
    add: (table: string, row: Cells): boolean => insert(table, row, 'nothing') === 1,
    /** Adds a row, or sets these cells of the row with this key. */
    put: (table: string, key: Cells, cells: Cells): void => {
      const changes = Object.keys(cells)
        .map(columnOf)
        .map(column => `${column} = excluded.${column}`)
      insert(table, { ...key, ...cells }, `update set ${changes.join(', ')}`)
    },
  }
}
