/** The few ways to the tables that every subject is written with. */
import type { Store } from '../../sqlite.ts'

type Cell = string | number | null
/** By the column's name. */
type Cells = Record<string, Cell>

/** A cell that may hold JSON. */
export const json = <T>(cell: string | null | undefined): T | null =>
  typeof cell === 'string' ? (JSON.parse(cell) as T) : null

export type Tables = ReturnType<typeof openTables>

/** `R` of `get` and `all` is a row as the statement gives it. `clock` gives epoch milliseconds. */
export const openTables = ({ db, transaction: together }: Store, clock: () => number) => {
  /** How many rows it changed. */
  const run = (sql: string, ...values: Cell[]): number => Number(db.prepare(sql).run(...values).changes)
  const insert = (table: string, row: Cells, onConflict: string): number => {
    const columns = Object.keys(row)
    return run(
      `insert into ${table} (${columns.join(', ')}) values (${columns.map(() => '?').join(', ')})
       on conflict do ${onConflict}`,
      ...Object.values(row),
    )
  }
  return {
    clock,
    together,
    run,
    get: <R>(sql: string, ...values: Cell[]) => db.prepare(sql).get(...values) as R | undefined,
    all: <R>(sql: string, ...values: Cell[]) => db.prepare(sql).all(...values) as R[],
    /** Adds a row, unless there is one with its key. True when it was added. */
    add: (table: string, row: Cells): boolean => insert(table, row, 'nothing') === 1,
    /** Adds a row, or sets these cells of the one with this key. */
    put: (table: string, key: Cells, cells: Cells): void => {
      const changes = Object.keys(cells).map(column => `${column} = excluded.${column}`)
      insert(table, { ...key, ...cells }, `update set ${changes.join(', ')}`)
    },
  }
}
