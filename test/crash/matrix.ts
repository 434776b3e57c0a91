/** One round of the matrix: a kill at a step, a way on that the seed chooses, and what must hold afterwards. */
import { isDeepStrictEqual } from 'node:util'
import { recoverAll } from '../../src/runner/recovery.ts'
import { actions, openContext } from '../support/context.ts'
import type { Sample } from '../support/samples.ts'
import { runWith, type Trouble, watchCalls } from './crash.ts'
import { problemsOf } from './invariants.ts'
import type { OnPoint, Point } from './points.ts'
import { act, copyOf, perform, reconcileNow, remove, type Scenario, TICKET, view } from './scenarios.ts'

type View = ReturnType<typeof view>
type Context = Awaited<ReturnType<typeof openContext>>
/** What the action makes of the home, when nothing happens to it. */
export type Plan = { scenario: Scenario; template: string; points: Point[]; before: View; after: View }

const within = async <T>(home: string, work: (context: Context) => Promise<T> | T, on: OnPoint | null = null) => {
  const context = await openContext(home, 'in-process')
  if (on !== null) watchCalls(context, on)
  try {
    return await work(context)
  } finally {
    // A dead process closes nothing: the kernel does.
    if (context.registry !== undefined) context.close()
  }
}
/** Returns where it died, and the home in which life goes on. */
const dieIn = (home: string, trouble: Trouble, work: (context: Context) => Promise<unknown>) =>
  runWith(home, trouble, async on => {
    const context = await openContext(home, 'in-process')
    watchCalls(context, on)
    await work(context)
    context.close()
  })

/** Runs the scenario once without trouble. */
export const planOf = async (scenario: Scenario, template: string): Promise<Plan> => {
  const home = copyOf(template)
  try {
    const before = await within(home, view)
    const { points } = await runWith(home, null, async on =>
      within(home, context => act(context, scenario, 'jira:1:0'), on),
    )
    const after = await within(home, view)
    return { scenario, template, points, before, after }
  } finally {
    remove(home)
  }
}

/** How long until the queue has given up, and more. */
const HOUR_AND_MORE = 61 * 60_000

type Way = {
  name: string
  viaQueue: boolean
  expect: 'after' | 'either' | 'absent'
  go: (context: Context, scenario: Scenario) => Promise<unknown>
}
const again = async (context: Context, scenario: Scenario, actionId: string | null) => {
  const outcome = await act(context, scenario, actionId)
  // What a killed command had done already is refused as done: that is an answer, too.
  const isDone =
    outcome?.result === 'failed' &&
    ['already-exists', 'no-such-checkpoint', 'no-such-environment'].includes(outcome.failure.kind)
  if (outcome?.result === 'failed' && (actionId !== null || !isDone))
    throw new Error(`again: ${JSON.stringify(outcome)}`)
  return outcome
}
const ways: readonly Way[] = [
  {
    name: 'the runner starts, and the queue gives the action out twice: its first report is lost',
    viaQueue: true,
    expect: 'after',
    go: async (context, scenario) => {
      await recoverAll(context)
      await again(context, scenario, 'jira:1:0')
      const first = view(context)
      await again(context, scenario, 'jira:1:0')
      if (!isDeepStrictEqual(view(context), first)) throw new Error('the second delivery changed something')
    },
  },
  {
    name: 'the reconciler looks first',
    viaQueue: true,
    expect: 'after',
    go: async (context, scenario) => {
      await recoverAll(context)
      await reconcileNow(context)
      await again(context, scenario, 'jira:1:0')
    },
  },
  {
    name: 'the queue has given up',
    viaQueue: true,
    expect: 'either',
    go: async context => {
      const later = Date.now() + HOUR_AND_MORE
      context.clock = () => new Date(later)
      await recoverAll(context)
    },
  },
  {
    name: 'the command again',
    viaQueue: false,
    expect: 'after',
    go: async (context, scenario) => {
      await recoverAll(context, () => {}, TICKET)
      await again(context, scenario, null)
    },
  },
  {
    name: 'a command on another ticket',
    viaQueue: false,
    expect: 'either',
    go: async context => {
      await recoverAll(context, () => {}, 'OTHER-1')
    },
  },
  {
    name: 'the reconciler',
    viaQueue: false,
    expect: 'either',
    go: async context => {
      await recoverAll(context)
      await reconcileNow(context)
    },
  },
  {
    name: 'a delete by force',
    viaQueue: false,
    expect: 'absent',
    go: async context => {
      await recoverAll(context, () => {}, TICKET)
      await perform(context, actions.delete(TICKET, true))
    },
  },
]

