/** Whether the journal of a ticket is a legal serial history: no two operations overlap, and each begins where the one before ended. */
import type { EnvironmentStatus } from '../../src/schema/environment.ts'
import type { OperationRow } from '../../src/schema/operation.ts'

type State = 'absent' | 'running' | 'stopped'
/** Null: an operation that failed or was interrupted may have left either. */
type Known = State | null

const states: readonly State[] = ['absent', 'running', 'stopped']
const exists: readonly State[] = ['running', 'stopped']
type Rule = { from: readonly State[]; to: (from: Known) => Known }
const to = (state: State) => () => state
const same = (from: Known) => from

/** What each result says of the machine before and after. */
const RULES: Readonly<Record<string, Rule>> = {
  'create done': { from: ['absent', 'stopped'], to: to('running') },
  'create skipped': { from: ['running'], to: to('running') },
  'start done': { from: ['stopped'], to: to('running') },
  'start skipped': { from: ['running'], to: to('running') },
  'restart done': { from: exists, to: to('running') },
  'stop done': { from: ['running'], to: to('stopped') },
  'stop skipped': { from: ['stopped'], to: to('stopped') },
  'checkpoint done': { from: exists, to: same },
  'restore done': { from: exists, to: () => null },
  'delete done': { from: exists, to: to('absent') },
  'delete skipped': { from: ['absent'], to: to('absent') },
}
const NO_MACHINE: Rule = { from: ['absent'], to: to('absent') }
const UNKNOWN: Rule = { from: states, to: () => null }

/** Somebody's later command by hand: nothing was looked at. */
const isOvertaken = ({ outcome }: OperationRow): boolean =>
  outcome?.result === 'skipped' && outcome.reason.includes('by hand after that')

/** A command by hand made a machine without a project, and a ticket's move brings the project into it. */
const isProjectBrought = ({ kind, outcome }: OperationRow): boolean =>
  kind === 'create' && outcome?.result === 'done' && /already has a machine: .* is in ~/.test(outcome.summary)

const ruleOf = (operation: OperationRow): Rule => {
  const { kind, result, outcome } = operation
  if (isOvertaken(operation)) return { from: states, to: same }
  if (isProjectBrought(operation)) return { from: exists, to: to('running') }
  if (outcome?.result === 'failed' && outcome.failure.kind === 'no-such-environment') return NO_MACHINE
  if (outcome?.result === 'failed' && ['already-exists', 'no-such-checkpoint'].includes(outcome.failure.kind))
    return { from: exists, to: same }
  return RULES[`${kind} ${result}`] ?? UNKNOWN
}

const describe = ({ id, kind, result, by }: OperationRow) => `operation ${id}, ${kind} by ${by.via}: ${result}`

/** `operations`: oldest first. What an interrupted one left is ended by the next one, which has begun by then. */
export const overlaps = (operations: readonly OperationRow[]): string[] =>
  operations.flatMap((operation, n) => {
    const next = operations[n + 1]
    if (operation.endedAt === null) return [`${describe(operation)} is open`]
    const isOverlap = next !== undefined && operation.result !== 'interrupted' && operation.endedAt > next.startedAt
    return isOverlap ? [`${describe(operation)} ended after ${describe(next)} had begun`] : []
  })

/** `final`: the status of the environment now; null without one. */
export const illegalities = (operations: readonly OperationRow[], final: EnvironmentStatus | null): string[] => {
  let state: Known = 'absent'
  const problems: string[] = []
  for (const operation of operations) {
    const { from, to: after } = ruleOf(operation)
    if (state !== null && !from.includes(state)) problems.push(`${describe(operation)}, of a machine that was ${state}`)
    state = after(state ?? (from.length === 1 ? (from[0] ?? null) : null))
  }
  if (state !== null && state !== (final ?? 'absent'))
    problems.push(`it is ${final}, and the journal ends with ${state}`)
  return [...overlaps(operations), ...problems]
}
