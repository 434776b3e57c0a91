/**
 * Every step that a process takes on the files of one home, by Node's own modules: each commit of a database, each lock, each
 * change of a file or folder, each outside command. Nothing of the product knows of it.
 */
import childProcess from 'node:child_process'
import fs from 'node:fs'
import fsPromises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { DatabaseSync, StatementSync } from 'node:sqlite'

/** `during`: the step is half done, where a step can be. */
export type When = 'before' | 'during' | 'after'
/** `name`: what is done, without what differs between two runs. */
export type Point = { name: string; when: When }
/** Returns, throws or kills the process; for an asynchronous step it may return a promise that never settles. `now`: do half of it. */
export type OnPoint = (point: Point, isAsync: boolean) => unknown

type Method = (...values: never[]) => unknown
type Members = Record<string, Method>

/** Calls `reach` around a step. `half`: does a part of it; its absence means that there is no part. */
type Step = { name: string; work: () => unknown; half?: (() => void) | undefined }

const syncStep = (on: OnPoint, { name, work, half }: Step): unknown => {
  on({ name, when: 'before' }, false)
  if (half !== undefined && on({ name, when: 'during' }, false) === 'now') {
    half()
    on({ name, when: 'after' }, false)
  }
  const result = work()
  on({ name, when: 'after' }, false)
  return result
}
export const asyncStep = async (on: OnPoint, { name, work, half }: Step): Promise<unknown> => {
  await on({ name, when: 'before' }, true)
  if (half !== undefined && on({ name, when: 'during' }, true) === 'now') {
    half()
    await on({ name, when: 'after' }, true)
  }
  const result = await work()
  await on({ name, when: 'after' }, true)
  return result
}

// ── Files ──

const VARIABLE = [
  [/as-([a-z0-9-]+?)-[0-9a-f]{8}/g, 'as-$1-#'],
  [/\d{8}-\d{6}/g, '<time>'],
  [/\.[0-9a-f]{16}\./g, '.<home>.'],
  [/\.\d+\.new/g, '.<pid>.new'],
  [/new-[A-Za-z0-9]{6}(?=\/|$)/g, 'new-#'],
] as const
const nameOfPath = (home: string, path: string): string =>
  VARIABLE.reduce((text, [from, to]) => text.replaceAll(from, to), path.slice(home.length + 1) || '.')

const WRITES = ['writeFile', 'rename', 'rm', 'mkdir', 'cp', 'copyFile', 'link', 'unlink', 'appendFile']

/** What a killed process may have done of a step: a file of half its length, a folder of which some is copied or removed. */
const halfOf = (operation: string, values: readonly unknown[]): (() => void) | undefined => {
  const [path, second] = values as [string, unknown]
  if (operation === 'writeFile' && typeof path === 'string' && typeof second === 'string')
    return () => original.writeFileSync?.(...([path, second.slice(0, second.length / 2), values[2]] as never[]))
  if (operation === 'cp' && typeof second === 'string')
    return () => original.mkdirSync?.(...([second, { recursive: true }] as never[]))
  if (operation === 'rm' && typeof path === 'string' && fs.existsSync(path) && fs.statSync(path).isDirectory())
    return () => {
      const [first] = fs.readdirSync(path)
      if (first !== undefined) original.rmSync?.(...([join(path, first), { recursive: true, force: true }] as never[]))
    }
  return undefined
}

const original: Members = {}

const patchFiles = (home: string, on: OnPoint): (() => void) => {
  const isHere = (value: unknown): value is string => typeof value === 'string' && value.startsWith(home)
  const patch = (module: Members, method: string, operation: string, step: typeof syncStep | typeof asyncStep) => {
    const real = module[method]
    if (real === undefined) return () => {}
    original[method] ??= real
    module[method] = (...values: unknown[]) => {
      const path = values.find(isHere)
      const work = () => real(...(values as never[]))
      if (path === undefined) return work()
      const name = `${operation} ${nameOfPath(home, path)}`
      return step(on, { name, work, half: halfOf(operation, values) })
    }
    return () => {
      module[method] = real
    }
  }
  const undo = WRITES.flatMap(operation => [
    patch(fs as unknown as Members, `${operation}Sync`, operation, syncStep),
    patch(fsPromises as unknown as Members, operation, operation, asyncStep),
  ])
  return () => {
    for (const each of undo) each()
  }
}

