/** What SQLite does for each statement that was prepared: which of them would read a whole table. */
import { DatabaseSync } from 'node:sqlite'
import { onTestFinished } from 'vitest'

const prepare = DatabaseSync.prototype.prepare
let recorded = new Set<string>()

/** Records the statements that the code of this folder prepares from now on, without migrations: these read every row, once. */
export const recordStatements = (folder: string): void => {
  const own = new Set<string>()
  recorded = own
  DatabaseSync.prototype.prepare = function (sql, ...more) {
    const { stack = '' } = new Error()
    if (stack.includes(folder) && !stack.includes('at migrate ')) own.add(sql)
    return prepare.call(this, sql, ...more)
  }
}

/** Each recorded statement, with the steps of its plan on this database. */
export const plansOf = (path: string): Map<string, string[]> => {
  const db = new DatabaseSync(path)
  onTestFinished(() => db.close())
  const plans = new Map<string, string[]>()
  for (const sql of recorded) {
    if (!/^\s*(select|insert|update|delete|with)\b/i.test(sql)) continue
    const steps = prepare.call(db, `explain query plan ${sql}`).all()
    plans.set(
      sql,
      steps.map(({ detail }) => String(detail)),
    )
  }
  return plans
}

/** A search for one of few values, or for all but null, reads most of the table. */
const COARSE = /^(?:(?:source|side|kind|state|verdict|person)=\?|(?!rowid)\w+>\?)$/

/** The steps of a plan that read all of something that grows. `bounded`: tables and indexes that hold little, whatever happens. */
export const scansIn = (steps: readonly string[], bounded: readonly string[]): string[] =>
  steps.filter(step => {
    const [, how, rest = ''] = step.match(/^(SCAN|SEARCH) (.+)$/) ?? []
    if (how === undefined || /^(CONSTANT ROW|json_each|sqlite_schema|\(subquery)/.test(rest)) return false
    const [table = ''] = rest.split(' ')
    const index = rest.match(/INDEX (\w+)/)?.[1] ?? ''
    if (bounded.includes(table) || bounded.includes(index)) return false
    const columns = rest.match(/\(([^)]*)\)/)?.[1]
    // `max(seq)` is one step at the end of the table.
    if (how === 'SEARCH' && columns === undefined) return false
    return how === 'SCAN' || (columns ?? '').split(' AND ').every(part => COARSE.test(part))
  })
