/**
 * A process that dies, played in this one: at the n-th step its home is copied as it is then, write-ahead logs included, and life
 * goes on in the copy. No step of the dead one does anything any more: what waits for one waits for ever, what cannot wait fails.
 * It shows what the files say after each step. It does not show writes that the disk had not got, locks that the kernel releases,
 * or what modules of one process remember: the process tests kill (-9) for that.
 */
import { cpSync, existsSync, readdirSync, renameSync, rmSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Provider } from '../../providers/provider.ts'
import { damageOf } from '../../src/damage.ts'
import type { RunnerContext } from '../../src/runner/context.ts'
import { wrapProviders } from '../support/context.ts'
import { asyncStep, type OnPoint, type Point, watchPoints } from './points.ts'

/** No system gives it to a process. */
const NO_PROCESS = 2_147_483_647

/** Calls of the provider and outside commands are steps too. */
export const watchCalls = (context: RunnerContext, on: OnPoint): void => {
  const watch = (provider: Provider): Provider =>
    new Proxy(provider, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name)
        if (typeof member !== 'function') return member
        return (...values: unknown[]) =>
          asyncStep(on, { name: `provider ${String(name)}`, work: () => member.apply(target, values) })
      },
    })
  wrapProviders(context, watch)
  const { run } = context
  context.run = (program, argv, options) =>
    asyncStep(on, { name: `run ${program}`, work: () => run(program, argv, options) }) as ReturnType<typeof run>
}

/** What happens at the n-th step, counted from 0: the process dies, or the step fails once. */
export type Trouble = { at: number; error?: () => Error }
/** `home`: where life goes on. */
type Ended<T> = { points: Point[]; died: Point | null; result: T | null; home: string }

/** `onDeath` is called once, when everything is as the dead process left it. */
const openTrouble = (trouble: Trouble | null, onDeath: () => void) => {
  const points: Point[] = []
  let died: Point | null = null
  /** Half of a step was done: the next point is the end. */
  let half: Point | null = null
  let isOver = false
  const die = (point: Point, isAsync: boolean) => {
    if (died === null) {
      isOver = true
      onDeath()
      isOver = false
      died = point
    }
    if (isAsync) return new Promise<never>(() => {})
    throw new Error('the process died here')
  }
  const on: OnPoint = (point, isAsync) => {
    if (died !== null && !isOver) return die(point, isAsync)
    if (isOver || point.name === '') return undefined
    if (half !== null) return die(half, isAsync)
    const n = points.push(point) - 1
    if (trouble === null || n !== trouble.at) return undefined
    if (trouble.error !== undefined) {
      if (point.when === 'before') throw trouble.error()
      return undefined
    }
    if (point.when !== 'during') return die(point, isAsync)
    half = point
    return 'now'
  }
  return { on, points, died: () => died, end: () => (isOver = true) }
}

/** Makes what the dead process left belong to no process that lives, and old. */
export const bury = (home: string): void => {
  const folders = [home, join(home, 'ssh'), join(home, 'backups'), join(home, 'synthetic-state')]
  for (const folder of folders.filter(each => existsSync(each))) {
    for (const name of readdirSync(folder)) {
      const own = `.${process.pid}.new`
      if (name.includes(own)) renameSync(join(folder, name), join(folder, name.replace(own, `.${NO_PROCESS}.new`)))
      if (name.startsWith('new-')) utimesSync(join(folder, name), new Date(0), new Date(0))
    }
  }
  const path = join(home, 'registry.db')
  // A damaged one has no rows to change.
  if (!existsSync(path) || damageOf(path) !== null) return
  const db = new DatabaseSync(path)
  try {
    const hasTable = db.prepare(`select 1 from sqlite_schema where name = 'waiting'`).get() !== undefined
    if (hasTable) db.prepare('update waiting set pid = ?').run(NO_PROCESS)
  } finally {
    db.close()
  }
}

/** Runs `work` with trouble on its way; without, it records the steps. */
export const runWith = async <T>(
  home: string,
  trouble: Trouble | null,
  work: (on: OnPoint) => Promise<T>,
): Promise<Ended<T>> => {
  const opened = new Set<DatabaseSync>()
  let onDeath = () => {}
  const death = new Promise<void>(resolve => {
    onDeath = resolve
  })
  const copy = `${home}+`
  const { on, points, died, end } = openTrouble(trouble, () => {
    cpSync(home, copy, { recursive: true })
    onDeath()
  })
  const undo = watchPoints(home, on, opened)
  try {
    const result = await Promise.race([work(on), death.then(() => null)])
    if (died() === null) return { points, died: null, result, home }
  } catch (error) {
    if (died() === null) throw error
  } finally {
    // What is under way in other tasks of the dead one comes to its own next step, and no further.
    if (died() !== null) await new Promise(resolve => setImmediate(resolve))
    undo()
    if (died() !== null) for (const db of opened) if (db.isOpen) db.close()
    end()
  }
  rmSync(home, { recursive: true, force: true })
  bury(copy)
  return { points, died: died(), result: null, home: copy }
}