// ── Databases ──

const verbOf = (sql: string): string => sql.trim().split(/\s+/).slice(0, 3).join(' ').toLowerCase()
const WRITING =
  /^\s*(insert|update|delete|replace|vacuum|create|drop|alter|pragma user_version|commit|begin exclusive)/i
/** Statements that a change of a table begins with, and those that only look. */
const isWriting = (sql: string): boolean => WRITING.test(sql)

/** `opened`: the connections, so that whoever plays dead can close them. */
const patchDatabases = (home: string, on: OnPoint, opened: Set<DatabaseSync>): (() => void) => {
  const statements = new WeakMap<object, { db: DatabaseSync; sql: string }>()
  const { exec, prepare } = DatabaseSync.prototype
  const { run, get, all } = StatementSync.prototype
  const placeOf = (db: DatabaseSync): string | null => {
    const path = db.isOpen ? db.location() : null
    if (path === null || !path.startsWith(home)) return null
    opened.add(db)
    return nameOfPath(home, path)
  }
  const step = (db: DatabaseSync, sql: string, work: () => unknown): unknown => {
    const place = placeOf(db)
    if (place === null) return work()
    if (!isWriting(sql)) {
      on({ name: '', when: 'before' }, false)
      return work()
    }
    const inside = db.isTransaction && !/^\s*commit/i.test(sql) ? ', in a transaction' : ''
    return syncStep(on, { name: `${place}: ${verbOf(sql)}${inside}`, work })
  }
  DatabaseSync.prototype.exec = function (sql) {
    return step(this, sql, () => exec.call(this, sql)) as undefined
  }
  DatabaseSync.prototype.prepare = function (sql, ...more) {
    placeOf(this)
    const statement = prepare.call(this, sql, ...more)
    statements.set(statement, { db: this, sql })
    return statement
  }
  const patched = (real: Method) =>
    function (this: StatementSync, ...values: never[]) {
      const made = statements.get(this)
      const work = () => real.apply(this, values)
      return made === undefined ? work() : step(made.db, made.sql, work)
    }
  Object.assign(StatementSync.prototype, {
    run: patched(run as Method),
    get: patched(get as Method),
    all: patched(all as Method),
  })
  return () => {
    Object.assign(DatabaseSync.prototype, { exec, prepare })
    Object.assign(StatementSync.prototype, { run, get, all })
  }
}

// ── Programs ──

const patchPrograms = (on: OnPoint): (() => void) => {
  const { spawn } = childProcess
  childProcess.spawn = ((...values: Parameters<typeof spawn>) => {
    const name = `run ${String(values[0]).split('/').at(-1)}`
    on({ name, when: 'before' }, false)
    const child = spawn(...values)
    on({ name, when: 'during' }, false)
    child.once('exit', () => on({ name, when: 'after' }, false))
    return child
  }) as typeof spawn
  return () => {
    childProcess.spawn = spawn
  }
}

/** Calls `on` for each step until the result is called. A reading statement is a point without a name: no place to stop. */
export const watchPoints = (home: string, on: OnPoint, opened = new Set<DatabaseSync>()): (() => void) => {
  const undo = [patchFiles(home, on), patchDatabases(home, on, opened), patchPrograms(on)]
  syncBuiltinESMExports()
  return () => {
    for (const each of undo) each()
    syncBuiltinESMExports()
  }
}

/** The steps that others see at once, or that need a process: commits, locks, outside commands, and files that get their name. */
export const isAcrossProcesses = ({ name, when }: Point): boolean =>
  when !== 'during' && /^(run|rename|link) |: /.test(name) && !name.endsWith(', in a transaction')
