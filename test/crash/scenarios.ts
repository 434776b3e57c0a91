/** What the matrix kills: an action on a home that is the same each time. */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { attemptOf } from '../../src/domain.ts'
import type { RunnerContext } from '../../src/runner/context.ts'
import { execute } from '../../src/runner/executor.ts'
import { reconcile } from '../../src/runner/reconciler/reconcile.ts'
import type { Action } from '../../src/schema/action.ts'
import type { Outcome } from '../../src/schema/outcome.ts'
import { actions, openContext } from '../support/context.ts'
import { openTestFiller } from '../support/pools.ts'

export const TICKET = 'DROP-1'
const signal = new AbortController().signal
export const perform = (context: RunnerContext, action: Action, actionId: string | null = null): Promise<Outcome> =>
  execute(context, action, { actionId, correlation: null, signal, onPhase: () => {} })

/** `write`: the file that shows which state the machine has. `work`: an untracked file in a repository. */
type Before = readonly (Action | { write: string } | { work: string } | { powerOff: true })[]
/**
 * `action` null: the reconciler does what is needed, or with `fills` the filler. `fromQueue`: nobody gives it as a command. `pool`:
 * as in the settings; it is filled beforehand, unless that is what dies.
 */
export type Scenario = {
  name: string
  before: Before
  action: Action | null
  fromQueue?: true
  pool?: string
  fills?: true
}

const { create, checkpoint, push, restore, stop, start, move, fork } = actions
const made: Before = [create(TICKET), { write: 'one' }]
const kept: Before = [...made, checkpoint(TICKET, 'one'), { write: 'two' }]
const pushes = [1, 2, 3, 4, 5].map(n => push(TICKET, `000000${n}`))
const restart: Action = { ...stop(TICKET), kind: 'restart' }
const drop: Action = { ...stop(TICKET), kind: 'delete-checkpoint', name: 'one' }

const POOL = 'pool: [{image: agent-swarm-base}]\n'

export const scenarios: readonly Scenario[] = [
  { name: 'create', before: [], action: create(TICKET) },
  { name: 'checkpoint', before: made, action: checkpoint(TICKET, 'two') },
  {
    name: 'checkpoint of a push, which removes the oldest',
    before: [...made, ...pushes],
    action: push(TICKET, '0000006'),
    fromQueue: true,
  },
  { name: 'restore', before: kept, action: restore(TICKET, 'one') },
  { name: 'restore of a stopped machine', before: [...kept, stop(TICKET)], action: restore(TICKET, 'one') },
  { name: 'stop', before: made, action: stop(TICKET) },
  { name: 'start', before: [...made, stop(TICKET)], action: start(TICKET) },
  { name: 'restart', before: made, action: restart },
  { name: 'delete', before: kept, action: actions.delete(TICKET) },
  { name: 'delete of a stopped machine', before: [...kept, stop(TICKET)], action: actions.delete(TICKET, true) },
  { name: 'delete-checkpoint', before: kept, action: drop },
  { name: 'move', before: [create('OLD-1'), { write: 'one' }], action: move('OLD-1', TICKET) },
  { name: 'fork', before: made, action: fork(TICKET, 2) },
  { name: 'fork of a checkpoint', before: kept, action: fork(TICKET, 2, 'one') },
  {
    name: 'promote',
    before: [...made, fork(TICKET, 2), { write: 'two' }],
    action: actions.promote(TICKET, 2),
  },
  { name: 'create that takes a ready machine', before: [], action: create(TICKET), pool: POOL },
  { name: 'making a ready machine', before: [], action: null, pool: POOL, fills: true },
  { name: 'reconcile after the host went down', before: [...kept, { powerOff: true }], action: null },
]

/** Whole processes alone have git, which looks for its work and saves it. */
export const deleteWithWork: Scenario = {
  ...{ name: 'delete of a machine with unsaved work', action: actions.delete(TICKET) },
  before: [...made, { work: 'unsaved' }],
}

const rowOf = ({ registry }: RunnerContext) => registry.environments().find(({ ticket }) => attemptOf(ticket) === null)
const machineOf = (context: RunnerContext): string | null => rowOf(context)?.vmId ?? null
const stateFile = (context: RunnerContext): string =>
  join(context.home, 'synthetic', machineOf(context) ?? '', 'disk', 'state')

/** Every machine is off, and no action stopped it. */
export const powerOff = (home: string): void => {
  const marks = join(home, 'synthetic-state')
  for (const name of existsSync(marks) ? readdirSync(marks) : [])
    renameSync(join(marks, name), join(marks, name.replace(/running$/, 'stopped')))
}

/** A home in which all of `before` has been done. */
export const prepare = async ({ before, pool, fills }: Scenario): Promise<string> => {
  const home = mkdtempSync(join(tmpdir(), 'agent-swarm-crash-'))
  if (pool !== undefined) writeFileSync(join(home, 'config.yaml'), pool, { mode: 0o600 })
  const context = await openContext(home, 'in-process')
  try {
    for (const step of before) {
      if ('write' in step) writeFileSync(stateFile(context), step.write)
      else if ('work' in step) {
        const repository = join(stateFile(context), '../shop')
        execFileSync('git', ['init', '-q', repository])
        writeFileSync(join(repository, 'work'), step.work)
      } else if ('powerOff' in step) powerOff(home)
      else {
        const outcome = await perform(context, step)
        if (outcome.result !== 'done') throw new Error(JSON.stringify(outcome))
      }
    }
    if (pool !== undefined && fills === undefined) await openTestFiller(context).fill()
  } finally {
    context.close()
  }
  return home
}

export const copyOf = (home: string): string => {
  const copy = mkdtempSync(`${home}-`)
  cpSync(home, copy, { recursive: true })
  return copy
}
export const remove = (home: string): void => rmSync(home, { recursive: true, force: true })

export const reconcileNow = (context: RunnerContext) => reconcile(context, { dryRun: false, signal })
/** Does what the scenario is about. */
export const act = async (
  context: RunnerContext,
  { action, fills }: Scenario,
  actionId: string | null,
): Promise<Outcome | null> => {
  if (action !== null) return perform(context, action, actionId)
  if (fills === true) {
    await openTestFiller(context).fill()
    return null
  }
  const { failed } = await reconcileNow(context)
  if (failed.length > 0) throw new Error(JSON.stringify(failed))
  return null
}

/** What people see of the ticket. Checkpoints that restores made are told by what is in them, not by their time. */
export const view = (context: RunnerContext) => {
  const row = rowOf(context)
  if (row === undefined) return null
  const attempts = context.registry.attempts(row.ticket).length
  const names = context.registry.checkpoints(row.ticket).map(({ name }) => name)
  const file = stateFile(context)
  return {
    ...{ ticket: row.ticket, status: row.status },
    // A command that somebody gives again makes two more.
    attempts: attempts === 0 ? 'none' : attempts % 2 === 0 ? 'pairs' : 'one is missing',
    state: existsSync(file) ? readFileSync(file, 'utf8') : null,
    checkpoints: names.filter(name => !name.startsWith('pre-restore-')).toSorted(),
    // Each attempt keeps what it finds.
    kept: [
      ...new Set(
        names
          .filter(name => name.startsWith('pre-restore-'))
          .map(name =>
            readFileSync(join(context.home, 'synthetic', row.vmId, 'checkpoints', name, 'disk', 'state'), 'utf8'),
          ),
      ),
    ].toSorted(),
  }
}
