/** What the commands that change an environment have in common: do it as the runner would, tell how it goes, say how it ended. */
import { userInfo } from 'node:os'
import type { Ticket } from '../domain.ts'
import type { RunnerContext } from '../runner/context.ts'
import { effectiveKind, execute, WAITING_PHASE } from '../runner/executor.ts'
import type { Plan } from '../runner/plan.ts'
import { recoverAll } from '../runner/recovery.ts'
import type { Action } from '../schema/action.ts'
import type { Environment } from '../schema/environment.ts'
import type { Outcome } from '../schema/outcome.ts'
import { type Invocation, print, printFailure, printJson } from './terminal/output.ts'
import { openProgress, type ProgressView, UNDOING } from './terminal/progress.ts'
import { withRunnerContext } from './with-context.ts'

/** They print alike. */
export type Changing = 'create' | 'checkpoint' | 'restore' | 'start' | 'stop' | 'delete'
/** An action without what every command of the CLI fills in the same way. */
type Wish =
  Exclude<Action, { kind: 'status' }> extends infer One
    ? One extends Action
      ? Omit<One, 'by' | 'replyTo'>
      : never
    : never

const who = (): string | null => {
  try {
    return userInfo().username
  } catch {
    // A user id without a name.
    return null
  }
}

const asAction = (wish: Wish) => ({ ...wish, by: { via: 'cli', who: who() }, replyTo: null }) as Action

/** The command that was typed. */
const called = ({ kind }: Wish): string => (kind === 'delete-checkpoint' ? 'checkpoint --delete' : kind)

const sentence = (text: string) => (/[.?]$/.test(text) ? text : `${text}.`)

/** Who asked for a ticket that has nothing may have mistyped it. */
const withHint = async (ticket: Ticket, outcome: Outcome): Promise<Outcome> => {
  if (outcome.result === 'done' || outcome.environment !== null) return outcome
  const { nearestTicket, withNearestTicket } = await import('./known.ts')
  if (outcome.result === 'failed') return { ...outcome, failure: await withNearestTicket(outcome.failure, ticket) }
  const near = await nearestTicket(ticket)
  return near === null ? outcome : { ...outcome, reason: `${outcome.reason}. Did you mean ${near}?` }
}

const sshLine = (environment: Environment | null): string[] =>
  environment === null || environment.status !== 'running' ? [] : [`Enter it: agent-swarm ssh ${environment.ticket}`]

const ONCE_MORE = 'Ctrl-C once more leaves it as it is, for the next start to settle.'
/** What Ctrl-C does to what is under way. How it then ended is in the outcome. */
const whenInterrupted: Readonly<Record<Wish['kind'], string>> = {
  create: `what was begun is being undone. ${ONCE_MORE}`,
  checkpoint: `what was begun is being undone. ${ONCE_MORE}`,
  start: 'letting go of it. The machine may still come up.',
  stop: 'letting go of it. The machine may still shut down.',
  restore: 'letting go of it. The hypervisor may still finish it.',
  'delete-checkpoint': 'letting go of it. The hypervisor may still finish it.',
  delete: 'letting go of it. Nothing is deleted.',
}

/** Does it here and now, under the ticket's lock, and shows its phases. */
export const perform = async (
  world: RunnerContext,
  { signal }: Invocation,
  wish: Wish,
  progress: ProgressView,
): Promise<Outcome> => {
  for (const { ticket, failure } of await recoverAll(world)) {
    // Of its own ticket the command itself tells.
    if (ticket !== wish.ticket)
      progress.note(`Not recovered yet${ticket === null ? '' : ` (${ticket})`}: ${sentence(failure.message)}`)
  }
  let phase: string | null = null
  const interrupted = () => {
    const row = world.registry.environment(wish.ticket)
    const says =
      phase === WAITING_PHASE
        ? 'nothing was begun.'
        : row?.status === 'deleting'
          ? `the delete was decided, and is being finished. ${ONCE_MORE}`
          : whenInterrupted[effectiveKind(wish.kind, row)]
    progress.note(`Interrupted: ${says}`)
  }
  signal.addEventListener('abort', interrupted, { once: true })
  try {
    const outcome = await execute(world, asAction(wish), {
      actionId: null,
      correlation: null,
      signal,
      onPhase: reached => {
        phase = reached
        progress.phase(reached)
      },
    })
    progress.end(outcome.result !== 'failed' || (phase === UNDOING && outcome.environment === null))
    return outcome
  } finally {
    signal.removeEventListener('abort', interrupted)
  }
}

const tellPlan = ({ json, quiet }: Invocation, wish: Wish, planned: Plan): void => {
  const { ticket } = wish
  if ('skipped' in planned) {
    if (json) printJson<Changing>({ ticket, result: 'skipped', because: planned.skipped })
    else print(`Nothing to do: ${sentence(planned.skipped)}`)
  } else if (json) printJson<Changing>({ ticket, result: 'planned', would: planned.would })
  else if (!quiet)
    print(
      [`${called(wish)} of ${ticket} would`, ...planned.would.map(step => `  - ${step}`), 'Nothing was changed.'].join(
        '\n',
      ),
    )
}

/** What can be seen to fail, or to be nothing, is told now and not in the background. */
const ahead = (invocation: Invocation, wish: Wish): Promise<number> =>
  withRunnerContext(invocation, async world => {
    const { planAction } = await import('../runner/plan.ts')
    const planned = await planAction(world, asAction(wish))
    if (invocation.flags['dry-run'] === true || 'skipped' in planned) tellPlan(invocation, wish, planned)
    else await (await import('./detach.ts')).detach(invocation, world, wish)
    return 0
  })

export const change = async (invocation: Invocation, wish: Wish): Promise<number> => {
  const { json, quiet, flags } = invocation
  if (flags['dry-run'] === true || flags.detach === true) return ahead(invocation, wish)
  const progress = openProgress({ quiet })
  return withRunnerContext(
    invocation,
    async world => {
      const outcome = await withHint(wish.ticket, await perform(world, invocation, wish, progress))
      if (json) printJson<Changing>({ ticket: wish.ticket, ...outcome })
      if (outcome.result === 'failed') {
        printFailure(called(wish), outcome.failure)
        return 1
      }
      if (!json && !quiet) {
        const said = outcome.result === 'done' ? `${outcome.summary} (${outcome.seconds} s)` : outcome.reason
        const more = wish.kind === 'create' || wish.kind === 'start' ? sshLine(outcome.environment) : []
        print([sentence(said), ...more].join('\n'))
      }
      return 0
    },
    progress.note,
  )
}