/** A process that was killed beside a runner that goes on leaves its files to the next command. */
const useAgain = async (context: Context): Promise<void> => {
  await recoverAll(context)
  const [row] = context.registry.environments()
  if (row === undefined) return
  // It works: what was half made of it is gone with the next change.
  const outcome = await perform(context, actions.checkpoint(row.ticket, 'last'))
  if (outcome.result !== 'done') throw new Error(`a checkpoint afterwards: ${JSON.stringify(outcome)}`)
}

/** Closes what is left to do, as the runner does every minute. */
const settle = async (context: Context): Promise<void> => {
  for (const _ of [1, 2]) {
    const { failed } = await reconcileNow(context)
    if (failed.length > 0) throw new Error(`reconciling: ${JSON.stringify(failed)}`)
  }
}

/**
 * Of an action that nobody repeats, some steps were taken: the machine may be back and still be off. What a restore replaced is
 * kept, and what exceeds a retention goes with the next checkpoint.
 */
const isBetween = (now: View, before: View, after: View): boolean => {
  if (now === null || before === null || after === null) return false
  const either = (name: 'ticket' | 'status' | 'state' | 'attempts') =>
    now[name] === before[name] || now[name] === after[name]
  const isKept = now.state === before.state || (before.state !== null && now.kept.includes(before.state))
  const names = new Set([...before.checkpoints, ...after.checkpoints])
  const always = before.checkpoints.filter(name => after.checkpoints.includes(name))
  return (
    either('ticket') &&
    either('status') &&
    either('state') &&
    either('attempts') &&
    isKept &&
    now.checkpoints.every(name => names.has(name)) &&
    always.every(name => now.checkpoints.includes(name))
  )
}

const isSame = (plan: Plan, way: Way, now: View): boolean => {
  if (way.expect === 'absent') return now === null || (plan.scenario.name === 'move' && now.ticket === 'OLD-1')
  // What an attempt kept on top is work that is not lost.
  const same = (expected: View) =>
    isDeepStrictEqual(
      now === null ? null : { ...now, kept: [] },
      expected === null ? null : { ...expected, kept: [] },
    ) && (expected?.kept ?? []).every(state => now?.kept.includes(state))
  return same(plan.after) || (way.expect === 'either' && (same(plan.before) || isBetween(now, plan.before, plan.after)))
}

/** Each outcome is reported once: an action of the queue has one outcome. */
const toldTwice = ({ registry }: Context): string[] => {
  const ended = registry
    .operations(TICKET, 100)
    .filter(({ actionId, result }) => actionId !== null && (result === 'done' || result === 'skipped'))
  return ended.length > 1 ? [`the action has ${ended.length} outcomes`] : []
}

/** Returns what is wrong afterwards; empty when nothing is. `at`: the step, counted from 0. */
export const playRound = async (plan: Plan, at: number, { next }: Pick<Sample, 'next'>): Promise<string[]> => {
  const { scenario, template } = plan
  let home = copyOf(template)
  const suited = ways.filter(way =>
    scenario.action === null ? !way.viaQueue && way.expect !== 'absent' : way.viaQueue || scenario.fromQueue !== true,
  )
  const way = suited[next(suited.length)]
  if (way === undefined) throw new Error('there is no way on')
  let story = way.name
  try {
    home = (await dieIn(home, { at }, context => act(context, scenario, way.viaQueue ? 'jira:1:0' : null))).home
    if (next(3) === 0) {
      const second = await dieIn(home, { at: next(20) }, context => way.go(context, scenario))
      home = second.home
      if (second.died !== null) story += `, killed ${second.died.when} ${second.died.name}, and once more`
    }
    return await within(home, async context => {
      await way.go(context, scenario)
      await settle(context)
      const now = view(context)
      const state = isSame(plan, way, now)
        ? []
        : [`it is ${JSON.stringify(now)}; before ${JSON.stringify(plan.before)}, after ${JSON.stringify(plan.after)}`]
      await useAgain(context)
      const problems = [...state, ...(await problemsOf(context)), ...toldTwice(context)]
      return problems.map(problem => `${story}: ${problem}`)
    })
  } catch (error) {
    return [`${story}: ${error instanceof Error ? error.message : error}`]
  } finally {
    remove(home)
  }
}
